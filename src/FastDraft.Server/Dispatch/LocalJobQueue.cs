using FastDraft.Persistence;
using Hangfire.InMemory;
using Hangfire.States;

namespace FastDraft.Server.Dispatch;

/// <summary>A thread pool in the memory of this process: the queue of a host that works alone, or for its own run only.</summary>
/// <param name="accelerators">What this host does; null: all that it is asked for.</param>
internal sealed class LocalJobQueue(IReadOnlyList<string>? accelerators) : JobQueue(new InMemoryStorage())
{
    public override void Start(PipelineHost host, PipelineOptions options) => Serve(host, EnqueuedState.DefaultQueue, Math.Max(1, options.MaxParallelStages));

    public override Task<IReadOnlyList<StageRunRow>> ClaimAsync(IReadOnlyList<StageRunRow> queued, CancellationToken ct) =>
        Task.FromResult<IReadOnlyList<StageRunRow>>([.. queued.Where(r => !Has(r.Id) && (accelerators is null || accelerators.Contains(AcceleratorOf(r))))]);

    // It is here since it was put in line, and stands there once.
    public override bool TryBegin(Guid stageRun) => true;

    public override Task EnqueueAsync(StageRunRow row, CancellationToken ct)
    {
        if (Here.TryAdd(row.Id, 0))
        {
            Enqueue(row.Id, EnqueuedState.DefaultQueue);
        }

        return Task.CompletedTask;
    }

    public override Task ReleaseAsync(Guid stageRun)
    {
        Here.TryRemove(stageRun, out _);
        return Task.CompletedTask;
    }
}
