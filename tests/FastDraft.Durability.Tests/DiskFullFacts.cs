using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Server;
using FastDraft.TestKit;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

/// <summary>On a tmpfs of a few MiB in place of one folder of the data; mounting takes root, elsewhere these skip.</summary>
public sealed class DiskFullFacts : IDisposable
{
    private readonly TestPipeline pipeline = new();
    private readonly List<SmallDisk> mounted = [];

    public void Dispose()
    {
        mounted.ForEach(d => d.Dispose());
        pipeline.Dispose();
    }

    [Theory]
    [InlineData("scratch")]
    [InlineData("cas")]
    public async Task A_full_disk_fails_the_stage_with_needed_and_free_bytes_and_the_run_resumes_when_there_is_room(string name)
    {
        var disk = MountSmall(Path.Combine(pipeline.Data, name));
        await using var host = await pipeline.StartAsync();
        var run = await FinishAsync(host, Misbehave("fill", (SmallDisk.SizeMiB + 4) << 20));
        Assert.Equal((RunState.Failed, StageRunState.Failed, (int?)ExitCode.Io), (run.State, run.Stages[0].State, run.Stages[0].Attempts[0].ExitCode));
        Assert.Matches($"The disk of '.*{name}.*' is full: .* needs .*[0-9,]+ bytes.*free", run.Stages[0].Failure!);
        Assert.Equal(RunState.Succeeded, (await FinishAsync(host, MakeAndCopy())).State);

        disk.Grow();
        var again = await WaitAsync(host, await host.RetryAsync(run.Id));
        Assert.Equal(RunState.Succeeded, again.State);
        Assert.Contains(await host.Queries.LogsAsync(again.Id, "misbehave"), l => l.Contains("checkpoint True", StringComparison.Ordinal));
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task A_full_disk_of_the_database_ends_no_host_and_the_run_goes_on_when_there_is_room()
    {
        MountSmall(pipeline.Data);
        foreach (var name in new[] { "scratch", "cas", "resume" })
        {
            Directory.CreateDirectory(pipeline.PathOf(name));
            Directory.CreateSymbolicLink(Path.Combine(pipeline.Data, name), pipeline.PathOf(name));
        }

        var gate = pipeline.PathOf("gate");
        await using var host = await pipeline.StartAsync(6);
        var id = await SubmitAsync(host, MakeAndCopy(waitFor: gate));
        await LineAsync(host.Store, id, "waiting");
        var ballast = Path.Combine(pipeline.Data, "ballast");
        await using (var file = File.Create(ballast))
        {
            await Assert.ThrowsAsync<IOException>(async () =>
            {
                while (true)
                {
                    await file.WriteAsync(new byte[4096]);
                    await file.FlushAsync();
                }
            });
        }

        // Sqlite may still fit a page or two into its log; then nothing goes in until there is room again.
        await using (var db = host.Store.Open())
        {
            await Assert.ThrowsAnyAsync<Exception>(async () =>
            {
                while (true)
                {
                    db.PathDigests.Add(new Persistence.PathDigestRow { Path = Guid.CreateVersion7() + new string('x', 100_000) });
                    await db.SaveChangesAsync();
                }
            });
        }

        await UntilAsync(async () => (await pipeline.WorkersAsync()).Count == 0 || File.Exists(gate), "the attempt has fenced itself");
        File.Delete(ballast);
        await File.WriteAllTextAsync(gate, "");
        var run = await WaitAsync(host, id);
        if (run.State == RunState.Failed)
        {
            Assert.Equal(ExitCode.Io, run.Stages[0].Attempts[^1].ExitCode);
            Assert.Contains("the database needs more than", run.Stages[0].Failure!, StringComparison.Ordinal);
            run = await WaitAsync(host, await host.RetryAsync(id));
        }

        Assert.Equal(RunState.Succeeded, run.State);
        await pipeline.AssertInvariantsAsync();
    }

    private SmallDisk MountSmall(string folder)
    {
        var disk = SmallDisk.TryMount(folder);
        Assert.SkipWhen(disk is null, SmallDisk.Missing);
        mounted.Add(disk!);
        return disk!;
    }
}
