using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Hands answers to the runs that wait for them: timers that are due by database time, events, decisions of people, ended children. The
/// row is deleted in the transaction that applies its answer, so of several hosts one does it, and a kill loses and doubles nothing.
/// </summary>
internal sealed class WaitRunner(PipelineStore store, RunEngine engine)
{
    private static readonly TimeSpan Tick = TimeSpan.FromSeconds(2);

    /// <returns>How long nothing is due, two seconds at most.</returns>
    public async Task<TimeSpan> AnswerDueAsync(Func<Guid, bool> isMine, CancellationToken ct)
    {
        await using var db = store.Open();
        var waits = await (from w in db.Waits.AsNoTracking()
                           join r in db.Runs on w.RunId equals r.Id
                           where w.DueAt != null && (r.State == RunState.Running || r.State == RunState.Cancelling)
                           orderby w.DueAt, w.Id
                           select new { Wait = w, In = w.DueAt!.Value - PipelineDbContext.DatabaseNow() }).Take(1000).ToListAsync(ct);
        foreach (var wait in waits.Where(w => w.In <= 0 && isMine(w.Wait.RunId)).Select(w => w.Wait))
        {
            try
            {
                await engine.CommitAsync(
                    wait.RunId, Event(wait), async (open, _) => await open.Waits.Where(w => w.Id == wait.Id).ExecuteDeleteAsync(ct) == 1, ct);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                // One bad row must not keep the others waiting.
                Trace.TraceError(e.ToString());
            }
        }

        var next = waits.Where(w => w.In > 0).Select(w => w.In).DefaultIfEmpty((long)Tick.TotalMilliseconds).Min();
        return TimeSpan.FromMilliseconds(Math.Clamp(next, 10, Tick.TotalMilliseconds));
    }

    private static WorkflowEvent Event(WaitRow wait)
    {
        var payload = wait.PayloadJson is null ? null : JsonNode.Parse(wait.PayloadJson);
        return wait.Kind switch
        {
            WaitKind.Timer => new TimerFired(wait.ActivityInstanceId),
            WaitKind.Event => new EventReceived(wait.ActivityInstanceId, payload),
            WaitKind.Gate => new GateDecided(wait.ActivityInstanceId, (bool)payload!["approved"]!, (string?)payload["by"] ?? "", (string?)payload["reason"]),
            WaitKind.Child when payload!["hindrance"] is { } hindrance => new ChildNotStarted(wait.ActivityInstanceId, (string)hindrance!),
            WaitKind.Child => new ChildEnded(
                wait.ActivityInstanceId, Enum.Parse<WorkflowStatus>((string)payload!["status"]!), payload["outputs"]!.DeepClone().AsObject()),
            _ => throw new UnreachableException(),
        };
    }
}
