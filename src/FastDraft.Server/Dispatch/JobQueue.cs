using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using FastDraft.Persistence;
using Hangfire;
using Hangfire.States;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Hangfire as a host uses it. A job is a stage run's id and no more: that it was lost, or comes twice, changes nothing, for the tables say
/// what is due and the lease who does it.
/// </summary>
internal abstract class JobQueue(JobStorage storage) : IDisposable
{
    private readonly List<BackgroundJobServer> servers = [];

    public JobStorage Storage { get; } = storage;

    /// <summary>Jobs that this process has, from when it knows of them until they end.</summary>
    protected ConcurrentDictionary<Guid, byte> Here { get; } = new();

    protected BackgroundJobClient Client { get; } = new(storage);

    public static JobQueue Of(PipelineOptions options, PipelineStore store) =>
        store.Database.IsShared && options.TakesUpUnfinishedRuns ? new SharedJobQueue(store, options.Accelerators ?? []) : new LocalJobQueue(options.Accelerators);

    /// <summary>Where a stage run computes, and so the queue that it waits in.</summary>
    public static string AcceleratorOf(StageRunRow row) => JsonNode.Parse(row.SettingsJson)!["accelerator"]?.GetValue<string>() ?? "cpu";

    public abstract void Start(PipelineHost host, PipelineOptions options);

    /// <summary>True: the job of this stage run is one of this process, so its lease is no dead one's.</summary>
    public bool Has(Guid stageRun) => Here.ContainsKey(stageRun);

    /// <summary>The job of a stage run begins. False: another job of it is at work in this process, and this one has nothing to do.</summary>
    public abstract bool TryBegin(Guid stageRun);

    /// <summary>Those of some queued stage runs that this host puts in line now; whoever is told so must.</summary>
    public abstract Task<IReadOnlyList<StageRunRow>> ClaimAsync(IReadOnlyList<StageRunRow> queued, CancellationToken ct);

    public abstract Task EnqueueAsync(StageRunRow row, CancellationToken ct);

    /// <summary>The job of a stage run has ended; if the tables say that it is due it goes in line again.</summary>
    public abstract Task ReleaseAsync(Guid stageRun);

    public void SendStop() => servers.ForEach(s => s.SendStop());

    public async Task StoppedAsync()
    {
        foreach (var server in servers)
        {
            await server.WaitForShutdownAsync(CancellationToken.None);
        }
    }

    public void Dispose() => servers.ForEach(s => s.Dispose());

    protected void Serve(PipelineHost host, string queue, int numWorkers) => servers.Add(new BackgroundJobServer(
        new BackgroundJobServerOptions
        {
            Queues = [queue],
            WorkerCount = numWorkers,
            Activator = new HostActivator(host),
            SchedulePollingInterval = TimeSpan.FromSeconds(1),
            ShutdownTimeout = TimeSpan.FromSeconds(10),
        },
        Storage));

    protected string Enqueue(Guid stageRun, string queue) => Client.Create<PipelineHost>(h => h.ExecuteAsync(stageRun), new EnqueuedState(queue));

    private sealed class HostActivator(PipelineHost host) : JobActivator
    {
        public override object ActivateJob(Type jobType) => host;

        public override JobActivatorScope BeginScope(JobActivatorContext context) => new Scope(host);

        // The default scope would dispose the host after each job.
        private sealed class Scope(PipelineHost host) : JobActivatorScope
        {
            public override object Resolve(Type type) => host;
        }
    }
}
