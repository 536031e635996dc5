using FastDraft.Core.Runs;
using FastDraft.Server;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

public abstract class CancelFacts(TestDatabase database, ITestOutputHelper output) : IDisposable
{
    private readonly TestPipeline pipeline = new(database);

    public void Dispose()
    {
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task At_any_instant_the_process_tree_goes_within_ten_seconds_and_the_run_is_cancelled()
    {
        var instants = Series.Instants(output.WriteLine);
        await using var host = await PipelineHost.StartAsync(pipeline.Options() with { MaxParallelStages = 10 });
        var seconds = await Task.WhenAll(Enumerable.Range(0, Math.Min(100, Series.Length(10))).Select(n => (Number: n, After: instants.NextDouble() * 4)).Select(async n =>
        {
            var id = await SubmitAsync(host, MakeAndCopy(number: n.Number, waitFor: pipeline.PathOf("never")));
            await Task.Delay(TimeSpan.FromSeconds(n.After));
            var began = TimeProvider.System.GetTimestamp();
            Assert.True(await host.CancelAsync(id));
            var run = await WaitAsync(host, id);
            Assert.Equal(RunState.Cancelled, run.State);
            Assert.All(run.Stages, s => Assert.Equal(StageRunState.Cancelled, s.State));
            return TimeProvider.System.GetElapsedTime(began).TotalSeconds;
        }));
        output.WriteLine("seconds until cancelled: " + string.Join(" ", seconds.Order().Select(s => s.ToString("F1"))));
        Assert.InRange(seconds.Order().ElementAt((int)(seconds.Length * 0.95) - 1), 0, 10);
        Assert.Empty(await pipeline.WorkersAsync());
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task A_run_that_waits_its_turn_is_cancelled_at_once()
    {
        var gate = pipeline.PathOf("gate");
        await using var host = await pipeline.StartAsync();
        var first = await SubmitAsync(host, MakeAndCopy(number: 1, waitFor: gate));
        await LineAsync(host.Store, first, "waiting");
        var second = await SubmitAsync(host, MakeAndCopy(number: 2));
        await UntilAsync(async () => (await host.Queries.GetRunAsync(second))!.Stages is [{ State: StageRunState.Queued }, ..], "the second is queued");
        Assert.True(await host.CancelAsync(second));
        var run = await WaitAsync(host, second);
        Assert.Equal((RunState.Cancelled, StageRunState.Cancelled, 0), (run.State, run.Stages[0].State, run.Stages[0].Attempts.Count));
        Assert.False(await host.CancelAsync(second));
        await File.WriteAllTextAsync(gate, "");
        Assert.Equal(RunState.Succeeded, (await WaitAsync(host, first)).State);
    }

    [Fact]
    public async Task A_run_whose_host_was_killed_is_cancelled_by_any_other()
    {
        using var process = pipeline.StartHostProcess(MakeAndCopy(waitFor: pipeline.PathOf("never")));
        await using var host = await PipelineHost.StartAsync(pipeline.Options() with { TakesUpUnfinishedRuns = false });
        await UntilAsync(async () => (await host.Queries.ListRunsAsync()).Count == 1, "the run is there");
        var id = (await host.Queries.ListRunsAsync())[0].Id;
        await LineAsync(host.Store, id, "waiting");
        process.Kill();
        await process.WaitForExitAsync();
        Assert.True(await host.CancelAsync(id));
        Assert.Equal(RunState.Cancelled, (await WaitAsync(host, id)).State);
        await pipeline.AssertInvariantsAsync();
    }
}

public sealed class SqliteCancelFacts(ITestOutputHelper output) : CancelFacts(TestDatabase.Sqlite, output);

public sealed class PostgreSqlCancelFacts(ITestOutputHelper output) : CancelFacts(TestDatabase.PostgreSql, output);
