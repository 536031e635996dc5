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
using FastDraft.Persistence.Lineage;
using FastDraft.Server.Registry;
using FastDraft.Server.Retention;
using FastDraft.Storage;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Does what the tables say is due, again and again: cancels, ends attempts whose host is gone, keys new stage runs, enqueues
/// queued ones. It keeps nothing that matters in memory, so a host that dies loses nothing.
/// </summary>
internal sealed class Reconciler(
    PipelineOptions options, PipelineStore store, RunEngine engine, AttemptRunner attempts, WaitRunner waits, KeyBuilder keys, LeaseOwner owner, JobQueue jobs) : IDisposable
{
    // They stand in line long before another host would look for them.
    private const int ClaimedAtOnce = 100;

    private readonly SemaphoreSlim signal = new(0);
    private readonly ConcurrentDictionary<Guid, byte> takenUp = new();
    private readonly ConcurrentDictionary<Guid, Task> preparing = new();

    private long Now => options.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    public void Dispose() => signal.Dispose();

    /// <summary>Looks at once instead of at the next tick.</summary>
    public void Wake()
    {
        // One look serves all who ask for it.
        if (signal.CurrentCount == 0)
        {
            signal.Release();
        }
    }

    public void TakeUp(Guid runId)
    {
        takenUp[runId] = 0;
        Wake();
    }

    public async Task RunAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await TakeUpChildrenAsync(stop);
                var quiet = await waits.AnswerDueAsync(options.TakesUpUnfinishedRuns ? null : [.. takenUp.Keys], stop);
                await ReconcileOnceAsync(stop);
                await signal.WaitAsync(quiet, stop);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                break;
            }
            catch (Exception e)
            {
                // The next pass reads the tables again; a reconciler that ended would strand every run.
                Trace.TraceError(e.ToString());
                await Task.Delay(TimeSpan.FromMilliseconds(200), CancellationToken.None);
            }
        }

        await Task.WhenAll(preparing.Values);
    }

    private async Task ReconcileOnceAsync(CancellationToken ct)
    {
        await using var db = store.Open();
        foreach (var id in await db.Runs.Where(r => r.CancelRequested && (r.State == RunState.Pending || r.State == RunState.Running || r.State == RunState.Cancelling)).Select(r => r.Id).ToListAsync(ct))
        {
            await EachAsync(() => engine.CancelAsync(id, ct));
        }

        foreach (var id in (await db.Runs.Where(r => r.State == RunState.Pending && !r.CancelRequested).OrderBy(r => r.CreatedAt).Select(r => r.Id).ToListAsync(ct)).Where(IsMine))
        {
            await EachAsync(() => engine.BeginAsync(id, ct));
            Failpoint.Reach(Failpoint.Begun);

            // What it asked for is looked at next, not at the next tick.
            Wake();
        }

        var rows = await db.StageRuns.AsNoTracking()
            .Where(s => s.State == StageRunState.Pending || s.State == StageRunState.Queued || s.State == StageRunState.Running || s.State == StageRunState.Cancelling)
            .OrderBy(s => s.CreatedAt)
            .Select(s => new { Row = s, Expired = s.LeaseExpiresAt == null || s.LeaseExpiresAt < PipelineDbContext.DatabaseNow() }).ToListAsync(ct);

        var waiting = new List<StageRunRow>();

        // One at a time: the others share its resume folder and will take over its outputs.
        var busy = rows.Where(r => r.Row.State is StageRunState.Running or StageRunState.Cancelling).Select(r => r.Row.KeyDigest).ToHashSet();
        foreach (var (row, expired) in rows.Select(r => (r.Row, r.Expired)))
        {
            switch (row.State)
            {
                // Ours, even in the moment between winning the lease and entering the active ones.
                case StageRunState.Cancelling when jobs.Has(row.Id):
                    await attempts.StopAsync(row.Id);
                    break;
                case StageRunState.Running when jobs.Has(row.Id):
                    break;

                // A cancelled run ends in any host: its own may never come back.
                case StageRunState.Running or StageRunState.Cancelling when IsMine(row) || row.State == StageRunState.Cancelling:
                    if (expired || row.LeaseOwner == owner.Name || owner.IsGone(row.LeaseOwner))
                    {
                        await EachAsync(() => attempts.TakeOverAsync(row, ct));
                        Wake();
                    }

                    break;
                case StageRunState.Pending when IsMine(row):
                    Prepare(row, ct);
                    break;
                case StageRunState.Queued when IsMine(row) && !jobs.Has(row.Id) && busy.Add(row.KeyDigest):
                    waiting.Add(row);
                    break;
            }
        }

        foreach (var some in waiting.Chunk(ClaimedAtOnce))
        {
            foreach (var row in await jobs.ClaimAsync(some, ct))
            {
                await EachAsync(() => DispatchAsync(db, row, ct));
            }
        }
    }

    /// <summary>Whoever is responsible for a run is so for those that it started.</summary>
    private async Task TakeUpChildrenAsync(CancellationToken ct)
    {
        if (options.TakesUpUnfinishedRuns)
        {
            return;
        }

        await using var db = store.Open();
        foreach (var run in await db.Runs
            .Where(r => r.ParentRunId != null && (r.State == RunState.Pending || r.State == RunState.Running || r.State == RunState.Cancelling))
            .OrderBy(r => r.CreatedAt).Select(r => new { r.Id, Parent = r.ParentRunId!.Value }).ToListAsync(ct))
        {
            if (takenUp.ContainsKey(run.Parent))
            {
                takenUp[run.Id] = 0;
            }
        }
    }

    private bool IsMine(StageRunRow row) => IsMine(row.RunId);

    private bool IsMine(Guid runId) => options.TakesUpUnfinishedRuns || takenUp.ContainsKey(runId);

    /// <summary>One bad row must not keep the others waiting.</summary>
    private static async Task EachAsync(Func<Task> act)
    {
        try
        {
            await act();
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            Trace.TraceError(e.ToString());
        }
    }

    private async Task DispatchAsync(PipelineDbContext db, StageRunRow row, CancellationToken ct)
    {
        var bypass = await db.Runs.Where(r => r.Id == row.RunId).Select(r => r.BypassCache).SingleAsync(ct);
        if (!bypass && await keys.FindAsync(db, Digest.Parse(row.KeyDigest!), [], ct) is { } hit)
        {
            // While it waited another run made its outputs.
            await KeyAsync(row, StageKey.FromJson(row.KeyJson!), LookupResult.Of(hit.Row, hit.Outputs), [], [], [], ct);
        }
        else
        {
            await jobs.EnqueueAsync(row, ct);
        }
    }

    /// <summary>Beside the others: reading a large target must not delay the cancellation of another run.</summary>
    private void Prepare(StageRunRow row, CancellationToken ct)
    {
        if (preparing.ContainsKey(row.Id))
        {
            return;
        }

        preparing[row.Id] = Task.Run(
            async () =>
            {
                try
                {
                    await EachAsync(() => PrepareAsync(row, ct));
                }
                catch (OperationCanceledException)
                {
                    // The host stops; the row is still pending.
                }
                finally
                {
                    preparing.TryRemove(row.Id, out _);
                    Wake();
                }
            },
            CancellationToken.None);
    }

    /// <summary>Computes the key of a new stage run: cached, or queued.</summary>
    private async Task PrepareAsync(StageRunRow row, CancellationToken ct)
    {
        await using var db = store.Open();
        try
        {
            var stage = options.Stages.FirstOrDefault(s => s.Name == row.Stage)
                ?? throw new StageFailureException(FailureKind.Config, $"This host has no stage '{row.Stage}'.");
            var settings = JsonNode.Parse(row.SettingsJson)!.AsObject();
            var ports = await InputsAsync(db, row, stage, ct);
            var (key, paths) = await keys.BuildAsync(stage, settings, ports.ToDictionary(p => p.Port, p => Digest.Parse(p.Digest)), ct);
            ports.AddRange(key.Paths.Select(p => new StageRunPortRow { StageRunId = row.Id, Port = "setting:" + p.Key, Kind = "path", Digest = p.Value, External = true }));
            var run = await db.Runs.AsNoTracking().SingleAsync(r => r.Id == row.RunId, ct);
            var damaged = new List<BlobDamage>();
            var known = stage.IsLookup
                ? await Lookups.AnswerAsync(db, run.DefinitionId, stage.Name, settings, key, ct)
                : !run.BypassCache && await keys.FindAsync(db, key.ComputeDigest(), damaged, ct) is { } hit ? LookupResult.Of(hit.Row, hit.Outputs) : null;
            if (damaged.Count > 0)
            {
                await new Collector(store, options.Clock).EvictAsync(damaged, ct);
            }

            IReadOnlyList<string> reasons = known is not null ? [] : damaged.Count > 0
                ? [.. damaged.Select(d => $"an earlier artifact is damaged in the store: {d.Message}")]
                : await KeyBuilder.ExplainAsync(db, key, row.RunId, row.ActivityId, ct);
            Failpoint.Reach(Failpoint.BeforeKeyed);
            await KeyAsync(row, key, known, reasons, ports, [.. paths.Values], ct);
            Failpoint.Reach(Failpoint.Keyed);
        }
        catch (Exception e) when (e is not OperationCanceledException && !PipelineDatabase.IsTrouble(e))
        {
            // A row that cannot be prepared today cannot tomorrow: it says so instead of coming back for ever.
            await engine.CommitAsync(row.RunId, new StageFailed(row.ActivityInstanceId, e.Message), async (d, _) =>
            {
                var current = await d.StageRuns.SingleAsync(s => s.Id == row.Id, ct);
                if (current.State != StageRunState.Pending)
                {
                    return false;
                }

                (current.State, current.Failure, current.Hint, current.EndedAt) =
                    (RunStateMachine.Move(current.State, StageRunState.Failed), e.Message, (e as StageFailureException)?.Hint, Now);
                return true;
            }, ct);
        }
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

    /// <summary>One commit: what is known already ends the stage run with the earlier outputs, anything else is queued.</summary>
    private Task<bool> KeyAsync(
        StageRunRow row, StageKey key, LookupResult? known, IReadOnlyList<string> reasons, IReadOnlyList<StageRunPortRow> inputs, IReadOnlyList<PathContent> paths, CancellationToken ct) =>
        engine.CommitAsync(row.RunId, known is null ? null : new StageSucceeded(row.ActivityInstanceId, known.Outcome), async (d, _) =>
        {
            var current = await d.StageRuns.SingleAsync(s => s.Id == row.Id, ct);
            if (current.State != row.State)
            {
                return false;
            }

            current.KeyJson = key.ToJson();
            current.KeyDigest = key.ComputeDigest().ToString();
            current.MissReasonsJson = known is null ? JsonSerializer.Serialize(reasons) : null;
            d.Ports.AddRange(inputs);
            await AddFilesAsync(d, paths, ct);
            if (known is null)
            {
                current.State = RunStateMachine.Move(current.State, StageRunState.Queued);
                return true;
            }

            if (!await BlobLedger.ReuseAsync(d, known.Outputs.Select(o => o.Digest), ct))
            {
                // Collected since it was looked at: the next round finds that it is gone.
                return false;
            }

            current.State = RunStateMachine.Move(current.State, known.FromRunId is null ? StageRunState.Skipped : StageRunState.Cached);
            (current.Outcome, current.CachedFromRunId) = (known.Outcome, known.FromRunId);
            current.StartedAt = current.EndedAt = Now;
            d.Ports.AddRange(known.Outputs.Select(o => new StageRunPortRow { StageRunId = row.Id, IsOutput = true, Port = o.Port, Kind = o.Kind, Digest = o.Digest }));
            await d.SaveChangesAsync(ct);
            await DraftRegistry.ApplyAsync(d, store.Artifacts, current, known.Outputs, Now, ct);
            return true;
        }, ct);

    /// <summary>The files of each content that has none yet: equal content has equal files, wherever it lies now.</summary>
    private static async Task AddFilesAsync(PipelineDbContext db, IReadOnlyList<PathContent> paths, CancellationToken ct)
    {
        foreach (var content in paths.DistinctBy(p => p.Digest))
        {
            var digest = content.Digest.ToString();
            if (!await db.ExternalFiles.AnyAsync(f => f.Digest == digest, ct))
            {
                db.ExternalFiles.AddRange(content.Files.Select(f => new ExternalFileRow { Digest = digest, Path = f.Path, FileDigest = f.Digest, SizeBytes = f.SizeBytes }));
            }
        }
    }
}
