using System.Globalization;
using FastDraft.Core.Runs;
using FastDraft.Server;

namespace FastDraft.Cli.Terminal;

/// <summary>Writes what a stage said as lines for people: the figures of one optimizer step are one line.</summary>
internal sealed class LogText(bool withStage)
{
    private readonly List<string> _figures = [];
    private long _step = -1;
    private string _prefix = string.Empty;

    public static string? StageOf(RunEvent e) => e switch
    {
        StageLog l => l.ActivityId,
        StageProgress p => p.ActivityId,
        StageMetric m => m.ActivityId,
        StageChanged c => c.ActivityId,
        _ => null,
    };

    public void Write(RunEvent e)
    {
        var prefix = e.At.ToString("HH:mm:ss", CultureInfo.InvariantCulture) + "  " + (withStage && StageOf(e) is { } stage ? stage + "  " : string.Empty);
        if (e is StageMetric m)
        {
            if (m.Step != _step)
            {
                Flush();
                (_step, _prefix) = (m.Step, prefix);
            }

            _figures.Add(m.Name switch
            {
                "tokens_per_second" => Figures.Count(m.Value) + " tok/s",
                _ => string.Create(CultureInfo.InvariantCulture, $"{m.Name} {m.Value:G4}"),
            });
            return;
        }

        Flush();
        var text = e switch
        {
            StageProgress p => string.Create(CultureInfo.InvariantCulture, $"{p.Done:N0}") + (p.Total is { } total ? string.Create(CultureInfo.InvariantCulture, $"/{total:N0}") : string.Empty) + " " + p.Unit,
            StageLog l => (l.Level == "Information" ? string.Empty : l.Level.ToLowerInvariant() + ": ") + l.Message,
            StageChanged { Failure: not null } c => $"{StateMark.Of(c.State).Word}: {c.Failure}" + (c.Hint is null ? string.Empty : $"  try: {c.Hint}"),
            StageChanged c when c.State is not (StageRunState.Pending or StageRunState.Queued) => StateMark.Of(c.State).Word,
            RunFinished f => $"run {StateMark.Of(f.State).Word}",
            LineWritten w => w.Text,
            _ => null,
        };
        if (text is not null)
        {
            Console.Out.WriteLine(prefix + text);
        }
    }

    /// <summary>Writes the figures that wait for more of the same step.</summary>
    public void Flush()
    {
        if (_figures.Count > 0)
        {
            Console.Out.WriteLine(_prefix + (_step > 0 ? string.Create(CultureInfo.InvariantCulture, $"step {_step:N0}  ") : string.Empty) + string.Join("  ", _figures));
            _figures.Clear();
        }

        _step = -1;
    }
}
