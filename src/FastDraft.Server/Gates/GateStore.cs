using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Gates;

/// <summary>A gate that waits, or what was decided. <paramref name="Reference"/> names it: the run and the activity instance.</summary>
public sealed record GateView(
    string Reference, Guid RunId, string Workflow, string ActivityId, string Title, string? Instructions, DateTimeOffset OpenedAt,
    bool? Approved, string? DecidedBy, DateTimeOffset? DecidedAt, string? Reason);

/// <summary>
/// The gates of a data folder. The first answer to a gate is the only one: it is a row whose key is the gate, written in the transaction
/// that makes the run's wait due. A kill after that loses nothing, for whichever host lives finds the wait due.
/// </summary>
public sealed class GateStore(PipelineStore store, TimeProvider clock)
{
    /// <summary>Open gates, the oldest first; with <paramref name="decided"/> the decided ones instead, the newest first.</summary>
    public async Task<IReadOnlyList<GateView>> ListAsync(bool decided, int limit, CancellationToken ct)
    {
        await using var db = store.Open();
        return decided
            ? [.. (await Decided(db).OrderByDescending(g => g.Decision.DecidedAt).Take(limit).ToListAsync(ct)).Select(g => View(g.Decision, g.Workflow))]
            : [.. (await Open(db).OrderBy(g => g.Wait.CreatedAt).Take(limit).ToListAsync(ct)).Select(g => View(g.Wait, g.Workflow))];
    }

    /// <summary>The open and the decided gates of a run, in the order they opened.</summary>
    public async Task<IReadOnlyList<GateView>> OfRunAsync(Guid runId, CancellationToken ct)
    {
        await using var db = store.Open();
        var open = (await Open(db).Where(g => g.Wait.RunId == runId).ToListAsync(ct)).Select(g => View(g.Wait, g.Workflow));
        var decided = (await Decided(db).Where(g => g.Decision.RunId == runId).ToListAsync(ct)).Select(g => View(g.Decision, g.Workflow));
        return [.. open.Concat(decided).OrderBy(g => g.OpenedAt)];
    }

    /// <summary>
    /// The gate that a text names: <c>RUN</c> or <c>RUN/ACTIVITY</c>, the run by id, unique prefix or <c>latest</c>. A run with one gate
    /// needs no activity.
    /// </summary>
    /// <exception cref="StageFailureException">None or several fit.</exception>
    /// <exception cref="AmbiguousReferenceException">Several runs fit.</exception>
    public async Task<GateView> FindAsync(string reference, CancellationToken ct)
    {
        var slash = reference.IndexOf('/', StringComparison.Ordinal);
        var (runText, activity) = slash < 0 ? (reference, null) : (reference[..slash], reference[(slash + 1)..]);
        var run = await store.Queries.FindRunAsync(runText, ct)
            ?? throw new StageFailureException(FailureKind.Config, $"There is no run '{runText}'.", "fastdraft gates list");
        var all = await OfRunAsync(run.Id, ct);
        var open = all.Where(g => g.Approved is null).ToList();
        var fitting = activity is not null ? all.Where(g => activity == g.ActivityId || g.Reference.EndsWith("/" + activity, StringComparison.Ordinal)).ToList()
            : open.Count > 0 ? open : [.. all];
        return fitting.Count switch
        {
            1 => fitting[0],
            0 => throw new StageFailureException(
                FailureKind.Config,
                RunStateMachine.IsTerminal(run.State) ? $"Run {run.Id} has ended ({run.State}): it waits for nobody." : $"Run {run.Id} has no open gate{(activity is null ? "" : $" '{activity}'")}.",
                "fastdraft gates list"),
            _ => throw new StageFailureException(FailureKind.Config, $"Run {run.Id} has {fitting.Count} gates.", "one of " + string.Join(", ", fitting.Select(g => g.Reference))),
        };
    }

    /// <summary>Answers a gate. The same answer again changes nothing and is no error.</summary>
    /// <returns>The decision that holds, and whether it was made by this call.</returns>
    /// <exception cref="StageFailureException">The gate was answered otherwise before, or its run no longer waits.</exception>
    public async Task<(GateView Gate, bool IsNew)> DecideAsync(Guid runId, string activityInstanceId, bool approved, string by, string? reason, CancellationToken ct)
    {
        (GateView Gate, bool IsNew)? answer = null;
        await store.Database.TransactAsync(
            async db =>
            {
                answer = await DecideAsync(db, runId, activityInstanceId, approved, by, reason, ct);
                return answer.Value.IsNew;
            },
            ct);
        return answer!.Value;
    }

