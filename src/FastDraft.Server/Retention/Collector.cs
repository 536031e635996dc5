using System.Globalization;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Lineage;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Storage;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Retention;

/// <summary>An artifact whose bytes go, or a blob that belongs to none.</summary>
/// <param name="Kind">Null: no artifact.</param>
/// <param name="SizeBytes">What is freed with it: blobs that other artifacts need stay.</param>
public sealed record CollectedItem(string Digest, string? Kind, long SizeBytes, string Why);

/// <param name="NumBlobs">Blobs deleted, or that would be.</param>
/// <param name="FreedBytes">Their bytes.</param>
/// <param name="NumAbandoned">Unfinished uploads and temporary files of writers that are gone.</param>
public sealed record CollectionReport(bool IsDryRun, IReadOnlyList<CollectedItem> Items, int NumBlobs, long FreedBytes, int NumAbandoned);

/// <summary>
/// Deletes blobs that nobody needs. What is needed is what the tables say; a blob is condemned in a transaction that writes its row, and
/// deleted after it. Whoever commits an artifact writes the same rows (<see cref="BlobLedger"/>), so no commit can miss it. A process
/// that dies in between leaves blobs that are condemned and still there: nobody references them, and the next pass finds them.
/// </summary>
public sealed class Collector(PipelineStore store, TimeProvider clock)
{
    private const int BlobsOfAPass = 1000;

    // A pass stops deleting long before others may believe it over: a delete that hangs until its store gives up is over by then, too.
    private static readonly TimeSpan PassMayDelete = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan PassIsOver = TimeSpan.FromMinutes(15);

    /// <summary>Between the transaction that condemns and the first delete; for facts that put something there.</summary>
    internal Func<Task> Condemned { get; init; } = () => Task.CompletedTask;

    /// <param name="grace">How old a blob must be that no artifact ever named: its commit may be on the way.</param>
    /// <exception cref="StageFailureException">Another collection is at work, or a manifest is damaged, so that nobody knows which blobs are whose.</exception>
    public async Task<CollectionReport> CollectAsync(KeepRules rules, TimeSpan grace, bool dryRun, CancellationToken ct)
    {
        await LearnBlobsAsync(ct);
        var before = clock.GetUtcNow() - grace;
        Verdict verdict;
        await using (var db = store.Open())
        {
            verdict = await JudgeAsync(db, rules, ct);
        }

        var items = new Dictionary<string, CollectedItem>(StringComparer.Ordinal);
        var dead = new List<StoredBlob>();
        await foreach (var blob in store.Artifacts.ListAsync(ct))
        {
            var digest = blob.Digest.ToString();
            if (verdict.IsNeeded(digest))
            {
                continue;
            }

            if (verdict.CondemnedFor(digest) is { } artifact)
            {
                var item = items.GetValueOrDefault(artifact.Digest) ?? new CollectedItem(artifact.Digest, artifact.Kind, 0, artifact.Why);
                items[artifact.Digest] = item with { SizeBytes = item.SizeBytes + blob.SizeBytes };
                dead.Add(blob);
            }
            else if (blob.Modified < before)
            {
                items[digest] = new CollectedItem(digest, null, blob.SizeBytes, string.Create(CultureInfo.InvariantCulture, $"no artifact needs it, stored {blob.Modified:yyyy-MM-dd HH:mm}Z"));
                dead.Add(blob);
            }
        }

        if (dryRun)
        {
            return new CollectionReport(true, [.. items.Values], dead.Count, dead.Sum(b => b.SizeBytes), 0);
        }

        var deleted = new List<StoredBlob>();
        foreach (var chunk in dead.Chunk(BlobsOfAPass))
        {
            deleted.AddRange(await PassAsync(chunk, rules, ct));
        }

        // A writer that is slower than the grace puts its file again.
        var abandoned = await store.Artifacts.RemoveAbandonedAsync(grace, ct);
        return new CollectionReport(false, [.. items.Values], deleted.Count, deleted.Sum(b => b.SizeBytes), abandoned);
    }

    /// <summary>Deletes damaged blobs, so that nobody reads them again and what made them runs again. False: a collection is at work; the damage is found again.</summary>
    public async Task<bool> EvictAsync(IEnumerable<BlobDamage> damage, CancellationToken ct)
    {
        var blobs = damage.Select(d => d.Blob.ToString()).Distinct().ToList();
        try
        {
            return await DeleteAsync("it was damaged in the store", async db => (await db.Blobs.Where(b => blobs.Contains(b.Digest)).ToDictionaryAsync(b => b.Digest, ct), blobs), ct) is not null;
        }
        catch (CollectionAtWorkException)
        {
            return false;
        }
    }

