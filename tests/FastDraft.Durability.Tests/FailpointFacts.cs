using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Server;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Retention;
using Microsoft.EntityFrameworkCore;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

public abstract class FailpointFacts(TestDatabase database) : IDisposable
{
    private readonly TestPipeline pipeline = new(database);

    public static TheoryData<string> Points { get; } = [.. Failpoint.All.Order(StringComparer.Ordinal)];

    public void Dispose()
    {
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Theory]
    [MemberData(nameof(Points))]
    public async Task A_host_that_dies_there_loses_and_doubles_nothing(string point)
    {
        using (var dying = pipeline.StartHostProcess(MakeWaitAndCopy(), failpoint: point))
        {
            await dying.WaitForExitAsync();
            Assert.Equal(128 + 9, dying.ExitCode);
        }

        await using (var host = await pipeline.StartAsync())
        {
            var run = await WaitAsync(host, Assert.Single(await host.Queries.ListRunsAsync()).Id);
            Assert.Equal(RunState.Succeeded, run.State);
            Assert.All(run.Stages, s => Assert.InRange(s.Attempts.Count, 1, 2));
        }

        await pipeline.AssertInvariantsAsync();

        // What the dead attempt left is swept by the next host, and nothing that is referenced goes with it.
        await using (var next = await pipeline.StartAsync())
        {
            await next.Swept;
            Assert.Empty(Folders("scratch"));
            Assert.Empty(Folders("resume"));
            Assert.Empty(Folders("trash"));
            await new Collector(next.Store, TimeProvider.System).CollectAsync(new KeepRules(), TimeSpan.Zero, dryRun: false, CancellationToken.None);
            Assert.Equal(await ReferencedAsync(next.Store), Directory.EnumerateFiles(Path.Combine(pipeline.Data, "cas", "sha256"), "*", SearchOption.AllDirectories).Select(p => Path.GetFileName(p)!).ToHashSet());
        }

        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task A_stage_that_takes_its_host_with_it_every_time_fails_and_says_so()
    {
        using (var dying = pipeline.StartHostProcess(MakeAndCopy(), failpoint: Failpoint.Leased))
        {
            await dying.WaitForExitAsync();
        }

        Guid id;
        await using (var store = await pipeline.OpenAsync())
        await using (var db = store.Open())
        {
            // As if it had died so often before: each death leaves the epoch one ahead of the attempts.
            id = (await db.Runs.SingleAsync()).Id;
            await db.StageRuns.ExecuteUpdateAsync(u => u.SetProperty(s => s.LeaseEpoch, s => s.LeaseEpoch + RetryPolicy.MaxHostDeaths - 1));
            await db.Attempts.ExecuteUpdateAsync(u => u.SetProperty(a => a.LeaseEpoch, a => a.LeaseEpoch + RetryPolicy.MaxHostDeaths - 1));
        }

        await using var host = await pipeline.StartAsync();
        var run = await WaitAsync(host, id);
        Assert.Equal(RunState.Failed, run.State);
        Assert.Contains("The host died", run.Stages[0].Failure!, StringComparison.Ordinal);
        await pipeline.AssertInvariantsAsync();
    }

    private string[] Folders(string name) => Directory.Exists(Path.Combine(pipeline.Data, name)) ? Directory.GetDirectories(Path.Combine(pipeline.Data, name)) : [];

    private static async Task<HashSet<string>> ReferencedAsync(PipelineStore store)
    {
        var live = new HashSet<string>();
        foreach (var artifact in await store.Queries.ListArtifactsAsync())
        {
            var digest = Digest.Parse(artifact.Digest);
            live.Add(digest.Hex);
            live.UnionWith((await store.Artifacts.ManifestAsync(digest, CancellationToken.None)).Files.Select(f => f.Digest.Hex));
        }

        return live;
    }
}

public sealed class SqliteFailpointFacts() : FailpointFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlFailpointFacts() : FailpointFacts(TestDatabase.PostgreSql);
