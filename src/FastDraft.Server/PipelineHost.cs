using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Definitions;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Events;
using FastDraft.Server.Projections;
using FastDraft.Server.Retention;
using FastDraft.Server.Scheduling;
using FastDraft.Server.Web;
using Hangfire;

namespace FastDraft.Server;

/// <summary>How a run is repeated.</summary>
/// <param name="Settings">Of stages, by activity id: settings and their new values; null takes a value back to what it is by default.</param>
/// <param name="BypassCache">Run every stage, reuse nothing.</param>
public sealed record RunRetry(IReadOnlyDictionary<string, JsonObject>? Settings = null, bool BypassCache = false, IdempotencyKey? Key = null);

/// <summary>
/// The runtime of one process, alone on its data folder or one of several on a database. The tables are the truth: a job carries a stage
/// run's id, the reconciler enqueues whatever the tables say is due, and each attempt's writes are fenced by its lease epoch.
/// </summary>
public sealed class PipelineHost : IAsyncDisposable
{
    /// <summary>How long a host that stops goes on delivering what can be delivered.</summary>
    private static readonly TimeSpan DrainTime = TimeSpan.FromSeconds(5);

    private readonly CancellationTokenSource stop = new();
    private readonly CancellationTokenSource drainProjections = new();
    private readonly CancellationTokenSource stopProjections = new();
    private readonly JobQueue jobs;
    private readonly RunEngine engine;
    private readonly Reconciler reconciler;
    private readonly ScheduleLoop schedules;
    private readonly LeaseOwner owner;
    private readonly Sweeper sweeper;
    private readonly KeyBuilder keys;
    private readonly PipelineOptions options;
    private readonly TimeProvider clock;
    private readonly IReadOnlyList<IProjection> projections;
    private Task reconciling = Task.CompletedTask;
    private Task projecting = Task.CompletedTask;
    private int disposed;
    private Task scheduling = Task.CompletedTask;
    private Task sweeping = Task.CompletedTask;

    private PipelineHost(PipelineOptions options, PipelineStore store)
    {
        Store = store;
        this.options = options;
        clock = options.Clock;
        Definitions = new DefinitionStore(store, options);
        owner = new LeaseOwner(store.DataFolder);
        sweeper = new Sweeper(store, owner, options.Clock);
        keys = new KeyBuilder(store, options.ExpandPath);
        jobs = JobQueue.Of(options, store);
        engine = new RunEngine(options, store, Definitions);
        Attempts = new AttemptRunner(options, store, engine, keys, owner);
        reconciler = new Reconciler(options, store, engine, Attempts, new WaitRunner(store, engine, options.Clock), keys, owner, jobs);
        Scheduler = new Scheduler(store, options, Definitions);
        schedules = new ScheduleLoop(
            store, options, Scheduler, new PublishedTriggers(store, Definitions, options.Clock), new RecurringJobManager(jobs.Storage), reconciler.Wake);
        projections = ProjectionCatalog.Create(options, store);
        jobs.Start(this, options);
    }

    public PipelineStore Store { get; }

    public DefinitionStore Definitions { get; }

    public Scheduler Scheduler { get; }

    /// <summary>What Hangfire keeps of the jobs, for its dashboard; the tables are the truth.</summary>
    public JobStorage Jobs => jobs.Storage;

    public PipelineQueries Queries => Store.Queries;

    internal AttemptRunner Attempts { get; }

    /// <summary>Completes when what dead hosts left is removed.</summary>
    internal Task Swept => sweeper.Swept;

    public static async Task<PipelineHost> StartAsync(PipelineOptions options, CancellationToken ct = default)
    {
        var host = new PipelineHost(options, await PipelineStore.OpenAsync(options.DataFolder, options.Settings, ct));
        foreach (var projection in host.projections)
        {
            await ProjectionLoop.RegisterAsync(host.Store, projection.Name, options.Clock.GetUtcNow().ToUnixTimeMilliseconds(), ct);
        }

        // Each alone: a receiver that is slow or away delays no other, and no run.
        host.projecting = Task.WhenAll(host.projections.Select(p =>
            Task.Run(() => new ProjectionLoop(p, host.Store, options, host.owner).RunAsync(host.drainProjections.Token, host.stopProjections.Token), CancellationToken.None)));
        host.reconciling = Task.Run(() => host.reconciler.RunAsync(host.stop.Token), CancellationToken.None);
        if (options.TakesUpUnfinishedRuns)
        {
            // A host that works for one run only must not start others.
            host.scheduling = Task.Run(() => Task.WhenAll(host.schedules.RunAsync(host.stop.Token), new CollectionLoop(host.Store, options).RunAsync(host.stop.Token)), CancellationToken.None);
        }

        host.sweeping = Task.Run(() => host.sweeper.RunAsync(host.stop.Token), CancellationToken.None);
        return host;
    }

    /// <exception cref="KeyReusedException">The key was used for another request.</exception>
    public async Task<Guid> SubmitAsync(
        WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs, bool bypassCache = false, string? triggerActivityId = null,
        string? correlationId = null, IdempotencyKey? key = null, CancellationToken ct = default) =>
        await SubmitAsync(definition, inputs, bypassCache, new WorkflowStart(TriggerActivityId: triggerActivityId, CorrelationId: correlationId), [], key, ct);