    /// <summary>Keeps every collection from beginning until it is disposed: a pass of its own that condemns nothing.</summary>
    /// <param name="renewEvery">It says so often that it is still there; a process that dies holds nobody off for long.</param>
    /// <exception cref="StageFailureException">A collection is at work.</exception>
    internal static async Task<IAsyncDisposable> HoldOffAsync(PipelineStore store, string why, TimeSpan renewEvery, CancellationToken ct)
    {
        long id = 0;
        try
        {
            await store.Database.TransactAsync(async db => (id = await BeginAsync(db, why, ct)) > 0, ct);
        }
        catch (CollectionAtWorkException)
        {
            throw AtWork();
        }

        return new Held(store, id, renewEvery);
    }

    private async Task<IReadOnlyList<StoredBlob>> PassAsync(IReadOnlyList<StoredBlob> candidates, KeepRules rules, CancellationToken ct)
    {
        var digests = candidates.Select(b => b.Digest.ToString()).ToList();
        try
        {
            var deleted = await DeleteAsync(rules.KeepAll ? "no artifact needed it" : $"no rule kept it: {rules}", async db =>
            {
                // The rows first, and then who needs them: a commit in between raises a row's version, and this begins again.
                var rows = await db.Blobs.Where(b => digests.Contains(b.Digest)).ToDictionaryAsync(b => b.Digest, ct);
                var verdict = await JudgeAsync(db, rules, ct);
                return (rows, digests.FindAll(d => !verdict.IsNeeded(d)));
            }, ct);
            return [.. candidates.Where(b => deleted.Contains(b.Digest.ToString()))];
        }
        catch (CollectionAtWorkException)
        {
            throw AtWork();
        }
    }

    private static StageFailureException AtWork() => new(FailureKind.Infrastructure, "A collection or a backup is at work.", "wait for it; one that died is over after a quarter of an hour");

    /// <summary>The row of a new pass, in the caller's transaction. Its id.</summary>
    private static async Task<long> BeginAsync(PipelineDbContext db, string why, CancellationToken ct)
    {
        if (await BlobLedger.Alive(db).AnyAsync(ct))
        {
            throw new CollectionAtWorkException();
        }

        // Counted here and not by the database: ids must be in the order of their transactions, and of two at once one begins again.
        var id = (await db.Collections.MaxAsync(c => (long?)c.Id, ct) ?? 0) + 1;
        db.Collections.Add(new CollectionRow { Id = id, Why = why });
        await db.SaveChangesAsync(ct);
        await RenewAsync(db, id, ct);
        await db.Collections.Where(c => c.Id == id).ExecuteUpdateAsync(u => u.SetProperty(c => c.StartedAt, c => PipelineDbContext.DatabaseNow()), ct);
        return id;
    }

    private static Task RenewAsync(PipelineDbContext db, long id, CancellationToken ct)
    {
        var over = (long)PassIsOver.TotalMilliseconds;
        return db.Collections.Where(c => c.Id == id).ExecuteUpdateAsync(u => u.SetProperty(c => c.ExpiresAt, c => PipelineDbContext.DatabaseNow() + over), ct);
    }

    private static async Task EndAsync(PipelineStore store, long id)
    {
        await using var db = store.Open();
        await db.Collections.Where(c => c.Id == id).ExecuteUpdateAsync(u => u.SetProperty(c => c.EndedAt, c => PipelineDbContext.DatabaseNow()), CancellationToken.None);
    }

