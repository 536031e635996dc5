using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Server.Definitions;
using FastDraft.Server.Events;
using FastDraft.Server.Scheduling;
using FastDraft.Server.Telemetry;
using FastDraft.Server.Web;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.Logging;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// The only writer of runs: a change of the tables, the interpreter's answer to it and the effects of that answer are one
/// transaction, so a kill leaves either none of them or all.
/// </summary>
internal sealed class RunEngine(PipelineOptions options, PipelineStore store, DefinitionStore definitions)
{
    /// <summary>Runs that start one another, the first included: a workflow that starts itself ends there.</summary>
    private const int MaxDepth = 16;

    private readonly ILogger log = options.Loggers.CreateLogger("FastDraft.Runs");

    private long Now => options.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    /// <param name="cause">What the audit keeps of why it starts.</param>
    /// <returns>The run; where the key is known, the one that was made before.</returns>
    public async Task<Guid> SubmitAsync(RunRow run, JsonObject cause, IdempotencyKey? key, CancellationToken ct)
    {
        var id = run.Id;
        await store.Database.TransactAsync(
            async db =>
            {
                id = await IdempotencyKey.OnceAsync(key, db, Now, () =>
                {
                    db.Runs.Add(run);
                    db.Remember(Submitted(run, cause));
                    return Task.FromResult(run.Id);
                }, ct);
                return true;
            },
            ct);
        return id;
    }

    /// <summary>What the audit keeps of a new run; its inputs are in its row, and their digest shows whether they still are.</summary>
    /// <param name="cause">What made it start; for a retry it says so.</param>
    internal static AuditEntry Submitted(RunRow run, JsonObject cause, string? by = null)
    {
        var details = new JsonObject
        {
            ["workflow"] = run.WorkflowName, ["inputs"] = Digest.OfBytes(Encoding.UTF8.GetBytes(run.InputsJson)).ToString(), ["bypassCache"] = run.BypassCache,
        };
        foreach (var (name, value) in cause)
        {
            details[name] = value?.DeepClone();
        }

        return new AuditEntry(cause.ContainsKey("retried") ? AuditAction.RunRetried : AuditAction.RunSubmitted, run.Id.ToString(), After: run.DefinitionDigest, Details: details, By: by);
    }

    /// <summary>
    /// A run that has not begun: the loop of a host that takes it up begins it. So whoever starts runs (a person, a schedule, another
    /// run) only adds a row, and a workflow that starts itself cannot keep a transaction busy.
    /// </summary>
    public static RunRow Pending(
        Guid id, WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs, WorkflowStart start, DateTimeOffset now, bool bypassCache = false, Guid? parent = null) => new()
        {
            Id = id, WorkflowName = definition.Name, DefinitionId = definition.DefinitionId, DefinitionVersion = definition.Version, DefinitionJson = definition.ToJson(),
            DefinitionDigest = definition.Digest.ToString(), InputsJson = JsonSerializer.Serialize(inputs), State = RunState.Pending, BypassCache = bypassCache,
            CreatedAt = now.ToUnixTimeMilliseconds(), CorrelationId = start.CorrelationId, ParentRunId = parent,
            StateJson = new WorkflowState
            {
                InstanceId = id.ToString(), TriggerActivityId = start.TriggerActivityId, TriggerPayload = start.TriggerPayload?.DeepClone(), CorrelationId = start.CorrelationId,
            }.ToJson(),
        };

    /// <summary>Begins a pending run; nothing where another host did, or where it was cancelled.</summary>
    public Task<bool> BeginAsync(Guid runId, CancellationToken ct) => TransactAsync(runId, async (db, run) =>
    {
        if (run.State != RunState.Pending || run.CancelRequested)
        {
            return false;
        }

        run.State = RunState.Running;
        await ApplyAsync(db, run, Guarded(() =>
        {
            var start = WorkflowState.FromJson(run.StateJson);
            return Interpreter.Start(
                WorkflowDefinition.Parse(run.DefinitionJson), options.Stages, JsonSerializer.Deserialize<Dictionary<string, JsonNode?>>(run.InputsJson)!,
                new WorkflowStart(run.Id.ToString(), start.TriggerActivityId, start.TriggerPayload, start.CorrelationId));
        }), ct);
        return true;
    }, ct);

