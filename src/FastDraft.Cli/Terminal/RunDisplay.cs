using System.Globalization;
using FastDraft.Core.Runs;
using FastDraft.Server;
using Spectre.Console;

namespace FastDraft.Cli.Terminal;

/// <summary>Follows a run: a stage list that redraws in place on a terminal, one line an event where output is piped.</summary>
internal sealed class RunDisplay(string title, IReadOnlyList<string> activities, TimeProvider clock)
{
    private readonly long _started = clock.GetTimestamp();
    private readonly Dictionary<string, Row> _rows = activities.ToDictionary(a => a, _ => new Row(), StringComparer.Ordinal);

    public async Task<RunFinished?> FollowAsync(IAsyncEnumerable<RunEvent> events, CancellationToken cancellationToken)
    {
        if (Console.IsOutputRedirected || Console.IsErrorRedirected)
        {
            return await FollowLinesAsync(events, cancellationToken);
        }

        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        RunFinished? finished = null;
        await console.Live(Render()).StartAsync(async live =>
        {
            await foreach (var e in events.WithCancellation(cancellationToken))
            {
                Apply(e);
                finished = e as RunFinished ?? finished;
                live.UpdateTarget(Render());
            }
        });
        return finished;
    }

    private static async Task<RunFinished?> FollowLinesAsync(IAsyncEnumerable<RunEvent> events, CancellationToken cancellationToken)
    {
        await foreach (var e in events.WithCancellation(cancellationToken))
        {
            var line = e switch
            {
                StageChanged c => $"{c.ActivityId}  {Word(c.State)}" + (c.CachedFromRunId is { } run ? $"  from {run}" : string.Empty) + (c.Attempt > 1 ? $"  attempt {c.Attempt}" : string.Empty)
                    + (c.Failure is null ? string.Empty : $"  {c.Failure}" + (c.Hint is null ? string.Empty : $"  try: {c.Hint}")),
                StageProgress p => $"{p.ActivityId}  {Progress(p)}",
                StageMetric m => string.Create(CultureInfo.InvariantCulture, $"{m.ActivityId}  {m.Name} {m.Value:G6} at {m.Step}"),
                StageLog l => $"{l.ActivityId}  {l.Message}",
                LineWritten w => w.Text,
                _ => null,
            };
            if (line is not null)
            {
                await Console.Error.WriteLineAsync(line);
            }

            if (e is RunFinished finished)
            {
                return finished;
            }
        }

        return null;
    }

    private static string Word(StageRunState state) => state.ToString().ToLowerInvariant();

    private static string Progress(StageProgress p) => p.Total is > 0
        ? string.Create(CultureInfo.InvariantCulture, $"{p.Done:N0}/{p.Total:N0} {p.Unit}  {100.0 * p.Done / p.Total.Value:F0} %")
        : string.Create(CultureInfo.InvariantCulture, $"{p.Done:N0} {p.Unit}");

    private void Apply(RunEvent e)
    {
        switch (e)
        {
            case StageChanged c:
                var row = RowOf(c.ActivityId);
                row.Started = c.State == StageRunState.Running ? c.At : row.Started;
                row.Ended = RunStateMachine.IsTerminal(c.State) ? c.At : null;
                row.State = c.State;
                row.Detail = c.Failure ?? (c.CachedFromRunId is { } run ? $"from {run.ToString()[..8]}" : row.Detail);
                break;
            case StageProgress p:
                var progressed = RowOf(p.ActivityId);
                progressed.Progress = p;
                progressed.ProgressAt = p.At;
                break;
            case StageMetric m:
                RowOf(m.ActivityId).Metrics[m.Name] = m.Value;
                break;
            case StageLog l:
                RowOf(l.ActivityId).Detail = l.Message;
                break;
            default:
                break;
        }
    }

    private Row RowOf(string activity)
    {
        if (!_rows.TryGetValue(activity, out var row))
        {
            _rows[activity] = row = new Row();
        }

        return row;
    }

    private Table Render()
    {
        var table = new Table().NoBorder().HideHeaders().AddColumns(string.Empty, string.Empty, string.Empty, string.Empty, string.Empty);
        table.Title = new TableTitle(Markup.Escape($"{title}   {Duration(clock.GetElapsedTime(_started))} elapsed"));
        foreach (var (activity, row) in _rows)
        {
            var (shape, colour) = row.State switch
            {
                StageRunState.Succeeded => ("✓", "green"),
                StageRunState.Cached => ("⚡", "green"),
                StageRunState.Running => ("●", "blue"),
                StageRunState.Failed or StageRunState.Crashed => ("✗", "red"),
                StageRunState.Cancelled or StageRunState.Cancelling or StageRunState.Skipped => ("–", "yellow"),
                _ => ("○", "grey"),
            };
            var elapsed = row.Started is { } started ? Duration((row.Ended ?? clock.GetUtcNow()) - started) : string.Empty;
            table.AddRow(
                new Markup($"[{colour}]{shape}[/]"), new Text(activity), new Markup($"[{colour}]{Word(row.State)}[/]"), new Text(elapsed).RightJustified(), new Text(Detail(row)).Overflow(Overflow.Ellipsis));
        }

        return table;
    }

    private static string Detail(Row row)
    {
        if (row.State != StageRunState.Running)
        {
            return row.Detail ?? string.Empty;
        }

        var parts = new List<string>();
        if (row.Progress is { } progress)
        {
            parts.Add(Progress(progress));
        }

        foreach (var (name, format, unit) in new[] { ("tokens_per_second", "N0", " tok/s"), ("loss", "F3", string.Empty), ("acceptance", "F3", string.Empty) })
        {
            if (row.Metrics.TryGetValue(name, out var value))
            {
                parts.Add((unit.Length == 0 ? name + " " : string.Empty) + value.ToString(format, CultureInfo.InvariantCulture) + unit);
            }
        }

        if (row is { Progress: { Total: > 0, Done: > 0 } p, Started: { } started, ProgressAt: { } at })
        {
            parts.Add(Duration((at - started) * ((p.Total.Value - p.Done) / (double)p.Done)) + " left");
        }

        return parts.Count == 0 ? row.Detail ?? string.Empty : string.Join("  ", parts);
    }

    private static string Duration(TimeSpan span) => string.Create(CultureInfo.InvariantCulture, $"{(int)span.TotalMinutes}:{span.Seconds:D2}");

    private sealed class Row
    {
        public StageRunState State { get; set; } = StageRunState.Pending;

        public DateTimeOffset? Started { get; set; }

        public DateTimeOffset? Ended { get; set; }

        public StageProgress? Progress { get; set; }

        public DateTimeOffset? ProgressAt { get; set; }

        public string? Detail { get; set; }

        public Dictionary<string, double> Metrics { get; } = new(StringComparer.Ordinal);
    }
}