    /// <summary>Condemns what <paramref name="choose"/> names, in one transaction with its rows, and then deletes it. What was deleted.</summary>
    private async Task<IReadOnlySet<string>> DeleteAsync(string why, Func<PipelineDbContext, Task<(Dictionary<string, BlobRow> Rows, List<string> Condemned)>> choose, CancellationToken ct)
    {
        var began = clock.GetTimestamp();
        long id = 0;
        List<string> condemned = [];
        await store.Database.TransactAsync(async db =>
        {
            (var rows, condemned) = await choose(db);
            if (condemned.Count == 0)
            {
                return false;
            }

            db.Remember(new AuditEntry(AuditAction.ArtifactCollected, condemned[0], Details: new System.Text.Json.Nodes.JsonObject { ["why"] = why, ["blobs"] = condemned.Count }));
            id = await BeginAsync(db, why, ct);
            foreach (var digest in condemned)
            {
                var row = rows.GetValueOrDefault(digest) ?? db.Blobs.Add(new BlobRow { Digest = digest }).Entity;
                row.CollectionId = id;
                row.Version++;
            }

            return true;
        }, ct);

        await Condemned();
        var deleted = new HashSet<string>(StringComparer.Ordinal);
        try
        {
            foreach (var digest in condemned)
            {
                // Looked at before each: a process that was stopped for longer wakes to find that it may no longer.
                if (clock.GetElapsedTime(began) > PassMayDelete)
                {
                    break;
                }

                await store.Artifacts.DeleteAsync(Digest.Parse(digest), ct);
                deleted.Add(digest);
            }
        }
        finally
        {
            // Even where a delete failed: after this, nothing of this pass is under way.
            if (condemned.Count > 0)
            {
                await EndAsync(store, id);
            }
        }

        return deleted;
    }

    /// <summary>Artifacts of versions that did not record their blobs: their manifests say.</summary>
    private async Task LearnBlobsAsync(CancellationToken ct)
    {
        List<string> unknown;
        await using (var db = store.Open())
        {
            unknown = await db.Artifacts.Where(a => !db.Blobs.Any(b => b.Digest == a.Digest)).Select(a => a.Digest).ToListAsync(ct);
        }

        foreach (var text in unknown)
        {
            if (!Digest.TryParse(text, out var digest))
            {
                // No version wrote it, so no bytes can be its own.
                continue;
            }

            if ((await store.Artifacts.VerifyAsync(digest, VerifyDepth.Cheap, ct)).Any(d => d.Blob == digest && d.IsMissing))
            {
                // Nobody can read it any more, whatever of its files is left.
                continue;
            }

            var manifest = await store.Artifacts.ManifestAsync(digest, ct);
            await store.Database.TransactAsync(async db =>
            {
                await BlobLedger.ReferenceAsync(db, digest, manifest, long.MaxValue, ct);
                return true;
            }, ct);
        }
    }

    private async Task<Verdict> JudgeAsync(PipelineDbContext db, KeepRules rules, CancellationToken ct)
    {
        var collected = (await db.Blobs.Where(b => b.CollectionId != null).Select(b => b.Digest).ToListAsync(ct)).ToHashSet(StringComparer.Ordinal);
        var artifacts = (await db.Artifacts.AsNoTracking().ToListAsync(ct)).FindAll(a => !collected.Contains(a.Digest));
        var blobs = (await db.ArtifactBlobs.AsNoTracking().ToListAsync(ct)).ToLookup(b => b.ArtifactDigest, b => b.BlobDigest, StringComparer.Ordinal);
        var condemned = rules.KeepAll ? [] : await CondemnAsync(db, rules, artifacts, ct);
        return new Verdict(artifacts, condemned, blobs);
    }

