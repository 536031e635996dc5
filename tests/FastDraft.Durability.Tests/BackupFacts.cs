using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Server;
using FastDraft.Server.Retention;
using FastDraft.Storage;
using FastDraft.Storage.S3;
using FastDraft.TestKit;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

public sealed class BackupFacts : IDisposable
{
    private readonly TestPipeline pipeline = new();

    public void Dispose() => pipeline.Dispose();

    [Fact]
    public async Task What_is_copied_while_a_run_goes_on_is_whole_elsewhere_and_the_run_goes_on_there()
    {
        var (gate, folder) = (pipeline.PathOf("gate"), pipeline.PathOf("backup"));
        Guid id;
        await using (var host = await pipeline.StartAsync())
        {
            await FinishAsync(host, MakeAndCopy(number: 7));
            id = await SubmitAsync(host, MakeAndCopy(waitFor: gate));
            await LineAsync(host.Store, id, "waiting");
            var report = await Backup.WriteAsync(host.Store, folder, TestContext.Current.CancellationToken);
            Assert.Equal((true, 2), (report.HasDatabase, report.NumArtifacts));
            Assert.Equal(FailureKind.Config, (await Assert.ThrowsAsync<StageFailureException>(() => Backup.WriteAsync(host.Store, folder, CancellationToken.None))).Kind);
        }

        // The place it was copied from is gone.
        Directory.Delete(pipeline.Data, recursive: true);
        await File.WriteAllTextAsync(gate, "");
        await using (var restored = await PipelineHost.StartAsync(pipeline.Options() with { DataFolder = folder }))
        {
            foreach (var artifact in await restored.Queries.ListArtifactsAsync())
            {
                Assert.Empty(await restored.Store.Artifacts.VerifyAsync(Digest.Parse(artifact.Digest), VerifyDepth.Full, CancellationToken.None));
            }

            Assert.Equal(RunState.Succeeded, (await WaitAsync(restored, id)).State);
            Assert.All((await FinishAsync(restored, MakeAndCopy(number: 7))).Stages, s => Assert.Equal(StageRunState.Cached, s.State));
        }

        await pipeline.AssertInvariantsAsync(folder);
    }

    [Theory]
    [InlineData("file/backup")]
    [InlineData("file")]
    [InlineData("a\0b")]
    [InlineData("/proc/backup")]
    public async Task A_folder_that_cannot_be_made_is_named_with_the_reason(string folder)
    {
        await File.WriteAllTextAsync(pipeline.PathOf("file"), "");
        await using var store = await pipeline.OpenAsync();
        var refused = await Assert.ThrowsAsync<StageFailureException>(() => Backup.WriteAsync(store, pipeline.PathOf(folder), CancellationToken.None));
        Assert.Equal(FailureKind.Resource, refused.Kind);
        Assert.StartsWith($"A backup cannot be written into '{pipeline.PathOf(folder)}': ", refused.Message, StringComparison.Ordinal);
        Assert.NotNull(refused.Hint);
    }

    [Fact]
    public async Task A_dump_of_postgresql_and_then_a_copy_of_the_bucket_are_the_pipeline_again_and_its_run_goes_on()
    {
        Assert.SkipWhen(PostgreSqlServer.WhyNot is not null, PostgreSqlServer.Missing);
        Assert.SkipWhen(S3Server.Missing is not null, S3Server.Missing ?? "");
        const double leaseSeconds = 3;
        var postgres = await PostgreSqlServer.OfThisProcessAsync();
        await using var bucket = await S3Server.StartAsync();
        var settings = new PipelineSettings
        {
            Database = postgres.NewDatabase(), Store = new S3Settings { Endpoint = bucket.Address, Bucket = S3Server.Bucket, Prefix = "live", AccessKey = "tester", SecretKey = "tester-secret", CacheBytes = 0 },
        };
        var (gate, dump) = (pipeline.PathOf("gate"), pipeline.PathOf("fastdraft.dump"));
        Guid id;
        int numCopied;
        await using (var host = await PipelineHost.StartAsync(pipeline.Options(leaseSeconds) with { Settings = settings, MaxParallelStages = 2 }))
        {
            await FinishAsync(host, MakeAndCopy(number: 7));
            id = await SubmitAsync(host, MakeAndCopy(waitFor: gate));
            await LineAsync(host.Store, id, "waiting");
            postgres.Dump(settings.Database, dump);

            // What comes after the dump is in the copied bucket and named by no row of the restored database.
            await FinishAsync(host, MakeAndCopy(number: 8));
            numCopied = await bucket.CopyAsync("live/", "restored/");
        }

        Assert.InRange(numCopied, 6, int.MaxValue);
        await File.WriteAllTextAsync(gate, "");
        var elsewhere = settings with { Database = postgres.Restore(dump), Store = settings.Store with { Prefix = "restored" } };
        await using (var restored = await PipelineHost.StartAsync(pipeline.Options(leaseSeconds) with { DataFolder = pipeline.PathOf("elsewhere"), Settings = elsewhere }))
        {
            foreach (var artifact in await restored.Queries.ListArtifactsAsync())
            {
                Assert.Empty(await restored.Store.Artifacts.VerifyAsync(Digest.Parse(artifact.Digest), VerifyDepth.Full, CancellationToken.None));
            }

            Assert.Equal(RunState.Succeeded, (await WaitAsync(restored, id)).State);
            Assert.All((await FinishAsync(restored, MakeAndCopy(number: 7))).Stages, s => Assert.Equal(StageRunState.Cached, s.State));
            Assert.True((await restored.Queries.VerifyAuditAsync(null, CancellationToken.None)).IsIntact);
        }

        await pipeline.AssertInvariantsAsync(pipeline.PathOf("elsewhere"), elsewhere);
    }

    [Fact]
    public async Task Nothing_is_collected_while_a_backup_is_written()
    {
        await using var store = await pipeline.OpenAsync();
        var source = Directory.CreateDirectory(pipeline.PathOf("source")).FullName;
        await File.WriteAllTextAsync(Path.Combine(source, "a"), "orphan");
        await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, source, CancellationToken.None);
        var collector = new Collector(store, TimeProvider.System);
        await using (await Collector.HoldOffAsync(store, "a fact", TimeSpan.FromMinutes(5), CancellationToken.None))
        {
            await Assert.ThrowsAsync<StageFailureException>(() => collector.CollectAsync(new KeepRules(), TimeSpan.FromMinutes(-1), dryRun: false, CancellationToken.None));
        }

        Assert.Equal(2, (await collector.CollectAsync(new KeepRules(), TimeSpan.FromMinutes(-1), dryRun: false, CancellationToken.None)).NumBlobs);
    }
}
