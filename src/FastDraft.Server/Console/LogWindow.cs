using FastDraft.Persistence;

namespace FastDraft.Server.ConsolePages;

/// <summary>
/// The newest lines of one attempt's log. It holds at most <see cref="MaxLines"/>, so a worker that writes without end fills neither the
/// service's memory nor the page.
/// </summary>
public sealed class LogWindow(PipelineQueries queries, string activityId, Guid attempt)
{
    public const int MaxLines = 1000;

    private const int MaxChars = 256 << 10;
    private const int MaxLineChars = 2000;

    private readonly LinkedList<(long Number, LogLine Line)> lines = [];
    private readonly LogLines words = new();
    private int last = -1;
    private long written;

    public Guid Attempt => attempt;

    /// <summary>Numbered by when they came, the newest first.</summary>
    public IEnumerable<(long Number, LogLine Line)> Newest => lines;

    public int Count => lines.Count;

    /// <summary>Lines that came before the first one here.</summary>
    public bool HasEarlier { get; private set; }

    /// <summary>What the attempt said last of how far it is.</summary>
    public StageProgress? Progress { get; private set; }

    /// <returns>Whether anything came.</returns>
    public async Task<bool> ReadAsync(bool hasEnded, CancellationToken ct)
    {
        var before = written;
        IReadOnlyList<string> raw;
        if (last < 0)
        {
            (raw, last, var isWhole) = await queries.LogTailAsync(attempt, MaxChars, ct);
            HasEarlier = !isWhole;
        }
        else
        {
            (raw, last) = await queries.LogAsync(attempt, last, ct);
        }

        foreach (var text in raw)
        {
            if (PipelineStore.ParseLine(activityId, text) is { } e)
            {
                Progress = e as StageProgress ?? Progress;
                Add(words.Add(e));
            }
        }

        if (hasEnded)
        {
            Add(words.Flush());
        }

        return written != before;
    }

    private void Add(IEnumerable<LogLine> more)
    {
        foreach (var line in more)
        {
            lines.AddFirst((++written, line.Text.Length <= MaxLineChars ? line : line with { Text = line.Text[..MaxLineChars] + " [cut]" }));
            if (lines.Count > MaxLines)
            {
                lines.RemoveLast();
                HasEarlier = true;
            }
        }
    }
}
