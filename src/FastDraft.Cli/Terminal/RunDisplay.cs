using FastDraft.Core.Runs;
using FastDraft.Server;

namespace FastDraft.Cli.Terminal;

/// <summary>Follows a run on stderr: a stage list that redraws in place on a terminal, one line an event where output is piped.</summary>
internal sealed class RunDisplay(string title, string footer, IReadOnlyList<string> activities, TimeProvider clock)
{
    private static readonly TimeSpan Redraw = TimeSpan.FromMilliseconds(500);

    private readonly DateTimeOffset _began = clock.GetUtcNow();
    private readonly List<string> _order = [.. activities];
    private readonly Dictionary<string, StageLine> _stages = activities.ToDictionary(a => a, _ => new StageLine(), StringComparer.Ordinal);
    private readonly Dictionary<string, GateOpened> _gates = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (DateTimeOffset At, double Fraction)> _said = new(StringComparer.Ordinal);

    public async Task<RunFinished?> FollowAsync(IAsyncEnumerable<RunEvent> events, CancellationToken cancellationToken) =>
        Screen.IsInteractive ? await FollowScreenAsync(events, cancellationToken) : await FollowLinesAsync(events, cancellationToken);

    private async Task<RunFinished?> FollowScreenAsync(IAsyncEnumerable<RunEvent> events, CancellationToken cancellationToken)
    {
        using var screen = new Screen();
        await using var enumerator = events.GetAsyncEnumerator(cancellationToken);
        var drawn = DateTimeOffset.MinValue;
        for (var next = enumerator.MoveNextAsync().AsTask(); ;)
        {
            // Time passes on the screen although nothing happens; many events at once are one frame.
            await Task.WhenAny(next, Task.Delay(Redraw, clock, CancellationToken.None));
            RunFinished? finished = null;
            if (next.IsCompleted)
            {
                if (!await next)
                {
                    screen.Write(Frame());
                    return null;
                }

                Apply(enumerator.Current);
                finished = enumerator.Current as RunFinished;
                next = finished is null ? enumerator.MoveNextAsync().AsTask() : next;
            }

            if (finished is not null || clock.GetUtcNow() - drawn >= Redraw || next.IsCompleted is false)
            {
                drawn = clock.GetUtcNow();
                screen.Write(finished is null ? Frame() : Frame()[..^2]);
            }

            if (finished is not null)
            {
                return finished;
            }
        }
    }

