using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

public sealed class SweeperFacts : IDisposable
{
    private readonly TestPipeline pipeline = new();

    public void Dispose() => pipeline.Dispose();

    [Fact]
    public async Task Another_host_that_starts_takes_nothing_from_a_live_attempt()
    {
        var gate = pipeline.PathOf("gate");
        await using var host = await pipeline.StartAsync();
        var id = await SubmitAsync(host, MakeAndCopy(waitFor: gate));
        await LineAsync(host.Store, id, "waiting");
        string[] live = [.. Directory.GetDirectories(Path.Combine(pipeline.Data, "scratch")), .. Directory.GetDirectories(Path.Combine(pipeline.Data, "resume"))];
        Assert.Equal(2, live.Length);
        string[] dead = ["scratch/" + Guid.CreateVersion7().ToString("N"), "reports/" + Digest.OfBytes("x"u8).Hex];
        string[] unknown = ["scratch/notes", "resume/mine"];
        foreach (var folder in dead.Concat(unknown))
        {
            Directory.CreateDirectory(Path.Combine(pipeline.Data, folder));
        }

        await using (var other = await pipeline.StartAsync())
        {
            await other.Swept;
        }

        Assert.All(live.Concat(unknown.Select(u => Path.Combine(pipeline.Data, u))), f => Assert.True(Directory.Exists(f), f));
        Assert.All(dead, f => Assert.False(Directory.Exists(Path.Combine(pipeline.Data, f)), f));
        await File.WriteAllTextAsync(gate, "");
        var run = await WaitAsync(host, id);
        Assert.Equal((RunState.Succeeded, 1), (run.State, run.Stages[0].Attempts.Count));
    }
}