    /// <summary>One transaction: the change, the interpreter's answer to the event, and the effects of that answer.</summary>
    /// <param name="happened">Null: only the change.</param>
    public Task<bool> CommitAsync(Guid runId, WorkflowEvent? happened, Func<PipelineDbContext, RunRow, Task<bool>> change, CancellationToken ct) =>
        CommitAsync(runId, happened is null ? null : () => happened, change, ct);

    /// <inheritdoc cref="CommitAsync(Guid, WorkflowEvent?, Func{PipelineDbContext, RunRow, Task{bool}}, CancellationToken)"/>
    public Task<bool> CommitAsync(Guid runId, Func<WorkflowEvent>? happened, Func<PipelineDbContext, RunRow, Task<bool>> change, CancellationToken ct) =>
        TransactAsync(runId, async (db, run) =>
        {
            if (!await change(db, run))
            {
                return false;
            }

            await db.SaveChangesAsync(ct);
            if (happened is not null && !RunStateMachine.IsTerminal(run.State))
            {
                await ApplyAsync(db, run, Answer(run, happened), ct);
            }

            return true;
        }, ct);

    /// <summary>Cancels a run: stages in flight are stopped first, and the run ends with the last of them.</summary>
    public Task<bool> CancelAsync(Guid runId, CancellationToken ct) => TransactAsync(runId, async (db, run) =>
    {
        if (RunStateMachine.IsTerminal(run.State))
        {
            return false;
        }

        run.State = RunState.Cancelling;
        await StopStagesAsync(db, run.Id, null, ct);
        await db.SaveChangesAsync(ct);
        if (!await db.StageRuns.AnyAsync(s => s.RunId == runId && (s.State == StageRunState.Running || s.State == StageRunState.Cancelling), ct))
        {
            await ApplyAsync(db, run, Answer(run, () => new CancelRequested()), ct);
        }

        return true;
    }, ct);

    /// <summary>Whoever changes a run writes its row first: until he commits, nobody else changes that run, its stage runs or its waits.</summary>
    private async Task<bool> TransactAsync(Guid runId, Func<PipelineDbContext, RunRow, Task<bool>> act, CancellationToken ct)
    {
        var (run, before) = (default(RunRow), RunState.Pending);
        var done = await store.Database.TransactAsync(
            async db =>
            {
                if (await db.Runs.Where(r => r.Id == runId).ExecuteUpdateAsync(u => u.SetProperty(r => r.Version, r => r.Version + 1), ct) != 1)
                {
                    throw new InvalidOperationException($"There is no run {runId}.");
                }

                run = await db.Runs.SingleAsync(r => r.Id == runId, ct);
                before = run.State;
                return await act(db, run);
            },
            ct);
        if (done && run!.State != before)
        {
            log.RunChanged(run);
        }

        return done;
    }

    private Transition Answer(RunRow run, Func<WorkflowEvent> happened) => Guarded(() => Interpreter.Apply(
        WorkflowDefinition.Parse(run.DefinitionJson), options.Stages, WorkflowState.FromJson(run.StateJson), happened()));

    /// <summary>
    /// The interpreter is a pure function: what it cannot do now it can never do. That ends the run, visibly, instead of stopping whoever
    /// brings it the next event.
    /// </summary>
    private static Transition Guarded(Func<Transition> transition)
    {
        try
        {
            return transition();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            var reason = $"The saved state of the run cannot be taken further: {e.Message}";
            return new Transition(new WorkflowState { Status = WorkflowStatus.Faulted }, [new FinishWorkflow(WorkflowStatus.Faulted, reason)]);
        }
    }

