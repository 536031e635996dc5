using System.Globalization;
using FastDraft.Core.Runs;
using FastDraft.Server;

namespace FastDraft.Cli.Terminal;

/// <summary>What has been seen of one stage of a run, and the figures to show of it.</summary>
internal sealed class StageLine
{
    private readonly Dictionary<string, double> _metrics = new(StringComparer.Ordinal);
    private StageProgress? _progress;
    private string? _message;

    public StageRunState State { get; private set; } = StageRunState.Pending;

    public int Attempt { get; private set; }

    public DateTimeOffset? Started { get; private set; }

    public DateTimeOffset? Ended { get; private set; }

    public double? Fraction => _progress is { Total: > 0 } p ? (double)p.Done / p.Total.Value : null;

    public void Apply(RunEvent e)
    {
        switch (e)
        {
            case StageChanged c:
                Started = c.State == StageRunState.Running ? Started ?? c.At : Started;
                Ended = RunStateMachine.IsTerminal(c.State) ? c.At : null;
                (State, Attempt) = (c.State, c.Attempt);
                _message = c.Failure ?? (c.CachedFromRunId is { } run ? $"from {Figures.Short(run)}" : c.Attempt > 1 ? $"attempt {c.Attempt}" : null);
                break;
            case StageProgress p:
                _progress = p;
                break;
            case StageMetric m:
                _metrics[m.Name] = m.Value;
                break;
        }
    }

    public string Elapsed(DateTimeOffset now) => Started is { } started ? Figures.Duration((Ended ?? now) - started) : string.Empty;

    /// <summary>As many figures as fit in so many cells, the telling ones first to stay.</summary>
    public string Detail(DateTimeOffset now, int width)
    {
        if (State is not (StageRunState.Running or StageRunState.Succeeded) || (_message is not null && _progress is null))
        {
            return _message ?? string.Empty;
        }

        var running = State == StageRunState.Running;
        List<(int Rank, string Text)> parts = [];
        if (_progress is { } p)
        {
            var count = running && p.Total is { } total ? $"{p.Done.ToString("N0", CultureInfo.InvariantCulture)}/{total.ToString("N0", CultureInfo.InvariantCulture)}" : p.Done.ToString("N0", CultureInfo.InvariantCulture);
            parts.Add((running ? 4 : 1, $"{count} {p.Unit}"));
        }

        if (running && Fraction is { } done)
        {
            parts.Add((0, done.ToString("0 %", CultureInfo.InvariantCulture)));
        }

        Metric("synthetic_tokens", 5, v => Figures.Count(v) + " tokens");
        Metric("tokens_per_second", 5, v => Figures.Count(v) + " tok/s");
        Metric("loss", 2, v => "loss " + v.ToString("F3", CultureInfo.InvariantCulture));
        Metric("acceptance", 3, v => "acceptance " + v.ToString("F3", CultureInfo.InvariantCulture));
        if (running && Fraction is > 0 and < 1 && Started is { } started && now - started > TimeSpan.FromSeconds(5))
        {
            parts.Add((1, Figures.Left((now - started) * ((1 - Fraction.Value) / Fraction.Value))));
        }

        while (parts.Count > 1 && string.Join("  ", parts.Select(x => x.Text)).Length > width)
        {
            parts.Remove(parts.MaxBy(x => x.Rank));
        }

        return string.Join("  ", parts.Select(x => x.Text));

        void Metric(string name, int rank, Func<double, string> show)
        {
            if (_metrics.TryGetValue(name, out var value))
            {
                parts.Add((rank, show(value)));
            }
        }
    }
}
