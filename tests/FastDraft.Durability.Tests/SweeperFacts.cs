using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Dispatch;
using Microsoft.EntityFrameworkCore;
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

    [Fact]
    public async Task A_host_sweeps_as_long_as_it_lives_and_a_row_that_nobody_can_read_keeps_nothing_else()
    {
        await using var host = await PipelineHost.StartAsync(pipeline.Options() with { Clock = new ShortHours() });
        var id = await SubmitAsync(host, MakeAndCopy());
        var attempt = (await WaitAsync(host, id)).Stages[0].Attempts[0].Id;
        var numLines = (await host.Queries.LogsAsync(id, "make")).Count;
        await using var db = host.Store.Open();
        var unreadable = Directory.CreateDirectory(Path.Combine(pipeline.Data, "resume", Digest.OfBytes("x"u8).Hex)).FullName;
        // In one statement: a row that has the key and still succeeded would let the next sweep take the folder.
        await db.Database.ExecuteSqlRawAsync("UPDATE stage_runs SET \"KeyDigest\" = {0}, \"State\" = 'Unheard' WHERE \"ActivityId\" = 'copy'", Digest.OfBytes("x"u8).ToString());
        var dead = Directory.CreateDirectory(Path.Combine(pipeline.Data, "scratch", Guid.CreateVersion7().ToString("N"))).FullName;
        db.AttemptLog.Add(new AttemptLogRow { AttemptId = attempt, Number = 1_000_000, At = 1, Lines = "long ago\n" });
        await db.SaveChangesAsync();

        await UntilAsync(async () => !Directory.Exists(dead) && !await db.AttemptLog.AnyAsync(l => l.At == 1), "what is dead and what is old is gone");
        Assert.True(Directory.Exists(unreadable));
        Assert.Equal(numLines, (await host.Queries.LogsAsync(id, "make")).Count);
    }

    /// <summary>Between two sweeps a moment passes.</summary>
    private sealed class ShortHours : TimeProvider
    {
        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
            base.CreateTimer(callback, state, Shorter(dueTime), Shorter(period));

        private static TimeSpan Shorter(TimeSpan time) => time == Sweeper.Every ? TimeSpan.FromMilliseconds(50) : time;
    }
}