    /// <summary>Makes this host responsible for a run; needed only where it does not take up all of them.</summary>
    public void TakeUp(Guid runId) => reconciler.TakeUp(runId);

    public IAsyncEnumerable<RunEvent> WatchAsync(Guid runId, CancellationToken ct = default) => Store.WatchAsync(runId, ct);

    /// <summary>Hands an event to every run that waits for it, and starts the published workflows that it triggers.</summary>
    /// <exception cref="KeyReusedException">The key was used for another request.</exception>
    public async Task<EventReach> PublishEventAsync(string eventName, JsonNode? payload = null, string? correlationId = null, IdempotencyKey? key = null, CancellationToken ct = default)
    {
        var reached = await engine.PublishAsync(eventName, payload, correlationId, key, ct);
        reconciler.Wake();
        return reached;
    }

    public async Task<bool> CancelAsync(Guid runId, CancellationToken ct = default)
    {
        var accepted = await Store.CancelAsync(runId, ct);
        reconciler.Wake();
        return accepted;
    }

    /// <summary>A new run of the same definition and inputs: what had succeeded is cached, what was killed resumes.</summary>
    public Task<Guid> RetryAsync(Guid runId, CancellationToken ct = default) => RetryAsync(runId, new RunRetry(), ct);

    /// <summary>A new run of the same inputs, with other settings where the retry says so.</summary>
    /// <exception cref="StageFailureException">A stage or setting is not there, or its value cannot be.</exception>
    /// <exception cref="KeyReusedException">The key was used for another request.</exception>
    public async Task<Guid> RetryAsync(Guid runId, RunRetry retry, CancellationToken ct = default)
    {
        var run = await Queries.GetRunAsync(runId, ct) ?? throw new ArgumentException($"There is no run {runId}.", nameof(runId));
        var (definition, cause) = (WorkflowDefinition.Parse(run.DefinitionJson), new JsonObject { ["retried"] = runId.ToString() });
        var inputs = JsonSerializer.Deserialize<Dictionary<string, JsonNode?>>(run.InputsJson)!;
        if (retry.Settings is { Count: > 0 } settings)
        {
            definition = EditedSettings.Apply(definition, options.Stages, settings, path => options.ResolvePath?.Invoke(path, Environment.CurrentDirectory) ?? Path.GetFullPath(path));
            cause["settings"] = new JsonObject(settings.Select(s => KeyValuePair.Create(s.Key, (JsonNode?)s.Value.DeepClone())));
            if (RunInputs.Check(options, definition, inputs) is [var problem, ..])
            {
                throw new StageFailureException(problem.Kind, $"{problem.Where}: {problem.Message}", problem.Hint);
            }
        }

        return await SubmitAsync(definition, inputs, retry.BypassCache, new WorkflowStart(), cause, retry.Key, ct);
    }

    /// <summary>Stops the workers; unfinished runs stay in the tables and are taken up by the next host.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref disposed, 1) == 1)
        {
            return;
        }

        await stop.CancelAsync();
        jobs.SendStop();
        await reconciling;
        await scheduling;
        await sweeping;
        await jobs.StoppedAsync();

        // Last: what the end of the runs has to tell. What is not delivered by then waits for the next host.
        await drainProjections.CancelAsync();
        stopProjections.CancelAfter(DrainTime);
        await projecting;
        foreach (var projection in projections)
        {
            projection.Dispose();
        }

        jobs.Dispose();
        reconciler.Dispose();
        owner.Dispose();
        keys.Dispose();
        await Store.DisposeAsync();
        stop.Dispose();
        drainProjections.Dispose();
        stopProjections.Dispose();
    }

    [AutomaticRetry(Attempts = 0, OnAttemptsExceeded = AttemptsExceededAction.Delete)]
    public async Task ExecuteAsync(Guid stageRunId)
    {
        if (!jobs.TryBegin(stageRunId))
        {
            return;
        }

        try
        {
            await Attempts.RunAsync(stageRunId, stop.Token);
            Failpoint.Reach(Failpoint.JobDone);
        }
        finally
        {
            await jobs.ReleaseAsync(stageRunId);
            reconciler.Wake();
        }
    }

    /// <summary>The recurring job of a cron schedule.</summary>
    [AutomaticRetry(Attempts = 0, OnAttemptsExceeded = AttemptsExceededAction.Delete)]
    public Task TickScheduleAsync(Guid scheduleId) => schedules.TickAsync(scheduleId, stop.Token);

    private async Task<Guid> SubmitAsync(
        WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs, bool bypassCache, WorkflowStart start, JsonObject cause, IdempotencyKey? key, CancellationToken ct)
    {
        var id = Guid.CreateVersion7();
        TakeUp(id);
        id = await engine.SubmitAsync(RunEngine.Pending(id, definition, inputs, start, clock.GetUtcNow(), bypassCache), cause, key, ct);
        Failpoint.Reach(Failpoint.Submitted);
        reconciler.Wake();
        return id;
    }
}
