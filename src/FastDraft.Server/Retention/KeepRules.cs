using System.Globalization;

namespace FastDraft.Server.Retention;

/// <summary>
/// Which runs keep their artifacts. A run that any rule keeps is kept; without a rule all are. Unfinished runs, pinned artifacts, and
/// registered drafts with whatever they were made from are kept always.
/// </summary>
/// <param name="LastRuns">The newest so many runs of each workflow.</param>
/// <param name="Newer">Runs that began less than so long ago.</param>
public sealed record KeepRules(int? LastRuns = null, TimeSpan? Newer = null)
{
    public static TimeSpan DefaultGrace { get; } = TimeSpan.FromHours(24);

    public bool KeepAll => LastRuns is null && Newer is null;

    /// <summary>As a person reads why an artifact went.</summary>
    public override string ToString() => KeepAll ? "every run is kept" : "kept are " + string.Join(" and ", new[]
    {
        LastRuns is { } last ? string.Create(CultureInfo.InvariantCulture, $"the last {last} runs of each workflow") : null,
        Newer is { } newer ? string.Create(CultureInfo.InvariantCulture, $"runs of the last {newer.TotalDays:0.##} days") : null,
    }.OfType<string>());
}
