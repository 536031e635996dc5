using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Events;
using FastDraft.Server.Gates;
using Microsoft.EntityFrameworkCore;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

public abstract class WaitFacts(TestDatabase database) : IDisposable
{
    private readonly TestPipeline pipeline = new(database);

    public void Dispose()
    {
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task An_event_from_outside_answers_the_runs_that_wait_for_it_and_no_others()
    {
        await using var host = await pipeline.StartAsync();
        var named = await SubmitAsync(host, Sequence(Correlate("order-1"), Event("go"), Result()));
        var other = await SubmitAsync(host, Sequence(Correlate("order-2"), Event("go"), Result()));
        var anyone = await SubmitAsync(host, Sequence(Event("elsewhere"), Result()));
        await WaitsAsync(host, 3);

        Assert.Equal(new EventReach(1, 0), await host.PublishEventAsync("go", new JsonObject { ["rows"] = 3 }, "order-1"));
        Assert.Equal(RunState.Succeeded, (await WaitAsync(host, named)).State);
        Assert.Equal(new EventReach(0, 0), await host.PublishEventAsync("Go"));
        Assert.Equal(new EventReach(1, 0), await host.PublishEventAsync("go"));
        Assert.Equal(RunState.Succeeded, (await WaitAsync(host, other)).State);
        Assert.Equal(new EventReach(1, 0), await host.PublishEventAsync("elsewhere", "now"));
        await WaitAsync(host, anyone);

        Assert.Equal([["""{"rows":3}"""], [""], ["now"]], [await LinesAsync(host, named), await LinesAsync(host, other), await LinesAsync(host, anyone)]);
        Assert.Empty(await WaitsAsync(host, 0));
    }

    [Fact]
    public async Task An_event_reaches_what_is_open_when_its_transaction_commits()
    {
        await using var host = await pipeline.StartAsync();

        // The wait opens after the event in the same transition.
        var run = await FinishAsync(host, Sequence(Parallel("p", Elsa("publish", "PublishEvent", ("eventName", Literal("String", "go"))), Event("go"))));

        Assert.Equal(RunState.Succeeded, run.State);
    }

    [Fact]
    public async Task A_published_workflow_begins_with_the_event_that_starts_it()
    {
        await using var host = await pipeline.StartAsync();
        var start = Event("arrived");
        start["customProperties"] = new JsonObject { ["canStartWorkflow"] = true };
        await PublishAsync(host, Sequence(start, Result()), "listener");

        Assert.Equal(new EventReach(0, 1), await host.PublishEventAsync("arrived", "corpus-7"));
        Assert.Equal(new EventReach(0, 0), await host.PublishEventAsync("left"));
        var run = Assert.Single(await host.Queries.ListRunsAsync());
        await WaitAsync(host, run.Id);

        Assert.Equal(["corpus-7"], await LinesAsync(host, run.Id));
    }

    [Fact]
    public async Task A_gate_opens_to_whoever_answers_first()
    {
        await using var host = await pipeline.StartAsync();
        var gate = new JsonObject { ["id"] = "gate", ["type"] = ActivityTypes.Gate, ["version"] = 1, ["title"] = Literal("String", "Ship it?") };
        var run = await SubmitAsync(host, Flow([gate, Line("yes"), Line("no")], ("gate", "Approved", "yes"), ("gate", "Rejected", "no")));
        await WaitsAsync(host, 1);

        var gates = new GateStore(host.Store, TimeProvider.System);
        var open = await gates.FindAsync(run.ToString(), CancellationToken.None);
        await gates.DecideAsync(run, open.Reference.Split('/')[1], approved: false, "ann", "worse on code", CancellationToken.None);

        Assert.Equal(RunState.Succeeded, (await WaitAsync(host, run)).State);
        Assert.Equal(["no"], await LinesAsync(host, run));
    }

    [Fact]
    public async Task A_child_gives_its_outputs_and_runs_under_its_own_id()
    {
        await using var host = await pipeline.StartAsync();
        await PublishAsync(host, Sequence(
            Activity("make", "Make", ("number", Literal("Int64", 3))),
            Elsa("out", "SetOutput", ("outputName", Literal("String", "answer")), ("outputValue", Script("String", "'for ' + getInput('who')")))), "child", "who");

        var run = await FinishAsync(host, Sequence(Child("child", new JsonObject { ["who"] = "parent" }), Result("`${getLastResult().subStatus} ${getLastResult().output.answer}`")));

        Assert.Equal(RunState.Succeeded, run.State);
        Assert.Equal(["Finished for parent"], await LinesAsync(host, run.Id));
        var child = (await host.Queries.ListRunsAsync()).Single(r => r.Id != run.Id);
        Assert.Equal((RunState.Succeeded, "child"), (child.State, child.WorkflowName));
        await pipeline.AssertInvariantsAsync();
    }

    [Theory]
    [InlineData("nothing", true, "There is no published workflow 'nothing'.")]
    [InlineData("nothing", false, "There is no published workflow 'nothing'.")]
    [InlineData("known", false, "Workflow 'known' has no input 'who'. It has: whom.")]
    public async Task A_child_that_cannot_be_started_is_an_incident_of_whoever_wants_it(string definitionId, bool waits, string incident)
    {
        await using var host = await pipeline.StartAsync();
        await PublishAsync(host, Sequence(Line("here")), "known", "whom");

        var run = await FinishAsync(host, Sequence(Child(definitionId, new JsonObject { ["who"] = "x" }, waits)));

        Assert.Equal((RunState.Failed, incident), (run.State, run.Incident));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Workflows_that_start_each_other_come_to_an_end(bool waits)
    {
        await using var host = await pipeline.StartAsync();
        await PublishAsync(host, Sequence(Child("pong", [], waits)), "ping");
        await PublishAsync(host, Sequence(Child("ping", [], waits)), "pong");

        var run = await FinishAsync(host, Sequence(Child("ping", [], waits)));
        await UntilAsync(async () => (await host.Queries.ListRunsAsync()).All(r => RunStateMachine.IsTerminal(r.State)), "all runs have ended");

        var runs = await host.Queries.ListRunsAsync();
        Assert.Equal(16, runs.Count);
        Assert.Contains(runs, r => r.State == RunState.Failed && r.Incident!.Contains("started one another", StringComparison.Ordinal));
        Assert.Equal(RunState.Succeeded, run.State);
    }

    [Fact]
    public async Task A_run_that_is_cancelled_takes_the_children_it_waits_for_with_it()
    {
        await using var host = await pipeline.StartAsync();
        await PublishAsync(host, Sequence(Activity("make", "Make", ("number", Literal("Int64", 1)), ("waitFor", Literal("String", pipeline.PathOf("never"))))), "child");
        var id = await SubmitAsync(host, Sequence(Child("child", [])));
        await UntilAsync(async () => (await host.Queries.ListRunsAsync()).Count == 2, "the child is there");
        var child = (await host.Queries.ListRunsAsync()).Single(r => r.Id != id).Id;
        await LineAsync(host.Store, child, "waiting");

        Assert.True(await host.CancelAsync(id));

        Assert.Equal([RunState.Cancelled, RunState.Cancelled], [(await WaitAsync(host, id)).State, (await WaitAsync(host, child)).State]);
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task A_cancelled_child_tells_its_parent_so()
    {
        await using var host = await pipeline.StartAsync();
        await PublishAsync(host, Sequence(Event("never")), "child");
        var id = await SubmitAsync(host, Sequence(Child("child", []), Result("getLastResult().subStatus")));
        await UntilAsync(async () => (await host.Queries.ListRunsAsync()).Count == 2, "the child is there");

        await host.CancelAsync((await host.Queries.ListRunsAsync()).Single(r => r.Id != id).Id);

        await WaitAsync(host, id);
        Assert.Equal(["Cancelled"], await LinesAsync(host, id));
    }

    [Fact]
    public async Task Who_resumes_a_run_takes_up_its_children()
    {
        Guid id;
        await using (var host = await pipeline.StartAsync())
        {
            await PublishAsync(host, Sequence(Event("go"), Activity("make", "Make", ("number", Literal("Int64", 1)))), "child");
            id = await SubmitAsync(host, Sequence(Child("child", [])));
            await WaitsAsync(host, 2);
        }

        await using var only = await PipelineHost.StartAsync(pipeline.Options() with { TakesUpUnfinishedRuns = false });
        only.TakeUp(id);
        await only.PublishEventAsync("go");
        Assert.Equal(RunState.Succeeded, (await WaitAsync(only, id)).State);
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task A_timer_fires_when_its_time_has_come_and_not_before()
    {
        var clock = new SetClock(DateTimeOffset.Parse("2026-03-01T00:00:00Z", System.Globalization.CultureInfo.InvariantCulture));
        await using var host = await PipelineHost.StartAsync(pipeline.Options() with { Clock = clock });
        var id = await SubmitAsync(host, Sequence(Elsa("wait", "Delay", ("timeSpan", Literal("TimeSpan", "36.00:00:00"))), Line("late")));
        var due = Assert.Single(await WaitsAsync(host, 1)).DueAt!.Value;
        Assert.Equal(clock.GetUtcNow().AddDays(36).ToUnixTimeMilliseconds(), due);

        clock.Now = clock.Now.AddDays(36);
        host.TakeUp(id);

        Assert.Equal(RunState.Succeeded, (await WaitAsync(host, id)).State);
    }

    [Fact]
    public async Task An_answer_that_cannot_be_read_ends_its_run_and_no_other()
    {
        await using var host = await pipeline.StartAsync();
        var broken = await SubmitAsync(host, Sequence(Event("go"), Line("here")));
        var sound = await SubmitAsync(host, Sequence(Event("go"), Line("here")));
        await WaitsAsync(host, 2);

        await using (var db = host.Store.Open())
        {
            await db.Waits.Where(w => w.RunId == broken).ExecuteUpdateAsync(u => u.SetProperty(w => w.PayloadJson, "{ torn").SetProperty(w => w.DueAt, 1L));
        }

        host.TakeUp(broken);
        Assert.Equal(RunState.Failed, (await WaitAsync(host, broken)).State);
        await host.PublishEventAsync("go");
        Assert.Equal(RunState.Succeeded, (await WaitAsync(host, sound)).State);
    }

    private static JsonObject Event(string name) => Elsa("event", "Event", ("eventName", Literal("String", name)));

    private static JsonObject Correlate(string id) => Elsa("correlate", "Correlate", ("correlationId", Literal("String", id)));

    private static JsonObject Line(string text) => Elsa(text, "WriteLine", ("text", Literal("String", text)));

    private static JsonObject Result(string script = "typeof getLastResult() === 'object' && getLastResult() ? JSON.stringify(getLastResult()) : getLastResult() ?? ''") =>
        Elsa("line", "WriteLine", ("text", Script("String", script)));

    private static JsonObject Child(string definitionId, JsonObject input, bool waits = true) => Elsa(
        "child", waits ? "ExecuteWorkflow" : "DispatchWorkflow", ("workflowDefinitionId", Literal("String", definitionId)),
        ("input", new JsonObject { ["typeName"] = "ObjectDictionary", ["expression"] = new JsonObject { ["type"] = "Object", ["value"] = input.ToJsonString() } }),
        ("waitForCompletion", Literal("Boolean", waits)));

    private static async Task<IReadOnlyList<string>> LinesAsync(PipelineHost host, Guid run)
    {
        await using var db = host.Store.Open();
        return await db.Journal.Where(j => j.RunId == run && j.Event == "WriteLine").OrderBy(j => j.Id).Select(j => j.Text ?? "").ToListAsync();
    }

    private static async Task<IReadOnlyList<WaitRow>> WaitsAsync(PipelineHost host, int count)
    {
        IReadOnlyList<WaitRow> waits = [];
        await UntilAsync(
            async () =>
            {
                await using var db = host.Store.Open();
                waits = await db.Waits.AsNoTracking().ToListAsync();
                return waits.Count == count;
            },
            $"{count} waits are open");
        return waits;
    }

    private static async Task PublishAsync(PipelineHost host, JsonObject workflow, string definitionId, params string[] inputs)
    {
        (workflow["definitionId"], workflow["id"], workflow["name"]) = (definitionId, definitionId + "-v1", definitionId);
        workflow["inputs"] = new JsonArray([.. inputs.Select(i => new JsonObject { ["name"] = i, ["type"] = "String" })]);
        await host.Definitions.SaveAsync(workflow, publish: true);
    }

    private sealed class SetClock(DateTimeOffset now) : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = now;

        public override DateTimeOffset GetUtcNow() => Now;
    }
}

public sealed class SqliteWaitFacts() : WaitFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlWaitFacts() : WaitFacts(TestDatabase.PostgreSql);
