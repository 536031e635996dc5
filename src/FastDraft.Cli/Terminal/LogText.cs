using System.Globalization;
using FastDraft.Server;

namespace FastDraft.Cli.Terminal;

/// <summary>Writes what a stage said as lines for people.</summary>
internal sealed class LogText(bool withStage)
{
    private readonly LogLines _lines = new();

    public static string? StageOf(RunEvent e) => e switch
    {
        StageLog l => l.ActivityId,
        StageProgress p => p.ActivityId,
        StageMetric m => m.ActivityId,
        StageChanged c => c.ActivityId,
        _ => null,
    };

    public void Write(RunEvent e) => Write(_lines.Add(e));

    /// <summary>Writes the figures that wait for more of the same step.</summary>
    public void Flush() => Write(_lines.Flush());

    private void Write(IEnumerable<LogLine> lines)
    {
        foreach (var line in lines)
        {
            Console.Out.WriteLine(
                line.At.ToString("HH:mm:ss", CultureInfo.InvariantCulture) + "  " + (withStage && line.ActivityId is { } stage ? stage + "  " : string.Empty)
                + (line.Level is null or "information" ? string.Empty : line.Level + ": ") + line.Text);
        }
    }
}
