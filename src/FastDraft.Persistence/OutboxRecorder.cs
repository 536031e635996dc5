using System.Text.Json;
using FastDraft.Core.Runs;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;

namespace FastDraft.Persistence;

/// <summary>
/// Adds an outbox event for every change that receivers are told of, whoever makes it, to the save that writes the change: there is no
/// moment at which one is committed and the other not. It sees what is saved as entities; no code may move the states of runs, stage runs
/// and attempts by a bulk update alone.
/// </summary>
internal static class OutboxRecorder
{
    public static async Task RecordAsync(PipelineDbContext db, CancellationToken ct)
    {
        var events = new List<OutboxEventRow>();
        foreach (var entry in db.ChangeTracker.Entries())
        {
            if (await EventAsync(db, entry, ct) is { } told)
            {
                events.Add(told);
            }
        }

        if (events.Count == 0)
        {
            return;
        }

        var projections = await db.Projections.AsNoTracking().Select(p => p.Name).ToListAsync(ct);
        foreach (var told in events.Where(_ => projections.Count > 0))
        {
            told.Deliveries.AddRange(projections.Select(p => new OutboxDeliveryRow { Projection = p, Stream = Stream(told) }));
            db.OutboxEvents.Add(told);
        }
    }

    private static async Task<OutboxEventRow?> EventAsync(PipelineDbContext db, EntityEntry entry, CancellationToken ct)
    {
        switch (entry.Entity)
        {
            case RunRow run when IsMoved(entry):
                return run.State == RunState.Running ? Event(OutboxEventKind.RunBegun, null, run.Id)
                    : RunStateMachine.IsTerminal(run.State) ? Event(OutboxEventKind.RunEnded, run.EndedAt, run.Id) : null;
            case AttemptRow attempt when entry.State == EntityState.Added:
                var runId = await db.StageRuns.Where(s => s.Id == attempt.StageRunId).Select(s => s.RunId).SingleAsync(ct);
                return Event(OutboxEventKind.StageStarted, attempt.StartedAt, runId, attempt.StageRunId, attempt.Id);
            case StageRunRow stage when IsMoved(entry):
                var was = (StageRunState)entry.Property(nameof(StageRunRow.State)).OriginalValue!;
                return stage.State == StageRunState.Cached ? Event(OutboxEventKind.StageCached, stage.EndedAt, stage.RunId, stage.Id)
                    : RunStateMachine.IsTerminal(stage.State) ? Event(OutboxEventKind.StageEnded, stage.EndedAt, stage.RunId, stage.Id)
                    : stage.State == StageRunState.Queued && was != StageRunState.Pending ? Event(OutboxEventKind.StageRetried, null, stage.RunId, stage.Id, LastAttempt(db, stage.Id))
                    : null;
            case DraftRow draft when entry.State == EntityState.Added:
                return Event(OutboxEventKind.DraftRegistered, draft.CreatedAt, draft.RunId, data: new OutboxDraft(draft.Name, draft.Version, draft.TargetDigest));
            case DraftAliasMoveRow move when entry.State == EntityState.Added:
                return Event(
                    OutboxEventKind.AliasMoved, move.At, move.RunId,
                    data: new OutboxDraft(move.Name, move.ToVersion, move.TargetDigest, move.Alias, move.FromVersion, move.Who, move.Why));
            default:
                return null;
        }
    }

    private static bool IsMoved(EntityEntry entry)
    {
        var state = entry.Property(nameof(RunRow.State));
        return entry.State == EntityState.Modified && state.IsModified && !Equals(state.OriginalValue, state.CurrentValue);
    }

    private static OutboxEventRow Event(string kind, long? at, Guid? run, Guid? stageRun = null, Guid? attempt = null, OutboxDraft? data = null) => new()
    {
        Kind = kind, At = at ?? TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds(), RunId = run, StageRunId = stageRun, AttemptId = attempt,
        DataJson = data is null ? null : JsonSerializer.Serialize(data),
    };

    /// <summary>The attempt that ends in the same save; none where its host died before it had one.</summary>
    private static Guid? LastAttempt(PipelineDbContext db, Guid stageRun) =>
        db.ChangeTracker.Entries<AttemptRow>().SingleOrDefault(a => a.State == EntityState.Modified && a.Entity.StageRunId == stageRun)?.Entity.Id;

    private static string Stream(OutboxEventRow told) =>
        told.Kind is OutboxEventKind.DraftRegistered or OutboxEventKind.AliasMoved ? "draft:" + JsonSerializer.Deserialize<OutboxDraft>(told.DataJson!)!.Name : "run:" + told.RunId;
}
