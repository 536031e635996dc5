using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Definitions;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// The only writer of runs: a change of the tables, the interpreter's answer to it and the effects of that answer are one
/// transaction, so a kill leaves either none of them or all.
/// </summary>
internal sealed class RunEngine(PipelineOptions options, PipelineStore store, DefinitionStore definitions) : IDisposable
{
    private readonly SemaphoreSlim engine = new(1);

    private long Now => options.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>Called with each child run, so that the host of its parent takes it up.</summary>
    public Action<Guid>? ChildAdded { get; set; }

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
        PipelineDbContext db, Guid id, WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs, bool bypassCache, CancellationToken ct,
        string? triggerActivityId = null, string? correlationId = null, (Guid Run, string Instance)? parent = null)
    {
        var run = new RunRow
        {
            Id = id, WorkflowName = definition.Name, DefinitionId = definition.DefinitionId, DefinitionVersion = definition.Version, DefinitionJson = definition.ToJson(), DefinitionDigest = definition.Digest.ToString(),
            InputsJson = JsonSerializer.Serialize(inputs), State = RunState.Running, BypassCache = bypassCache, CreatedAt = Now,
            ParentRunId = parent?.Run, ParentInstanceId = parent?.Instance,
        };
        db.Runs.Add(run);
        var start = new WorkflowStart(id.ToString(), triggerActivityId, CorrelationId: correlationId);
        await ApplyAsync(db, run, Interpreter.Start(definition, options.Stages, inputs, start), ct);
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
                    await ApplyAsync(db, run, Answer(run, happened), ct);
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

    /// <summary>A saved state that cannot be read ends its run, visibly, instead of stopping whoever brings it the next event.</summary>
    private Transition Answer(RunRow run, WorkflowEvent happened)
    {
        try
        {
            return Interpreter.Apply(WorkflowDefinition.Parse(run.DefinitionJson), options.Stages, WorkflowState.FromJson(run.StateJson), happened);
        }
        catch (Exception e) when (e is FormatException or WorkflowFormatException)
        {
            var reason = $"The saved state of the run cannot be read: {e.Message}";
            return new Transition(new WorkflowState { Status = WorkflowStatus.Faulted }, [new FinishWorkflow(WorkflowStatus.Faulted, reason)]);
        }
    }

    private async Task ApplyAsync(PipelineDbContext db, RunRow run, Transition transition, CancellationToken ct)
    {
        run.StateJson = transition.State.ToJson();
        run.CorrelationId = transition.State.CorrelationId;
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
                case StartTimer timer:
                    Wait(db, run, timer.ActivityInstanceId, WaitKind.Timer).DueAt = DueAt(timer.Due);
                    break;
                case WaitForEvent wait:
                    var waiting = Wait(db, run, wait.ActivityInstanceId, WaitKind.Event);
                    (waiting.EventName, waiting.CorrelationId) = (wait.EventName, wait.CorrelationId);
                    break;
                case OpenGate gate:
                    var opened = Wait(db, run, gate.ActivityInstanceId, WaitKind.Gate);
                    (opened.ActivityId, opened.Title, opened.Instructions) = (gate.ActivityId, gate.Title, gate.Instructions);
                    break;
                case StartChild child:
                    await StartChildAsync(db, run, child, ct);
                    break;
                case CancelWait cancel:
                    await EndWaitsAsync(db, run, cancel.ActivityInstanceId, ct);
                    break;
                case PublishEvent published:
                    await PublishAsync(db, published, published.IsLocal ? run.Id : null, ct);
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
                    await EndWaitsAsync(db, run, null, ct);
                    run.State = run.State == RunState.Cancelling || finish.Status == WorkflowStatus.Cancelled ? RunState.Cancelled
                        : finish.Status == WorkflowStatus.Finished ? RunState.Succeeded : RunState.Failed;
                    (run.Incident, run.EndedAt) = (finish.Incident, Now);
                    await AnswerParentAsync(db, run, finish.Status, transition.State, ct);
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

    private WaitRow Wait(PipelineDbContext db, RunRow run, string instanceId, WaitKind kind) => db.Waits.Add(new WaitRow
    {
        Id = Guid.CreateVersion7(), RunId = run.Id, ActivityInstanceId = instanceId, ActivityId = instanceId, Kind = kind, CreatedAt = Now,
    }).Entity;

    private long? DueAt(TimerDue due) => due switch
    {
        DueAfter after => Now + (long)after.Delay.TotalMilliseconds,
        DueAt at => at.Time.ToUnixTimeMilliseconds(),
        DueByCron cron => CronText.Next(cron.Expression, options.Clock.GetUtcNow(), TimeZoneInfo.Utc)?.ToUnixTimeMilliseconds(),
        _ => throw new ArgumentOutOfRangeException(nameof(due)),
    };

    /// <summary>The child and the wait for it appear with the state that asked for them; what hinders it is an answer like any other.</summary>
    private async Task StartChildAsync(PipelineDbContext db, RunRow run, StartChild child, CancellationToken ct)
    {
        string? hindrance = null;
        try
        {
            if ((await definitions.FindPublishedAsync(child.DefinitionId, ct))?.Parse() is not { } definition)
            {
                hindrance = $"There is no published workflow '{child.DefinitionId}'.";
            }
            else if (child.Inputs.FirstOrDefault(i => definition.Inputs.All(d => d.Name != i.Key)) is { Key: { } unknown })
            {
                hindrance = $"Workflow '{child.DefinitionId}' has no input '{unknown}'.";
            }
            else
            {
                var inputs = child.Inputs.ToDictionary(i => i.Key, i => i.Value?.DeepClone(), StringComparer.Ordinal);
                await AddAsync(db, child.ChildId, definition, inputs, run.BypassCache, ct, correlationId: child.CorrelationId, parent: (run.Id, child.ActivityInstanceId));
                ChildAdded?.Invoke(child.ChildId);
            }
        }
        catch (WorkflowFormatException e)
        {
            hindrance = $"Workflow '{child.DefinitionId}' cannot be read: {e.Message}";
        }

        if (child.Wait || hindrance is not null)
        {
            var wait = Wait(db, run, child.ActivityInstanceId, WaitKind.Child);
            wait.ChildRunId = child.ChildId;
            if (hindrance is not null)
            {
                (wait.DueAt, wait.PayloadJson) = (Now, new JsonObject { ["hindrance"] = hindrance }.ToJsonString());
            }
        }

        // A child without a stage may have ended already: its end looks for this wait.
        if (db.Runs.Local.FirstOrDefault(r => r.Id == child.ChildId) is { } ended && RunStateMachine.IsTerminal(ended.State))
        {
            var state = WorkflowState.FromJson(ended.StateJson);
            await AnswerParentAsync(db, ended, state.Status, state, ct);
        }
    }

    /// <summary>Answers every open wait for the event; the loop that finds them due hands the answers over.</summary>
    public async Task PublishAsync(PipelineDbContext db, PublishEvent published, Guid? onlyRun, CancellationToken ct)
    {
        await db.SaveChangesAsync(ct);
        foreach (var wait in await db.Waits.Where(w => w.Kind == WaitKind.Event && w.DueAt == null && w.EventName == published.EventName
            && (onlyRun == null || w.RunId == onlyRun)
            && (published.CorrelationId == null || w.CorrelationId == null || w.CorrelationId == published.CorrelationId)).ToListAsync(ct))
        {
            (wait.DueAt, wait.PayloadJson) = (Now, published.Payload?.ToJsonString());
        }
    }

    private async Task AnswerParentAsync(PipelineDbContext db, RunRow run, WorkflowStatus status, WorkflowState state, CancellationToken ct)
    {
        if (run.ParentRunId is null)
        {
            return;
        }

        var wait = db.Waits.Local.FirstOrDefault(w => w.Kind == WaitKind.Child && w.ChildRunId == run.Id)
            ?? await db.Waits.FirstOrDefaultAsync(w => w.Kind == WaitKind.Child && w.ChildRunId == run.Id, ct);
        if (wait is { DueAt: null })
        {
            var outputs = new JsonObject(state.Outputs.Select(o => KeyValuePair.Create(o.Key, o.Value?.DeepClone())));
            (wait.DueAt, wait.PayloadJson) = (Now, new JsonObject { ["status"] = status.ToString(), ["outputs"] = outputs }.ToJsonString());
        }
    }

    private static async Task EndWaitsAsync(PipelineDbContext db, RunRow run, string? instanceId, CancellationToken ct)
    {
        await db.SaveChangesAsync(ct);
        foreach (var wait in await db.Waits.Where(w => w.RunId == run.Id && (instanceId == null || w.ActivityInstanceId == instanceId)).ToListAsync(ct))
        {
            db.Waits.Remove(wait);
            if (wait.ChildRunId is { } child && await db.Runs.FindAsync([child], ct) is { } row && !RunStateMachine.IsTerminal(row.State))
            {
                row.CancelRequested = true;
            }
        }
    }
}