    private async Task<RunFinished?> FollowLinesAsync(IAsyncEnumerable<RunEvent> events, CancellationToken cancellationToken)
    {
        await foreach (var e in events.WithCancellation(cancellationToken))
        {
            var before = e is StageChanged c && _stages.TryGetValue(c.ActivityId, out var known) ? (known.State, known.Attempt) : default;
            Apply(e);
            if (e is StageChanged { State: var state, Attempt: var attempt } && state == before.State && attempt == Math.Max(1, before.Attempt))
            {
                // The start of a stage and of its first attempt are one event.
                continue;
            }

            if (Line(e) is { } line)
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

    private string? Line(RunEvent e)
    {
        switch (e)
        {
            case StageChanged { State: StageRunState.Pending or StageRunState.Queued }:
                return null;
            case StageChanged c:
                var stage = _stages[c.ActivityId];
                var took = RunStateMachine.IsTerminal(c.State) && c.State != StageRunState.Cached ? "  " + stage.Elapsed(c.At) : string.Empty;
                var detail = stage.Detail(c.At, 100);
                return $"{c.ActivityId}  {StateMark.Of(c.State).Word}{took}" + (detail.Length == 0 || c.State == StageRunState.Running ? string.Empty : "  " + detail);
            case StageProgress p when IsDue(p):
                return $"{p.ActivityId}  {_stages[p.ActivityId].Detail(p.At, 100)}";
            case StageLog l:
                return $"{l.ActivityId}  {(l.Level == "Information" ? string.Empty : l.Level.ToLowerInvariant() + ": ")}{l.Message}";
            case LineWritten w:
                return w.Text;
            case GateOpened g:
                return $"{g.ActivityId}  waits for a person: {g.Title}\n  {Answering(g)}";
            case GateAnswered a:
                return $"{a.ActivityId}  {(a.Approved ? "approved" : "rejected")} by {a.By}" + (a.Reason is null ? string.Empty : $": {a.Reason}");
            default:
                return null;
        }
    }

    /// <summary>A stage speaks after ten percent, or after ten seconds and later ever less often: a day is some hundred lines.</summary>
    private bool IsDue(StageProgress p)
    {
        var stage = _stages[p.ActivityId];
        var started = stage.Started ?? p.At;
        var (at, fraction) = _said.GetValueOrDefault(p.ActivityId, (started, 0));
        var silence = TimeSpan.FromSeconds(Math.Max(10, (p.At - started).TotalSeconds / 20));
        if (p.At - at < silence && ((stage.Fraction ?? 0) - fraction < .1 || p.At - at < TimeSpan.FromSeconds(2)))
        {
            return false;
        }

        _said[p.ActivityId] = (p.At, stage.Fraction ?? 0);
        return true;
    }

    private static string Answering(GateOpened gate) => $"in another terminal: fastdraft gates approve {gate.Reference} --reason WHY, or reject";

    private void Apply(RunEvent e)
    {
        switch (e)
        {
            case GateOpened opened:
                _gates[opened.Reference] = opened;
                break;
            case GateAnswered answered:
                _gates.Remove(answered.Reference);
                break;
        }

        var activity = e switch { StageChanged c => c.ActivityId, StageProgress p => p.ActivityId, StageMetric m => m.ActivityId, _ => null };
        if (activity is null)
        {
            return;
        }

        if (!_stages.TryGetValue(activity, out var stage))
        {
            _order.Add(activity);
            _stages[activity] = stage = new StageLine();
        }

        stage.Apply(e);
    }

    private List<string> Frame()
    {
        var (width, height) = Screen.Size;
        var now = clock.GetUtcNow();
        var nameWidth = Math.Min(24, _order.Select(a => a.Length).DefaultIfEmpty(0).Max());
        var elapsed = Figures.Duration(now - _began) + " elapsed";
        var head = Screen.Cut(title, Math.Max(0, width - elapsed.Length - 4));
        List<string> lines = [$"{head}{new string(' ', Math.Max(2, width - 2 - head.Length - elapsed.Length))}{elapsed}", string.Empty];

        // Where the list is longer than the screen, what has ended gives way, then what is last.
        var room = Math.Max(1, height - 6 - (3 * _gates.Count));
        var firstOpen = _order.FindIndex(a => !RunStateMachine.IsTerminal(_stages[a].State));
        var hidden = Math.Min(Math.Max(0, _order.Count - room), firstOpen < 0 ? _order.Count : firstOpen);
        foreach (var activity in _order.Skip(hidden).Take(room))
        {
            var stage = _stages[activity];
            var mark = StateMark.Of(stage.State);
            var left = $"  {Screen.Paint(mark.Cell, mark.Color)} {activity.PadRight(nameWidth)}  {Screen.Paint(mark.Word.PadRight(10), mark.Color)} {stage.Elapsed(now),7}  ";
            lines.Add(left + stage.Detail(now, width - nameWidth - 27));
        }

        foreach (var gate in _gates.Values)
        {
            lines.AddRange([string.Empty, "  " + Screen.Cut($"waits for a person: {gate.Title}", width - 2), "  " + Screen.Cut(Answering(gate), width - 2)]);
        }

        var more = _order.Count - Math.Min(room, _order.Count - hidden);
        return [.. lines, string.Empty, "  " + footer + (more > 0 ? $"   ({more} stages not shown)" : string.Empty)];
    }
}
