using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Caching;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Registry;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Does what the tables say is due, again and again: cancels, ends attempts whose host is gone, keys new stage runs, enqueues
/// queued ones. It keeps nothing that matters in memory, so a host that dies loses nothing.
/// </summary>
internal sealed class Reconciler(
    PipelineOptions options, PipelineStore store, RunEngine engine, AttemptRunner attempts, LeaseOwner owner, Action<Guid> enqueue) : IDisposable
{
    private readonly KeyBuilder keys = new(store, options.ExpandPath);
    private readonly SemaphoreSlim signal = new(0);
    private readonly ConcurrentDictionary<Guid, byte> enqueued = new();
    private readonly ConcurrentDictionary<Guid, byte> takenUp = new();

    private long Now => options.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    public void Dispose() => signal.Dispose();

    /// <summary>Looks at once instead of at the next tick.</summary>
    public void Wake() => signal.Release();

    public void TakeUp(Guid runId)
    {
        takenUp[runId] = 0;
        Wake();
    }

    /// <summary>The stage run's job has ended; if the tables say so it may be enqueued again.</summary>
    public void Release(Guid stageRunId)
    {
        enqueued.TryRemove(stageRunId, out _);
        Wake();
    }

    public async Task RunAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await ReconcileOnceAsync(stop);
                await signal.WaitAsync(TimeSpan.FromSeconds(2), stop);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                // The next pass reads the tables again; a reconciler that ended would strand every run.
                Trace.TraceError(e.ToString());
                await Task.Delay(TimeSpan.FromMilliseconds(200), CancellationToken.None);
            }
        }
    }

    private async Task ReconcileOnceAsync(CancellationToken ct)
    {
        await using var db = store.Open();
        foreach (var run in await db.Runs.AsNoTracking().Where(r => r.CancelRequested && (r.State == RunState.Running || r.State == RunState.Cancelling)).ToListAsync(ct))
        {
            await engine.CommitAsync(run.Id, new CancelRequested(), (_, _) => Task.FromResult(true), ct);
        }

        foreach (var row in await MineAsync(db, [StageRunState.Running, StageRunState.Cancelling], ct))
        {
            if (enqueued.ContainsKey(row.Id))
            {
                // Ours, even in the moment between winning the lease and entering the active ones.
                if (row.State == StageRunState.Cancelling)
                {
                    await attempts.StopAsync(row.Id);
                }
            }
            else if (row.LeaseExpiresAt < Now || owner.IsDead(row.LeaseOwner))
            {
                await attempts.EndAsync(row.Id, row.LeaseEpoch, new WorkerResult(-1, "The host stopped.", null, null, []), hostStopped: true, [], ct);
            }
        }

        foreach (var row in await MineAsync(db, [StageRunState.Pending], ct))
        {
            await PrepareAsync(row, ct);
        }

        foreach (var row in await MineAsync(db, [StageRunState.Queued], ct))
        {
            var id = row.Id;
            if (enqueued.TryAdd(id, 0))
            {
                enqueue(id);
            }
        }
    }

    private async Task<List<StageRunRow>> MineAsync(PipelineDbContext db, StageRunState[] states, CancellationToken ct)
    {
        var rows = await db.StageRuns.AsNoTracking().Where(s => states.Contains(s.State)).OrderBy(s => s.CreatedAt).ToListAsync(ct);
        return options.TakesUpUnfinishedRuns ? rows : [.. rows.Where(s => takenUp.ContainsKey(s.RunId))];
    }

    /// <summary>Computes the key of a new stage run: cached, looked up, or queued.</summary>
    private async Task PrepareAsync(StageRunRow row, CancellationToken ct)
    {
        await using var db = store.Open();
        var stage = options.Stages.First(s => s.Name == row.Stage);
        try
        {
            var settings = JsonNode.Parse(row.SettingsJson)!.AsObject();
            var ports = await InputsAsync(db, row, stage, ct);
            var key = await keys.BuildAsync(stage, settings, ports.ToDictionary(p => p.Port, p => Digest.Parse(p.Digest)), ct);
            ports.AddRange(key.Paths.Select(p => new StageRunPortRow { StageRunId = row.Id, Port = "setting:" + p.Key, Kind = "path", Digest = p.Value, External = true }));
            var run = await db.Runs.AsNoTracking().SingleAsync(r => r.Id == row.RunId, ct);
            var known = stage.IsLookup
                ? await Lookups.AnswerAsync(db, run.DefinitionId, stage.Name, settings, key, ct)
                : !run.BypassCache && await keys.FindAsync(db, key.ComputeDigest(), ct) is var (earlier, outputs) ? LookupResult.Of(earlier, outputs) : null;
            var reasons = known is null ? await KeyBuilder.ExplainAsync(db, key, row.ActivityId, ct) : [];
            await engine.CommitAsync(row.RunId, known is null ? null : new StageSucceeded(row.ActivityInstanceId, known.Outcome), async (d, _) =>
            {
                var current = await d.StageRuns.SingleAsync(s => s.Id == row.Id, ct);
                if (current.State != StageRunState.Pending)
                {
                    return false;
                }

                current.KeyJson = key.ToJson();
                current.KeyDigest = key.ComputeDigest().ToString();
                current.MissReasonsJson = known is null ? JsonSerializer.Serialize(reasons) : null;
                d.Ports.AddRange(ports);
                if (known is null)
                {
                    current.State = RunStateMachine.Move(current.State, StageRunState.Queued);
                    return true;
                }

                current.State = RunStateMachine.Move(current.State, known.FromRunId is null ? StageRunState.Skipped : StageRunState.Cached);
                (current.Outcome, current.CachedFromRunId) = (known.Outcome, known.FromRunId);
                current.StartedAt = current.EndedAt = Now;
                d.Ports.AddRange(known.Outputs.Select(o => new StageRunPortRow { StageRunId = row.Id, IsOutput = true, Port = o.Port, Kind = o.Kind, Digest = o.Digest }));
                await d.SaveChangesAsync(ct);
                await DraftRegistry.ApplyAsync(d, store.Artifacts, current, known.Outputs, Now, ct);
                return true;
            }, ct);
        }
        catch (Exception e) when (e is StageFailureException or IOException or UnauthorizedAccessException)
        {
            await engine.CommitAsync(row.RunId, new StageFailed(row.ActivityInstanceId, e.Message), async (d, _) =>
            {
                var current = await d.StageRuns.SingleAsync(s => s.Id == row.Id, ct);
                (current.State, current.Failure, current.Hint, current.EndedAt) =
                    (RunStateMachine.Move(current.State, StageRunState.Failed), e.Message, (e as StageFailureException)?.Hint, Now);
                return true;
            }, ct);
        }

        Wake();
    }

    /// <summary>The artifacts that feed a stage run. A lookup that found nothing leaves an optional input unconnected.</summary>
    private static async Task<List<StageRunPortRow>> InputsAsync(PipelineDbContext db, StageRunRow row, StageDescriptor stage, CancellationToken ct)
    {
        var ports = new List<StageRunPortRow>();
        foreach (var (port, feed) in JsonSerializer.Deserialize<Dictionary<string, PortSource>>(row.SourcesJson)!)
        {
            var source = await (from p in db.Ports
                                join s in db.StageRuns on p.StageRunId equals s.Id
                                where s.RunId == row.RunId && s.ActivityInstanceId == feed.ActivityInstanceId && p.IsOutput && p.Port == feed.Port
                                select p).SingleOrDefaultAsync(ct);
            if (source is not null)
            {
                ports.Add(new StageRunPortRow { StageRunId = row.Id, Port = port, Kind = source.Kind, Digest = source.Digest });
            }
            else if (stage.Inputs.First(p => p.Name == port).Required)
            {
                throw new StageFailureException(
                    FailureKind.Config, $"Input '{port}' takes '{feed.ActivityId}.{feed.Port}', and '{feed.ActivityId}' found nothing.", $"connect '{row.ActivityId}' to the port of '{feed.ActivityId}' that is followed when something is found");
            }
        }

        return ports;
    }
}
