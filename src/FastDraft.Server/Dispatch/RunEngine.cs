using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// The only writer of runs: a change of the tables, the interpreter's answer to it and the effects of that answer are one
/// transaction, so a kill leaves either none of them or all.
/// </summary>
internal sealed class RunEngine(PipelineOptions options, PipelineStore store) : IDisposable
{
    private readonly SemaphoreSlim engine = new(1);

    private long Now => options.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    public void Dispose() => engine.Dispose();

    public async Task SubmitAsync(
        Guid id, WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs, bool bypassCache, CancellationToken ct)
    {
        await using var db = store.Open();
        await AddAsync(db, id, definition, inputs, bypassCache, ct);
        await db.SaveChangesAsync(ct);
    }

    /// <summary>Adds a run and the effects of its start to a transaction of the caller's.</summary>
    public async Task AddAsync(
        PipelineDbContext db, Guid id, WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs, bool bypassCache, CancellationToken ct)
    {
        var run = new RunRow
        {
            Id = id, WorkflowName = definition.Name, DefinitionId = definition.DefinitionId, DefinitionVersion = definition.Version, DefinitionJson = definition.ToJson(), DefinitionDigest = definition.Digest.ToString(),
            InputsJson = JsonSerializer.Serialize(inputs), State = RunState.Running, BypassCache = bypassCache, CreatedAt = Now,
        };
        db.Runs.Add(run);
        await ApplyAsync(db, run, Interpreter.Start(definition, options.Stages, inputs), ct);
    }

    /// <summary>One transaction: the change, the interpreter's answer to the event, and the effects of that answer.</summary>
    public async Task<bool> CommitAsync(Guid runId, WorkflowEvent? happened, Func<PipelineDbContext, RunRow, Task<bool>> change, CancellationToken ct)
    {
        await engine.WaitAsync(ct);
        try
        {
            await using var db = store.Open();
            // Opened as a writer at once: a reader that upgrades could meet a busy database.
            await using var transaction = await db.Database.BeginTransactionAsync(System.Data.IsolationLevel.Serializable, ct);
            var run = await db.Runs.SingleAsync(r => r.Id == runId, ct);
            if (!await change(db, run))
            {
                return false;
            }

            await db.SaveChangesAsync(ct);
            if (happened is CancelRequested && run.State == RunState.Running)
            {
                run.State = RunState.Cancelling;
                await StopStagesAsync(db, run.Id, null, ct);
            }

            if (happened is not null && !RunStateMachine.IsTerminal(run.State))
            {
                var busy = await db.StageRuns.AnyAsync(s => s.RunId == runId && (s.State == StageRunState.Running || s.State == StageRunState.Cancelling), ct)
                    || db.ChangeTracker.Entries<StageRunRow>().Any(e => e.Entity.State == StageRunState.Cancelling);
                if (happened is not CancelRequested || !busy)
                {
                    var definition = WorkflowDefinition.Parse(run.DefinitionJson);
                    await ApplyAsync(db, run, Interpreter.Apply(definition, options.Stages, WorkflowState.FromJson(run.StateJson), happened), ct);
                }
            }

            run.Version++;
            await db.SaveChangesAsync(ct);
            await transaction.CommitAsync(ct);
            return true;
        }
        finally
        {
            engine.Release();
        }
    }

    private async Task ApplyAsync(PipelineDbContext db, RunRow run, Transition transition, CancellationToken ct)
    {
        run.StateJson = transition.State.ToJson();
        foreach (var effect in transition.Effects)
        {
            switch (effect)
            {
                case StartStage start when run.State == RunState.Running:
                    db.StageRuns.Add(new StageRunRow
                    {
                        Id = Guid.CreateVersion7(), RunId = run.Id, ActivityInstanceId = start.ActivityInstanceId, ActivityId = start.ActivityId,
                        Stage = start.Stage.Name, StageVersion = start.Stage.Version, State = StageRunState.Pending, CreatedAt = Now,
                        SettingsJson = start.Settings.ToJsonString(), SourcesJson = JsonSerializer.Serialize(start.Inputs),
                    });
                    break;
                case CancelStage cancel:
                    await StopStagesAsync(db, run.Id, cancel.ActivityInstanceId, ct);
                    break;
                case WriteLine line:
                    db.Journal.Add(new JournalRow { RunId = run.Id, At = Now, Event = "WriteLine", Text = line.Text });
                    break;
                case JournalEntry entry:
                    db.Journal.Add(new JournalRow
                    {
                        RunId = run.Id, At = Now, Event = entry.EventName, ActivityId = entry.ActivityId, ActivityInstanceId = entry.ActivityInstanceId,
                        ParentInstanceId = entry.ParentInstanceId, NodeId = entry.NodeId, ActivityType = entry.ActivityType, Sequence = entry.Sequence,
                        Text = entry.Message, DataJson = entry.Data?.ToJsonString(),
                    });
                    break;
                case FinishWorkflow finish:
                    await StopStagesAsync(db, run.Id, null, ct);
                    run.State = run.State == RunState.Cancelling || finish.Status == WorkflowStatus.Cancelled ? RunState.Cancelled
                        : finish.Status == WorkflowStatus.Finished ? RunState.Succeeded : RunState.Failed;
                    (run.Incident, run.EndedAt) = (finish.Incident, Now);
                    break;
            }
        }
    }

    private async Task StopStagesAsync(PipelineDbContext db, Guid runId, string? activityInstanceId, CancellationToken ct)
    {
        foreach (var stage in await db.StageRuns.Where(s => s.RunId == runId && (activityInstanceId == null || s.ActivityInstanceId == activityInstanceId)).ToListAsync(ct))
        {
            if (stage.State is StageRunState.Pending or StageRunState.Queued)
            {
                (stage.State, stage.EndedAt) = (StageRunState.Cancelled, Now);
            }
            else if (stage.State == StageRunState.Running)
            {
                stage.State = StageRunState.Cancelling;
            }
        }
    }
}
