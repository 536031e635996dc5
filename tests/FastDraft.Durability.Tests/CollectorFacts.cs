using FastDraft.Core.Artifacts;
using FastDraft.Core.Lineage;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Lineage;
using FastDraft.Server;
using FastDraft.Server.Retention;
using FastDraft.Storage;
using FastDraft.Storage.S3;
using FastDraft.TestKit;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Durability.Tests;

/// <summary>What garbage collection may never take and must take in the end, beside commits and wherever it dies.</summary>
public abstract class CollectorFacts(TestDatabase database, bool inBucket, ITestOutputHelper output) : IAsyncLifetime
{
    private readonly TestPipeline pipeline = new(database);
    private S3Server? server;
    private PipelineStore store = null!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        Assert.SkipWhen(inBucket && S3Server.Missing is not null, S3Server.Missing ?? "");
        server = inBucket ? await S3Server.StartAsync() : null;
        var bucket = server is null ? null : new S3Settings { Endpoint = server.Address, Bucket = S3Server.Bucket, Prefix = "gc", AccessKey = "tester", SecretKey = "tester-secret", CacheBytes = 0 };
        store = await pipeline.OpenAsync(settings: pipeline.Settings with { Store = bucket });
    }

    public async ValueTask DisposeAsync()
    {
        if (store is not null)
        {
            await store.DisposeAsync();
        }

        if (server is not null)
        {
            await server.DisposeAsync();
        }

        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task What_no_artifact_names_goes_when_it_is_old_and_what_one_names_stays()
    {
        var (kept, _) = await PublishAsync("kept");
        await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, Source("orphan"), Token);
        Assert.Equal(0, (await CollectAsync(KeepRules.DefaultGrace)).NumBlobs);

        var plan = await new Collector(store, TimeProvider.System).CollectAsync(new KeepRules(), TimeSpan.FromMinutes(-1), dryRun: true, Token);
        Assert.Equal((true, 2, 2), (plan.IsDryRun, plan.NumBlobs, plan.Items.Count));
        Assert.All(plan.Items, i => Assert.Contains("no artifact needs it", i.Why, StringComparison.Ordinal));
        Assert.Equal(plan.NumBlobs, (await CollectAsync()).NumBlobs);
        Assert.Equal(0, (await CollectAsync()).NumBlobs);
        Assert.Empty(await store.Artifacts.VerifyAsync(kept, VerifyDepth.Full, Token));
    }

    [Fact]
    public async Task A_row_whose_digest_nobody_can_read_keeps_no_garbage()
    {
        await using (var db = store.Open())
        {
            db.Artifacts.Add(new ArtifactRow { Digest = "sha256:none", Kind = ArtifactKind.Corpus, SizeBytes = 1, NumFiles = 1, CreatedAt = 1 });
            await db.SaveChangesAsync(Token);
        }

        await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, Source("orphan"), Token);
        Assert.Equal(2, (await CollectAsync()).NumBlobs);
    }

    [Fact]
    public async Task A_commit_whose_bytes_are_condemned_meanwhile_is_refused_and_puts_them_again()
    {
        // Old bytes that nobody names: whoever needs the same relies on them, or puts them again just before they are deleted.
        await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, Source("same"), Token);
        var lastOver = await LastOverAsync();
        var put = await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, Source("same"), Token);
        var refused = 0;
        await new Collector(store, TimeProvider.System)
        {
            Condemned = async () =>
            {
                await Assert.ThrowsAsync<CollectedMeanwhileException>(() => CommitAsync(put.Digest, put.Manifest, lastOver));
                refused++;
            },
        }.CollectAsync(new KeepRules(), TimeSpan.FromMinutes(-1), dryRun: false, Token);
        Assert.Equal(1, refused);
        await Assert.ThrowsAsync<CollectedMeanwhileException>(() => CommitAsync(put.Digest, put.Manifest, lastOver));

        lastOver = await BlobLedger.WaitUntilOverAsync(store, Token);
        put = await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, Source("same"), Token);
        await CommitAsync(put.Digest, put.Manifest, lastOver);
        await CollectAsync();
        Assert.Empty(await store.Artifacts.VerifyAsync(put.Digest, VerifyDepth.Full, Token));
    }

    [Fact]
    public async Task A_collection_that_dies_blocks_nobody_for_long_and_the_next_finishes_its_work()
    {
        await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, Source("same"), Token);
        var lastOver = await LastOverAsync();
        var condemned = new TaskCompletionSource();
        _ = new Collector(store, TimeProvider.System) { Condemned = async () => { condemned.SetResult(); await Task.Delay(Timeout.Infinite, Token); } }
            .CollectAsync(new KeepRules(), TimeSpan.FromMinutes(-1), dryRun: false, Token);
        await condemned.Task;

        Assert.Equal(FailureKind.Infrastructure, (await Assert.ThrowsAsync<StageFailureException>(() => CollectAsync())).Kind);
        var put = await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, Source("same"), Token);
        await Assert.ThrowsAsync<CollectedMeanwhileException>(() => CommitAsync(put.Digest, put.Manifest, lastOver));
        Assert.Equal(lastOver, await LastOverAsync());

        await using (var db = store.Open())
        {
            // As if its quarter of an hour were over.
            await db.Collections.ExecuteUpdateAsync(u => u.SetProperty(c => c.ExpiresAt, 1), Token);
        }

        lastOver = await BlobLedger.WaitUntilOverAsync(store, Token);
        await CommitAsync(put.Digest, put.Manifest, lastOver);
        await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, Source("other"), Token);
        Assert.Equal(2, (await CollectAsync()).NumBlobs);
        Assert.Empty(await store.Artifacts.VerifyAsync(put.Digest, VerifyDepth.Full, Token));
    }

    [Fact]
    public async Task A_run_that_no_rule_keeps_loses_bytes_and_keeps_rows_and_drafts_pins_and_live_runs_lose_nothing()
    {
        var old = await RunAsync("pretrain", daysAgo: 40, RunState.Succeeded, ("corpus", "old corpus"), ("shared", "shared"));
        var shipped = await RunAsync("pretrain", daysAgo: 39, RunState.Succeeded, ("origin", "origin of the draft"), ("draft", "the draft"));
        var pinned = await RunAsync("pretrain", daysAgo: 38, RunState.Succeeded, ("model", "pinned"));
        var live = await RunAsync("pretrain", daysAgo: 37, RunState.Running, ("model", "of a live run"));
        var recent = await RunAsync("pretrain", daysAgo: 1, RunState.Succeeded, ("model", "recent"), ("shared", "shared"));
        await using (var db = store.Open())
        {
            db.Drafts.Add(new DraftRow { Id = Guid.CreateVersion7(), Name = "d", Version = 1, ModelDigest = shipped[1], EvaluationDigest = shipped[1], CreatedAt = 1 });
            await db.SaveChangesAsync(Token);
        }

        await Pins.PinAsync(store, pinned[0], "for the paper", "somebody", TimeProvider.System.GetUtcNow(), Token);
        var rules = new KeepRules(LastRuns: 1, Newer: TimeSpan.FromDays(30));
        var plan = await new Collector(store, TimeProvider.System).CollectAsync(rules, KeepRules.DefaultGrace, dryRun: true, Token);
        Assert.Equal(old[0], Assert.Single(plan.Items).Digest);
        Assert.Contains("kept by no rule", plan.Items[0].Why, StringComparison.Ordinal);
        await new Collector(store, TimeProvider.System).CollectAsync(rules, KeepRules.DefaultGrace, dryRun: false, Token);

        Assert.NotEmpty(await store.Artifacts.VerifyAsync(Digest.Parse(old[0]), VerifyDepth.Cheap, Token));
        foreach (var kept in old[1..].Concat(shipped).Concat(pinned).Concat(live).Concat(recent))
        {
            Assert.Empty(await store.Artifacts.VerifyAsync(Digest.Parse(kept), VerifyDepth.Full, Token));
        }

        Assert.NotNull(await store.Queries.GetArtifactAsync(old[0]));
        Assert.NotEmpty((await store.Queries.LineageAsync(new LineageQuery(old[0], LineageDirection.Upstream), Token)).Edges);
        Assert.Contains("the last 1 runs", (await Pins.ShowAsync(store, old[0], Token)).Collected!.Why, StringComparison.Ordinal);
        Assert.Equal("for the paper", (await Pins.ShowAsync(store, pinned[0], Token)).Pin!.Reason);
        Assert.Null((await Pins.ShowAsync(store, pinned[0], Token)).Collected);
        await Assert.ThrowsAsync<StageFailureException>(() => Pins.PinAsync(store, old[0], "too late", "somebody", TimeProvider.System.GetUtcNow(), Token));

        // What was collected can be made again.
        await PublishAsync("old corpus");
        Assert.Null((await Pins.ShowAsync(store, old[0], Token)).Collected);
        Assert.Empty(await store.Artifacts.VerifyAsync(Digest.Parse(old[0]), VerifyDepth.Full, Token));
    }

    [Fact]
    public async Task Beside_commits_no_blob_goes_that_a_row_names()
    {
        var numCycles = Series.IsFull ? 1000 : 15;
        using var ended = new CancellationTokenSource();
        var (commits, refusals, forgotten, cycles, deleted) = (0, 0, 0, 0, 0);

        // A few contents, over and over: each is put, named, forgotten, garbage and needed again, by four at once. What one names is its
        // own, so that only it forgets it; its bytes are everybody's.
        var publishers = Enumerable.Range(0, 4).Select(async n =>
        {
            var random = new Random(n);
            while (!ended.IsCancellationRequested)
            {
                var (digest, numRefused) = await PublishAsync("content " + random.Next(6), "publisher " + n);
                Interlocked.Increment(ref commits);
                Interlocked.Add(ref refusals, numRefused);
                Assert.Empty(await store.Artifacts.VerifyAsync(digest, VerifyDepth.Full, Token));
                if (random.Next(2) == 0)
                {
                    await ForgetAsync(digest);
                    Interlocked.Increment(ref forgotten);
                }
            }
        }).ToList();
        try
        {
            for (; cycles < numCycles || commits < numCycles; cycles++)
            {
                deleted += (await CollectAsync()).NumBlobs;
            }
        }
        finally
        {
            await ended.CancelAsync();
        }

        await Task.WhenAll(publishers);
        await CollectAsync();
        List<string> named;
        await using (var db = store.Open())
        {
            named = await db.Artifacts.Select(a => a.Digest).ToListAsync(Token);
        }

        output.WriteLine($"{cycles} collections deleted {deleted} blobs beside {commits} commits, {refusals} refused and put again, {forgotten} forgotten; {named.Count} artifacts named at the end");
        foreach (var digest in named)
        {
            Assert.Empty(await store.Artifacts.VerifyAsync(Digest.Parse(digest), VerifyDepth.Full, Token));
        }
    }

    private Task<CollectionReport> CollectAsync(TimeSpan? grace = null) =>
        new Collector(store, TimeProvider.System).CollectAsync(new KeepRules(), grace ?? TimeSpan.FromMinutes(-1), dryRun: false, Token);

    /// <summary>As an attempt publishes: until the commit is taken. How often it was refused.</summary>
    private async Task<(Digest Digest, int NumRefused)> PublishAsync(string content, string? owner = null)
    {
        var lastOver = await LastOverAsync();
        for (var refused = 0; ; refused++)
        {
            var (digest, manifest) = await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, Source(content, owner), Token);
            try
            {
                await CommitAsync(digest, manifest, lastOver);
                return (digest, refused);
            }
            catch (CollectedMeanwhileException)
            {
                lastOver = await BlobLedger.WaitUntilOverAsync(store, Token);
            }
        }
    }

    private Task CommitAsync(Digest digest, ArtifactManifest manifest, long lastOver, Guid? stageRun = null) => store.Database.TransactAsync(async db =>
    {
        if (await db.Artifacts.FindAsync([digest.ToString()], Token) is null)
        {
            db.Artifacts.Add(new ArtifactRow { Digest = digest.ToString(), Kind = manifest.Kind, SizeBytes = manifest.SizeBytes, NumFiles = manifest.Files.Count, CreatedAt = 1, StageRunId = stageRun });
        }

        await BlobLedger.ReferenceAsync(db, digest, manifest, lastOver, Token);
        return true;
    }, Token);

    /// <summary>As if it had never been committed; its blobs are garbage from then on.</summary>
    private async Task ForgetAsync(Digest digest)
    {
        await using var db = store.Open();
        var text = digest.ToString();
        await db.Artifacts.Where(a => a.Digest == text).ExecuteDeleteAsync(Token);
    }

    private async Task<long> LastOverAsync()
    {
        await using var db = store.Open();
        return await BlobLedger.LastOverAsync(db, Token);
    }

    /// <summary>A run of one stage with these outputs, as rows. The outputs' digests; each is made from the one before it.</summary>
    private async Task<string[]> RunAsync(string workflow, int daysAgo, RunState state, params (string Port, string Content)[] outputs)
    {
        var at = (TimeProvider.System.GetUtcNow() - TimeSpan.FromDays(daysAgo)).ToUnixTimeMilliseconds();
        var run = Guid.CreateVersion7();
        await using (var db = store.Open())
        {
            db.Runs.Add(new RunRow { Id = run, WorkflowName = workflow, DefinitionId = workflow, State = state, CreatedAt = at, EndedAt = at });
            await db.SaveChangesAsync(Token);
        }

        var digests = new List<string>();
        foreach (var (port, content) in outputs)
        {
            var stage = Guid.CreateVersion7();
            var (digest, _) = await PublishAsync(content);
            await using var db = store.Open();
            db.StageRuns.Add(new StageRunRow { Id = stage, RunId = run, ActivityInstanceId = port, ActivityId = port, Stage = "Make", State = StageRunState.Succeeded, CreatedAt = at, EndedAt = at });
            db.Ports.Add(new StageRunPortRow { StageRunId = stage, IsOutput = true, Port = port, Kind = ArtifactKind.Corpus, Digest = digest.ToString() });
            if (digests.Count > 0)
            {
                db.Ports.Add(new StageRunPortRow { StageRunId = stage, Port = "from", Kind = ArtifactKind.Corpus, Digest = digests[^1] });
            }

            await db.SaveChangesAsync(Token);
            digests.Add(digest.ToString());
        }

        return [.. digests];
    }

    private string Source(string content, string? owner = null)
    {
        var folder = pipeline.PathOf(Guid.CreateVersion7().ToString("N"));
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "text"), content);
        if (owner is not null)
        {
            File.WriteAllText(Path.Combine(folder, "owner"), owner);
        }

        return folder;
    }
}

public sealed class SqliteCollectorFacts(ITestOutputHelper output) : CollectorFacts(TestDatabase.Sqlite, inBucket: false, output);

public sealed class PostgreSqlS3CollectorFacts(ITestOutputHelper output) : CollectorFacts(TestDatabase.PostgreSql, inBucket: true, output);
