using System.Globalization;
using System.Text;
using FastDraft.Persistence;

namespace FastDraft.Server.Runs;

/// <summary>
/// How far somebody has read in a run: the last line of the workflow, and of each attempt the last chunk of its log and the last metric
/// point. As text it is the id of an event, which a browser that was cut off gives back.
/// </summary>
internal sealed class RunPosition
{
    /// <summary>More attempts than that are not named: then those that began before the first named one have been read.</summary>
    private const int MaxNamed = 200;

    private const int NameLength = 12;

    private readonly Dictionary<string, AttemptHead> read = new(StringComparer.Ordinal);

    public long Line { get; set; }

    public AttemptHead? this[Guid attempt]
    {
        get => read.TryGetValue(Name(attempt), out var head) ? head : null;
        set => read[Name(attempt)] = value!.Value;
    }

    /// <summary>Null: the text is no position.</summary>
    public static RunPosition? Parse(string? text)
    {
        var position = new RunPosition();
        if (text?.Split(';') is not [var line, .. var attempts] || !long.TryParse(line, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            return null;
        }

        position.Line = number;
        foreach (var attempt in attempts)
        {
            if (attempt.Split('.') is not [{ Length: NameLength } name, var chunk, var metric]
                || !int.TryParse(chunk, NumberStyles.None, CultureInfo.InvariantCulture, out var lastChunk)
                || !long.TryParse(metric, NumberStyles.None, CultureInfo.InvariantCulture, out var lastMetric))
            {
                return null;
            }

            position.read[name] = new AttemptHead(lastChunk, lastMetric);
        }

        return position;
    }

    /// <summary>Of attempts that a position does not name, those that were over before what it names began are read.</summary>
    /// <param name="attempts">Of the run, in the order in which they began.</param>
    public void Complete(IReadOnlyList<AttemptView> attempts, Func<Guid, AttemptHead> headOf)
    {
        var firstNamed = read.Count < MaxNamed ? 0 : attempts.TakeWhile(a => !read.ContainsKey(Name(a.Id))).Count();
        foreach (var attempt in attempts.Take(firstNamed))
        {
            read[Name(attempt.Id)] = headOf(attempt.Id);
        }
    }

    public string ToText(IReadOnlyList<AttemptView> attempts)
    {
        var text = new StringBuilder().Append(CultureInfo.InvariantCulture, $"{Line}");
        foreach (var attempt in attempts.Where(a => read.ContainsKey(Name(a.Id))).TakeLast(MaxNamed))
        {
            var head = read[Name(attempt.Id)];
            text.Append(CultureInfo.InvariantCulture, $";{Name(attempt.Id)}.{head.Chunk}.{head.Metric}");
        }

        return text.ToString();
    }

    // The random end of a UUIDv7 tells the attempts of a run apart.
    private static string Name(Guid attempt) => attempt.ToString("N")[^NameLength..];
}
