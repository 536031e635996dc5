using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Server;
using FastDraft.Server.Worker;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

public sealed class WorkerFacts(ITestOutputHelper output) : IDisposable
{
    private readonly TestPipeline pipeline = new();

    public void Dispose() => pipeline.Dispose();

    [Fact]
    public async Task A_killed_worker_is_retried_and_the_run_succeeds()
    {
        await using var host = await pipeline.StartAsync();
        var run = await FinishAsync(host, MakeAndCopy(dieOnce: true));
        Assert.Equal(RunState.Succeeded, run.State);
        Assert.Equal([StageRunState.Crashed, StageRunState.Succeeded], run.Stages[0].Attempts.Select(a => a.State));
        Assert.Contains("killed by signal 9", run.Stages[0].Attempts[0].Failure!, StringComparison.Ordinal);
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task Metrics_are_in_the_database_while_the_stage_works_and_survive_its_death()
    {
        await using var host = await pipeline.StartAsync();
        var id = await SubmitAsync(host, MakeAndCopy(waitFor: pipeline.PathOf("never")));
        await UntilAsync(async () => (await host.Queries.MetricsAsync(id)).Count == 1, "the metric is in the database");
        await host.CancelAsync(id);
        await WaitAsync(host, id);
        Assert.Equal(0.5, Assert.Single(await host.Queries.MetricsAsync(id)).Value);
    }

    [Fact]
    public async Task Malformed_protocol_lines_are_text_and_what_follows_is_kept()
    {
        await using var host = await pipeline.StartAsync();
        var run = await FinishAsync(host, Misbehave("malformed"));
        Assert.Equal(RunState.Succeeded, run.State);
        Assert.Equal("survived", Assert.Single(await host.Queries.MetricsAsync(run.Id)).Name);
    }

    [Fact]
    public async Task A_flood_without_a_line_feed_does_not_grow_the_host()
    {
        // 64 MiB with every build, the full gigabyte on request.
        var bytes = (Environment.GetEnvironmentVariable("FASTDRAFT_FLOOD_BYTES") is { Length: > 0 } given ? long.Parse(given) : 64L << 20);
        await using var host = await pipeline.StartAsync();
        await FinishAsync(host, MakeAndCopy());
        GC.Collect();
        var before = Environment.WorkingSet;
        var peak = before;
        var id = await SubmitAsync(host, Misbehave("flood", bytes));
        var run = WaitAsync(host, id);
        while (!run.IsCompleted)
        {
            peak = Math.Max(peak, Environment.WorkingSet);
            await Task.WhenAny(run, Task.Delay(20));
        }

        output.WriteLine($"{bytes >> 20} MiB written, the host grew by {(peak - before) >> 20} MiB");
        Assert.Equal(RunState.Succeeded, (await run).State);
        Assert.InRange(peak - before, long.MinValue, 64 << 20);
        Assert.Contains(await host.Queries.LogsAsync(id, "misbehave"), l => l.Contains("[truncated: ", StringComparison.Ordinal));
        Assert.InRange((await host.Queries.LogsAsync(id, "misbehave")).Sum(l => l.Length), 1, 2 << 20);
    }

    [Fact]
    public async Task A_worker_out_of_memory_crashes_with_its_peak_and_is_retried_by_policy_alone()
    {
        // The runtime's own limit stands for a full machine; this process has read its own already.
        Environment.SetEnvironmentVariable("DOTNET_GCHeapHardLimit", "0x6000000");
        try
        {
            await using var host = await pipeline.StartAsync();
            var run = await FinishAsync(host, Misbehave("hog"));
            Assert.Equal(RunState.Failed, run.State);
            Assert.Equal(RetryPolicy.MaxAttempts, run.Stages[0].Attempts.Count);
            Assert.All(run.Stages[0].Attempts, a => Assert.Equal(StageRunState.Crashed, a.State));
            Assert.All(run.Stages[0].Attempts, a => Assert.InRange(a.PeakRssBytes ?? 0, 32L << 20, 4L << 30));
            Assert.Contains("emory", run.Stages[0].Failure!, StringComparison.Ordinal);
            Assert.Equal(RunState.Succeeded, (await FinishAsync(host, MakeAndCopy())).State);
        }
        finally
        {
            Environment.SetEnvironmentVariable("DOTNET_GCHeapHardLimit", null);
        }
    }

    [Theory]
    [InlineData("abc\r\ndef", "abc", "def")]
    [InlineData("0123456789ABCDEF\nx", "0123456789 [truncated: 6 more bytes]", "x")]
    [InlineData("\n\n", "", "")]
    public async Task Lines_are_cut_where_they_get_too_long(string text, params string[] expected)
    {
        var lines = new List<string>();
        await foreach (var line in new BoundedLines(new MemoryStream(System.Text.Encoding.UTF8.GetBytes(text)), 10).ReadAsync())
        {
            lines.Add(line);
        }

        Assert.Equal(expected, lines);
    }

    [Fact]
    public async Task The_worker_sees_no_secret_of_its_host()
    {
        Environment.SetEnvironmentVariable("FASTDRAFT_CANARY", "canary-7f3a");
        Environment.SetEnvironmentVariable("LD_PRELOAD", "");
        await using var host = await pipeline.StartAsync();
        var id = await SubmitAsync(host, MakeAndCopy(waitFor: pipeline.PathOf("never")));
        var worker = (await LineAsync(host.Store, id, "waiting")).Split(' ')[1];
        var environment = await File.ReadAllTextAsync($"/proc/{worker}/environ");
        Assert.DoesNotContain("canary-7f3a", environment, StringComparison.Ordinal);
        Assert.DoesNotContain("LD_PRELOAD", environment, StringComparison.Ordinal);
        await host.CancelAsync(id);
        await WaitAsync(host, id);
    }
}
