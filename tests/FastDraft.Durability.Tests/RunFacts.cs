using System.Text.Json.Nodes;
using FastDraft.Core.Lineage;
using FastDraft.Core.Runs;
using FastDraft.Persistence.Lineage;
using FastDraft.Server;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

public abstract class RunFacts(TestDatabase database) : IDisposable
{
    private readonly TestPipeline pipeline = new(database);

    public void Dispose()
    {
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task Second_run_is_cached_and_a_changed_setting_reruns_only_its_dependents()
    {
        await using var host = await pipeline.StartAsync();
        var first = await FinishAsync(host, MakeAndCopy());
        Assert.Equal(RunState.Succeeded, first.State);
        Assert.All(first.Stages, s => Assert.Equal(StageRunState.Succeeded, s.State));
        Assert.Equal(0.5, Assert.Single(await host.Queries.MetricsAsync(first.Id)).Value);

        var second = await FinishAsync(host, MakeAndCopy());
        Assert.All(second.Stages, s => Assert.Equal((StageRunState.Cached, (Guid?)first.Id), (s.State, s.CachedFromRunId)));

        var third = await FinishAsync(host, MakeAndCopy(suffix: "b"));
        Assert.Equal([StageRunState.Cached, StageRunState.Succeeded], third.Stages.Select(s => s.State));
        Assert.Contains("option `suffix` changed", JsonNode.Parse(third.Stages[1].MissReasonsJson!)![0]!.GetValue<string>(), StringComparison.Ordinal);

        var changed = FastDraft.Core.Workflows.WorkflowDefinition.Parse(MakeAndCopy(number: 2).ToJsonString());
        var plan = await Planner.PlanAsync(host.Store, pipeline.Options(), changed, new Dictionary<string, JsonNode?>());
        Assert.Equal([PlanVerdict.Miss, PlanVerdict.Unknown], plan.Select(p => p.Verdict));
        var copied = Assert.Single(first.Stages[1].Outputs).Digest;
        Assert.Equal(4, (await host.Queries.LineageAsync(new LineageQuery(copied, LineageDirection.Upstream))).Nodes.Count);
    }

    [Fact]
    public async Task A_stage_is_compared_with_an_earlier_run_not_with_another_activity_of_its_own()
    {
        await using var host = await pipeline.StartAsync();
        var workflow = Sequence(Activity("one", "Make", ("number", Literal("Int64", 1))), Activity("two", "Make", ("number", Literal("Int64", 2))));
        var first = await FinishAsync(host, workflow);
        Assert.All(first.Stages, s => Assert.Equal(["no earlier run of this stage"], Explanation.Reasons(s)));

        var second = await FinishAsync(host, Sequence(Activity("one", "Make", ("number", Literal("Int64", 1))), Activity("two", "Make", ("number", Literal("Int64", 3)))));
        Assert.Equal(["option `number` changed 2 -> 3"], Explanation.Reasons(second.Stages[1]));
    }

    [Fact]
    public async Task A_new_host_finishes_the_run_of_a_stopped_one()
    {
        var gate = pipeline.PathOf("gate");
        Guid id;
        await using (var host = await pipeline.StartAsync())
        {
            id = await SubmitAsync(host, MakeAndCopy(waitFor: gate));
            await LineAsync(host.Store, id, "waiting");
        }

        await File.WriteAllTextAsync(gate, "");
        await using var next = await pipeline.StartAsync();
        Assert.Equal(RunState.Succeeded, (await WaitAsync(next, id)).State);
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task Twenty_runs_at_once_on_one_database_all_succeed()
    {
        await using var host = await PipelineHost.StartAsync(pipeline.Options() with { MaxParallelStages = 2 });
        var ids = await Task.WhenAll(Enumerable.Range(0, 20).Select(n => SubmitAsync(host, Sequence(Activity("make", "Make", ("number", Literal("Int64", n)))))));
        var runs = await Task.WhenAll(ids.Select(id => WaitAsync(host, id)));
        Assert.All(runs, r => Assert.Equal((RunState.Succeeded, 1), (r.State, r.Stages[0].Attempts.Count)));
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task A_stage_that_no_host_has_fails_and_says_so()
    {
        Guid id;
        await using (var host = await pipeline.StartAsync())
        {
            id = await SubmitAsync(host, MakeAndCopy(waitFor: pipeline.PathOf("never")));
            await LineAsync(host.Store, id, "waiting");
        }

        await using var without = await PipelineHost.StartAsync(pipeline.Options() with { Stages = [] });
        var run = await WaitAsync(without, id);
        Assert.Equal(RunState.Failed, run.State);
        Assert.Contains("no stage 'Make'", run.Stages[0].Failure!, StringComparison.Ordinal);
    }
}

public sealed class SqliteRunFacts() : RunFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlRunFacts() : RunFacts(TestDatabase.PostgreSql);