    private async Task ApplyAsync(PipelineDbContext db, RunRow run, Transition transition, CancellationToken ct)
    {
        run.StateJson = transition.State.ToJson();
        run.CorrelationId = transition.State.CorrelationId;

        // A run that is being cancelled begins nothing; what it would wait for goes with its end.
        var isRunning = run.State == RunState.Running;
        foreach (var effect in transition.Effects)
        {
            switch (effect)
            {
                case StartStage start when isRunning:
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
                case StartTimer timer when isRunning:
                    Wait(db, run, timer.ActivityInstanceId, WaitKind.Timer).DueAt = DueAt(timer.Due);
                    break;
                case WaitForEvent wait when isRunning:
                    var waiting = Wait(db, run, wait.ActivityInstanceId, WaitKind.Event);
                    (waiting.EventName, waiting.CorrelationId) = (wait.EventName, wait.CorrelationId);
                    break;
                case OpenGate gate when isRunning:
                    var opened = Wait(db, run, gate.ActivityInstanceId, WaitKind.Gate);
                    (opened.ActivityId, opened.Title, opened.Instructions) = (gate.ActivityId, gate.Title, gate.Instructions);
                    break;
                case StartChild child when isRunning:
                    await StartChildAsync(db, run, child, ct);
                    break;
                case CancelWait cancel:
                    await EndWaitsAsync(db, run, cancel.ActivityInstanceId, ct);
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
                    await AnswerParentAsync(db, run, transition.State, ct);
                    break;
            }
        }

        // Last: an event reaches the waits that this very transition opened, too.
        foreach (var published in transition.Effects.OfType<PublishEvent>())
        {
            await PublishAsync(db, published, run, ct);
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
        Id = Guid.CreateVersion7(), RunId = run.Id, ActivityInstanceId = instanceId, ActivityId = instanceId[..instanceId.LastIndexOf('#')], Kind = kind, CreatedAt = Now,
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
        var wait = Wait(db, run, child.ActivityInstanceId, WaitKind.Child);
        wait.ChildRunId = child.ChildId;
        if (await AddChildAsync(db, run, child, ct) is { } hindrance)
        {
            (wait.DueAt, wait.PayloadJson) = (Now, new JsonObject { ["hindrance"] = hindrance }.ToJsonString());
        }
        else if (!child.Wait)
        {
            wait.DueAt = Now;
        }
    }

    /// <returns>What hinders it, or null.</returns>
    private async Task<string?> AddChildAsync(PipelineDbContext db, RunRow run, StartChild child, CancellationToken ct)
    {
        try
        {
            if ((await definitions.FindPublishedAsync(child.DefinitionId, ct))?.Parse() is not { } definition)
            {
                return $"There is no published workflow '{child.DefinitionId}'.";
            }

            if (child.Inputs.FirstOrDefault(i => definition.Inputs.All(d => d.Name != i.Key)) is { Key: { } unknown })
            {
                return $"Workflow '{child.DefinitionId}' has no input '{unknown}'. It has: {string.Join(", ", definition.Inputs.Select(i => i.Name))}.";
            }

            if (await IsTooDeepAsync(db, run, ct))
            {
                return $"{MaxDepth} runs started one another, the last one would start '{child.DefinitionId}': that goes on for ever.";
            }

            var inputs = child.Inputs.ToDictionary(i => i.Key, i => i.Value?.DeepClone(), StringComparer.Ordinal);
            var row = Pending(
                child.ChildId, definition, RunInputs.Absolute(options, definition, inputs, Environment.CurrentDirectory), new WorkflowStart(CorrelationId: child.CorrelationId),
                options.Clock.GetUtcNow(), run.BypassCache, run.Id);
            row.ParentInstanceId = child.ActivityInstanceId;
            db.Runs.Add(row);
            db.Remember(Submitted(row, new JsonObject { ["parent"] = run.Id.ToString() }, Actor.Workflow));
            return null;
        }
        catch (WorkflowFormatException e)
        {
            return $"Workflow '{child.DefinitionId}' cannot be read: {e.Message}";
        }
    }

    private static async Task<bool> IsTooDeepAsync(PipelineDbContext db, RunRow run, CancellationToken ct)
    {
        var depth = 1;
        for (var parent = run.ParentRunId; parent is not null && depth < MaxDepth; depth++)
        {
            parent = await db.Runs.Where(r => r.Id == parent).Select(r => r.ParentRunId).SingleOrDefaultAsync(ct);
        }

        return depth >= MaxDepth;
    }

    /// <summary>Publishes an event from outside of runs.</summary>
    public async Task<EventReach> PublishAsync(string eventName, JsonNode? payload, string? correlationId, IdempotencyKey? key, CancellationToken ct)
    {
        var reached = new EventReach(0, 0);
        await store.Database.TransactAsync(
            async db =>
            {
                reached = await IdempotencyKey.OnceAsync(key, db, Now, () => PublishAsync(db, new PublishEvent(eventName, payload, correlationId, IsLocal: false), null, ct), ct);
                return true;
            },
            ct);
        return reached;
    }

    /// <summary>Answers every open wait that the event reaches, and adds a run of each published workflow that it starts.</summary>
    private async Task<EventReach> PublishAsync(PipelineDbContext db, PublishEvent published, RunRow? publisher, CancellationToken ct)
    {
        await db.SaveChangesAsync(ct);
        var (numWaits, numRuns) = (0, 0);
        foreach (var wait in await db.Waits.Where(w => w.Kind == WaitKind.Event && w.DueAt == null && w.EventName == published.EventName).ToListAsync(ct))
        {
            if (EventDelivery.Reaches(published, wait.EventName!, wait.CorrelationId, wait.RunId == publisher?.Id))
            {
                (wait.DueAt, wait.PayloadJson) = (Now, published.Payload?.ToJsonString());
                numWaits++;
            }
        }

        var started = await StartActivities.StartedByAsync(definitions, published, ct);
        var isTooDeep = started.Count > 0 && publisher is not null && await IsTooDeepAsync(db, publisher, ct);
        foreach (var (definition, activity) in started)
        {
            if (isTooDeep)
            {
                db.Journal.Add(new JournalRow
                {
                    RunId = publisher!.Id, At = Now, Event = "WriteLine",
                    Text = $"Event '{published.EventName}' did not start '{definition.DefinitionId}': {MaxDepth} runs started one another.",
                });
                continue;
            }

            var run = Pending(
                Guid.CreateVersion7(), definition, RunInputs.Absolute(options, definition, new Dictionary<string, JsonNode?>(), Environment.CurrentDirectory),
                new WorkflowStart(TriggerActivityId: activity.Id, TriggerPayload: published.Payload, CorrelationId: published.CorrelationId), options.Clock.GetUtcNow(), parent: publisher?.Id);
            db.Runs.Add(run);
            db.Remember(Submitted(run, new JsonObject { ["event"] = published.EventName, ["parent"] = publisher?.Id.ToString() }, Actor.Workflow));
            numRuns++;
        }

        var reached = new JsonObject { ["waits"] = numWaits, ["runs"] = numRuns, ["correlation"] = published.CorrelationId, ["run"] = publisher?.Id.ToString() };
        db.Remember(new AuditEntry(AuditAction.EventPublished, published.EventName, Details: reached, By: publisher is null ? null : Actor.Workflow));
        return new EventReach(numWaits, numRuns);
    }

    private async Task AnswerParentAsync(PipelineDbContext db, RunRow run, WorkflowState state, CancellationToken ct)
    {
        if (run.ParentInstanceId is not null && await db.Waits.FirstOrDefaultAsync(w => w.Kind == WaitKind.Child && w.ChildRunId == run.Id, ct) is { DueAt: null } wait)
        {
            var status = run.State switch
            {
                RunState.Succeeded => WorkflowStatus.Finished,
                RunState.Cancelled => WorkflowStatus.Cancelled,
                _ => WorkflowStatus.Faulted,
            };
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
            // One that is not waited for goes its own way.
            if (wait is { DueAt: null, ChildRunId: { } child })
            {
                // At once, before this transaction writes the wait: the child's own end writes its run first and the wait after that.
                if (await db.Runs.Where(r => r.Id == child && (r.State == RunState.Pending || r.State == RunState.Running || r.State == RunState.Cancelling))
                    .ExecuteUpdateAsync(u => u.SetProperty(r => r.CancelRequested, true), ct) == 1)
                {
                    db.Remember(new AuditEntry(AuditAction.RunCancelled, child.ToString(), Details: new JsonObject { ["parent"] = run.Id.ToString() }, By: Actor.Workflow));
                }
            }
        }
    }
}
