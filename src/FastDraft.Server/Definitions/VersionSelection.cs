using System.Globalization;

namespace FastDraft.Server.Definitions;

/// <summary>Which versions of a definition are meant, in the words of Elsa's API: a name, a number, or nothing for all.</summary>
public sealed record VersionSelection(string Word, int? Number = null)
{
    public static VersionSelection All { get; } = new("AllVersions");

    public static VersionSelection Latest { get; } = new("Latest");

    public static VersionSelection Published { get; } = new("Published");

    public static VersionSelection Exactly(int version) => new("Number", version);

    /// <summary>Null where the text is none of the words and no number.</summary>
    public static VersionSelection? Parse(string? text) => text?.Trim() switch
    {
        null or "" => All,
        var number when int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var version) => Exactly(version),
        var word => ((VersionSelection[])[All, Latest, Published, new("Draft"), new("LatestOrPublished"), new("LatestAndPublished")])
            .FirstOrDefault(s => s.Word.Equals(word, StringComparison.OrdinalIgnoreCase)),
    };

    public bool Includes(int version, bool isLatest, bool isPublished) => Word switch
    {
        "Latest" => isLatest,
        "Published" => isPublished,
        "Draft" => !isPublished,
        "LatestOrPublished" or "LatestAndPublished" => isLatest || isPublished,
        "Number" => version == Number,
        _ => true,
    };
}