    /// <summary>The artifacts that no rule keeps, and why for each.</summary>
    private async Task<Dictionary<string, string>> CondemnAsync(PipelineDbContext db, KeepRules rules, IReadOnlyList<ArtifactRow> artifacts, CancellationToken ct)
    {
        var runs = await db.Runs.AsNoTracking().Select(r => new { r.Id, r.DefinitionId, r.State, r.CreatedAt, r.WorkflowName }).ToListAsync(ct);
        var since = rules.Newer is { } newer ? (clock.GetUtcNow() - newer).ToUnixTimeMilliseconds() : long.MaxValue;
        var last = rules.LastRuns is { } number
            ? runs.GroupBy(r => r.DefinitionId).SelectMany(g => g.OrderByDescending(r => r.CreatedAt).ThenByDescending(r => r.Id).Take(number)).Select(r => r.Id).ToHashSet()
            : [];
        var kept = runs.Where(r => !RunStateMachine.IsTerminal(r.State) || r.CreatedAt >= since || last.Contains(r.Id)).Select(r => r.Id).ToHashSet();

        var ports = await (from p in db.Ports join s in db.StageRuns on p.StageRunId equals s.Id select new { p.StageRunId, p.IsOutput, p.Port, p.Digest, s.RunId }).AsNoTracking().ToListAsync(ct);
        var needed = ports.Where(p => kept.Contains(p.RunId)).Select(p => p.Digest).ToHashSet(StringComparer.Ordinal);
        needed.UnionWith(await db.Pins.Select(p => p.ArtifactDigest).ToListAsync(ct));

        var drafts = await db.Drafts.Select(d => new { d.ModelDigest, d.EvaluationDigest }).ToListAsync(ct);
        var promotions = await db.DraftAliasMoves.Where(m => m.PromotionDigest != null).Select(m => m.PromotionDigest!).ToListAsync(ct);
        var graph = new LineageGraph(ports.Select(p => p.IsOutput ? new LineageEdge("stage:" + p.StageRunId, p.Digest, p.Port) : new LineageEdge(p.Digest, "stage:" + p.StageRunId, p.Port)));
        foreach (var root in drafts.SelectMany(d => new[] { d.ModelDigest, d.EvaluationDigest }).Concat(promotions).Distinct())
        {
            needed.Add(root);
            needed.UnionWith(graph.Upstream(root).Select(e => e.From));
        }

        var maker = ports.Where(p => p.IsOutput).GroupBy(p => p.Digest).ToDictionary(g => g.Key, g => g.MaxBy(p => p.StageRunId)!.RunId, StringComparer.Ordinal);
        var byId = runs.ToDictionary(r => r.Id);
        return artifacts.Where(a => !needed.Contains(a.Digest)).ToDictionary(
            a => a.Digest,
            a => maker.TryGetValue(a.Digest, out var id) && byId.TryGetValue(id, out var run)
                ? string.Create(CultureInfo.InvariantCulture, $"its newest run, {run.WorkflowName} of {DateTimeOffset.FromUnixTimeMilliseconds(run.CreatedAt):yyyy-MM-dd HH:mm}Z, is kept by no rule")
                : "it belongs to no run",
            StringComparer.Ordinal);
    }

    private sealed class CollectionAtWorkException : Exception;

    private sealed class Held : IAsyncDisposable
    {
        private readonly CancellationTokenSource ended = new();
        private readonly PipelineStore store;
        private readonly long id;
        private readonly Task renewing;

        public Held(PipelineStore store, long id, TimeSpan every)
        {
            (this.store, this.id) = (store, id);
            renewing = RenewAsync(every);
        }

        public async ValueTask DisposeAsync()
        {
            await ended.CancelAsync();
            await renewing;
            ended.Dispose();
            await EndAsync(store, id);
        }

        private async Task RenewAsync(TimeSpan every)
        {
            using var timer = new PeriodicTimer(every);
            try
            {
                while (await timer.WaitForNextTickAsync(ended.Token))
                {
                    await using var db = store.Open();
                    await Collector.RenewAsync(db, id, ended.Token);
                }
            }
            catch (OperationCanceledException)
            {
                // It is over.
            }
            catch (Exception e) when (PipelineDatabase.IsTrouble(e))
            {
                System.Diagnostics.Trace.TraceWarning("A backup could not say that it is still at work: " + e.Message);
            }
        }
    }

    private sealed record CondemnedArtifact(string Digest, string Kind, string Why);

    /// <summary>Which blobs are needed, and for which artifact one that is not has been condemned.</summary>
    private sealed class Verdict
    {
        private readonly HashSet<string> needed = new(StringComparer.Ordinal);
        private readonly Dictionary<string, CondemnedArtifact> condemned = new(StringComparer.Ordinal);

        public Verdict(IReadOnlyList<ArtifactRow> artifacts, Dictionary<string, string> condemnedArtifacts, ILookup<string, string> blobs)
        {
            foreach (var artifact in artifacts)
            {
                IEnumerable<string> digests = blobs[artifact.Digest].Append(artifact.Digest);
                if (!condemnedArtifacts.TryGetValue(artifact.Digest, out var why))
                {
                    needed.UnionWith(digests);
                    continue;
                }

                foreach (var digest in digests)
                {
                    condemned.TryAdd(digest, new CondemnedArtifact(artifact.Digest, artifact.Kind, why));
                }
            }
        }

        public bool IsNeeded(string blob) => needed.Contains(blob);

        public CondemnedArtifact? CondemnedFor(string blob) => condemned.GetValueOrDefault(blob);
    }
}
