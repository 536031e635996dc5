using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Hands answers to the runs that wait for them: timers that are due, events, decisions of people, ended children. The
/// row is deleted in the transaction that applies its answer, so of several hosts one does it, and a kill loses and doubles nothing.
/// </summary>
internal sealed class WaitRunner(PipelineStore store, RunEngine engine, TimeProvider clock)
{
    private static readonly TimeSpan Tick = TimeSpan.FromSeconds(2);

    /// <param name="onlyRuns">The runs of this host; null: all.</param>
    /// <returns>How long nothing is due, two seconds at most.</returns>
    public async Task<TimeSpan> AnswerDueAsync(IReadOnlyCollection<Guid>? onlyRuns, CancellationToken ct)
    {
        await using var db = store.Open();
        var runs = db.Runs.Where(r => r.State == RunState.Running || r.State == RunState.Cancelling);
        if (onlyRuns is not null)
        {
            runs = runs.Where(r => onlyRuns.Contains(r.Id));
        }

        var waits = await (from w in db.Waits.AsNoTracking() join r in runs on w.RunId equals r.Id where w.DueAt != null orderby w.DueAt, w.Id select w)
            .Take(1000).ToListAsync(ct);
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        foreach (var wait in waits.TakeWhile(w => w.DueAt <= now))
        {
            try
            {
                await engine.CommitAsync(
                    wait.RunId, () => Event(wait), async (open, _) => await open.Waits.Where(w => w.Id == wait.Id).ExecuteDeleteAsync(ct) == 1, ct);
                Failpoint.Reach(Failpoint.Answered);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                // One bad row must not keep the others waiting.
                Trace.TraceError(e.ToString());
            }
        }

        // What was answered may have led to more that is due.
        var quiet = waits.Count == 0 ? Tick : waits[0].DueAt <= now ? TimeSpan.Zero : TimeSpan.FromMilliseconds(waits[0].DueAt!.Value - now);
        return quiet < Tick ? quiet : Tick;
    }

    private static WorkflowEvent Event(WaitRow wait)
    {
        var payload = wait.PayloadJson is null ? null : JsonNode.Parse(wait.PayloadJson);
        return wait.Kind switch
        {
            WaitKind.Timer => new TimerFired(wait.ActivityInstanceId),
            WaitKind.Event => new EventReceived(wait.ActivityInstanceId, payload),
            WaitKind.Gate => new GateDecided(wait.ActivityInstanceId, (bool)payload!["approved"]!, (string?)payload["by"] ?? "", (string?)payload["reason"]),
            WaitKind.Child when payload is null => new ChildStarted(wait.ActivityInstanceId),
            WaitKind.Child when payload["hindrance"] is { } hindrance => new ChildNotStarted(wait.ActivityInstanceId, (string)hindrance!),
            WaitKind.Child => new ChildEnded(
                wait.ActivityInstanceId, Enum.Parse<WorkflowStatus>((string)payload!["status"]!), payload["outputs"]!.DeepClone().AsObject()),
            _ => throw new UnreachableException(),
        };
    }
}