    private async Task<(GateView Gate, bool IsNew)> DecideAsync(
        PipelineDbContext db, Guid runId, string activityInstanceId, bool approved, string by, string? reason, CancellationToken ct)
    {
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        var run = await db.Runs.AsNoTracking().SingleOrDefaultAsync(r => r.Id == runId, ct)
            ?? throw new StageFailureException(FailureKind.Config, $"There is no run {runId}.", "fastdraft gates list");
        if (await db.GateDecisions.AsNoTracking().SingleOrDefaultAsync(g => g.RunId == runId && g.ActivityInstanceId == activityInstanceId, ct) is { } earlier)
        {
            return earlier.Approved == approved
                ? (View(earlier, run.WorkflowName), false)
                : throw new StageFailureException(
                    FailureKind.Config,
                    $"'{earlier.Title}' was {(earlier.Approved ? "approved" : "rejected")} already, by {earlier.DecidedBy}{(earlier.Reason is null ? "" : $": {earlier.Reason}")}. The first answer holds.",
                    "fastdraft gates list --decided");
        }

        var wait = await db.Waits.SingleOrDefaultAsync(w => w.RunId == runId && w.ActivityInstanceId == activityInstanceId && w.Kind == WaitKind.Gate, ct);
        if (wait is null || RunStateMachine.IsTerminal(run.State) || run.State == RunState.Cancelling)
        {
            throw new StageFailureException(FailureKind.Config, $"Run {runId} does not wait at '{activityInstanceId}': it is {run.State}.", "fastdraft gates list");
        }

        (wait.DueAt, wait.PayloadJson) = (now, new JsonObject { ["approved"] = approved, ["by"] = by, ["reason"] = reason }.ToJsonString());
        var decision = new GateDecisionRow
        {
            RunId = runId, ActivityInstanceId = activityInstanceId, ActivityId = wait.ActivityId, Title = wait.Title ?? wait.ActivityId, Instructions = wait.Instructions,
            OpenedAt = wait.CreatedAt, Approved = approved, DecidedAt = now, DecidedBy = by, Reason = reason,
        };
        db.GateDecisions.Add(decision);
        db.Remember(new AuditEntry(
            approved ? AuditAction.GateApproved : AuditAction.GateRejected, $"{runId}/{activityInstanceId}", Details: new JsonObject { ["by"] = by, ["reason"] = reason }));
        return (View(decision, run.WorkflowName), true);
    }

    private static IQueryable<OpenGate> Open(PipelineDbContext db) =>
        from w in db.Waits.AsNoTracking()
        join r in db.Runs on w.RunId equals r.Id
        where w.Kind == WaitKind.Gate && w.DueAt == null && r.State == RunState.Running
        select new OpenGate { Wait = w, Workflow = r.WorkflowName };

    private static IQueryable<DecidedGate> Decided(PipelineDbContext db) =>
        from g in db.GateDecisions.AsNoTracking() join r in db.Runs on g.RunId equals r.Id select new DecidedGate { Decision = g, Workflow = r.WorkflowName };

    private static GateView View(WaitRow w, string workflow) => new(
        $"{w.RunId}/{w.ActivityInstanceId}", w.RunId, workflow, w.ActivityId, w.Title ?? w.ActivityId, w.Instructions, Time(w.CreatedAt), null, null, null, null);

    private static GateView View(GateDecisionRow g, string workflow) => new(
        $"{g.RunId}/{g.ActivityInstanceId}", g.RunId, workflow, g.ActivityId, g.Title, g.Instructions, Time(g.OpenedAt), g.Approved, g.DecidedBy, Time(g.DecidedAt), g.Reason);

    private static DateTimeOffset Time(long milliseconds) => DateTimeOffset.FromUnixTimeMilliseconds(milliseconds);

    private sealed class OpenGate
    {
        public required WaitRow Wait { get; init; }

        public required string Workflow { get; init; }
    }

    private sealed class DecidedGate
    {
        public required GateDecisionRow Decision { get; init; }

        public required string Workflow { get; init; }
    }
}
