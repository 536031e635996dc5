using System.Globalization;
using FastDraft.Core.Runs;

namespace FastDraft.Server;

/// <summary>A line for people. <paramref name="Level"/> is that of a message, in lower case; null for everything else.</summary>
public sealed record LogLine(DateTimeOffset At, string? ActivityId, string Text, string? Level = null);

/// <summary>Makes what stages say into lines for people: the figures of one optimizer step are one line.</summary>
public sealed class LogLines
{
    private readonly List<string> figures = [];
    private StageMetric? first;

    /// <summary>The lines that are complete with this event.</summary>
    public IEnumerable<LogLine> Add(RunEvent e)
    {
        if (e is StageMetric m)
        {
            foreach (var line in first is null || first.Step == m.Step ? [] : Flush())
            {
                yield return line;
            }

            first ??= m;
            figures.Add(m.Name == "tokens_per_second" ? Figures.Count(m.Value) + " tok/s" : string.Create(CultureInfo.InvariantCulture, $"{m.Name} {m.Value:G4}"));
            yield break;
        }

        foreach (var line in Flush())
        {
            yield return line;
        }

        if (LineOf(e) is { } own)
        {
            yield return own;
        }
    }

    /// <summary>The figures that waited for more of the same step.</summary>
    public IEnumerable<LogLine> Flush()
    {
        if (first is { } m)
        {
            var text = (m.Step > 0 ? string.Create(CultureInfo.InvariantCulture, $"step {m.Step:N0}  ") : string.Empty) + string.Join("  ", figures);
            figures.Clear();
            first = null;
            yield return new LogLine(m.At, m.ActivityId, text);
        }
    }

    private static LogLine? LineOf(RunEvent e) => e switch
    {
        StageProgress p => new(p.At, p.ActivityId, string.Create(CultureInfo.InvariantCulture, $"{p.Done:N0}") + (p.Total is { } total ? string.Create(CultureInfo.InvariantCulture, $"/{total:N0}") : string.Empty) + " " + p.Unit),
        StageLog l => new(l.At, l.ActivityId, l.Message, l.Level.ToLowerInvariant()),
        StageChanged { Failure: not null } c => new(c.At, c.ActivityId, $"{Word(c.State)}: {c.Failure}" + (c.Hint is null ? string.Empty : $"  try: {c.Hint}")),
        StageChanged c when c.State is not (StageRunState.Pending or StageRunState.Queued) => new(c.At, c.ActivityId, Word(c.State)),
        RunFinished f => new(f.At, null, $"run {f.State.ToString().ToLowerInvariant()}"),
        LineWritten w => new(w.At, null, w.Text),
        _ => null,
    };

    private static string Word(StageRunState state) => state.ToString().ToLowerInvariant();
}
