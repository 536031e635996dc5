using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using static FastDraft.Core.Tests.Workflows.WorkflowText;

namespace FastDraft.Core.Tests.Workflows;

public sealed class InterpreterFacts
{
    private static readonly Dictionary<string, JsonNode?> NoInputs = [];

    [Fact]
    public void A_chain_starts_each_stage_after_the_one_before_and_binds_the_nearest_output()
    {
        var definition = WorkflowDefinition.Parse(Chain());
        var step = Interpreter.Start(definition, Catalogue, NoInputs);
        var started = new List<StartStage>();
        while (step.Effects.OfType<StartStage>().SingleOrDefault() is { } stage)
        {
            started.Add(stage);
            step = Interpreter.Apply(definition, Catalogue, step.State, new StageSucceeded(stage.ActivityInstanceId));
        }

        Assert.Equal(["ingest", "align", "train", "evaluate"], started.Select(s => s.ActivityId));
        Assert.Equal(new PortSource("ingest#1", "ingest", "corpus"), started[1].Inputs["corpus"]);
        Assert.Equal(new PortSource("train#1", "train", "draft"), started[3].Inputs["draft"]);
        Assert.Equal(["tokens"], started[2].Inputs.Keys);
        Assert.Equal(new FinishWorkflow(WorkflowStatus.Finished, null), step.Effects[^1]);
    }

    [Fact]
    public void Settings_arrive_with_their_declared_types_and_defaults()
    {
        var settings = Interpreter.Start(WorkflowDefinition.Parse(Chain()), Catalogue, NoInputs).Effects.OfType<StartStage>().Single().Settings;

        Assert.Equal("""{"sources":["a.txt"],"maxRows":500,"fraction":0.5,"shuffle":true}""", settings.ToJsonString());
    }

    [Fact]
    public void A_failed_stage_faults_the_workflow_and_cancels_the_stages_in_flight()
    {
        var definition = WorkflowDefinition.Parse(ForkedTraining("WaitAll"));
        var state = RunToFork(definition).State;

        var (after, effects) = Interpreter.Apply(definition, Catalogue, state, new StageFailed("b#1", "disk full"));

        Assert.Equal(WorkflowStatus.Faulted, after.Status);
        var faulted = Assert.IsType<JournalEntry>(effects[0]);
        Assert.Equal(("b#1", "fc#1", "Workflow1:fc:b", "Faulted", "disk full"), (faulted.ActivityInstanceId, faulted.ParentInstanceId, faulted.NodeId, faulted.EventName, faulted.Message));
        Assert.Equal([new CancelStage("a#1"), new FinishWorkflow(WorkflowStatus.Faulted, "disk full")], effects.Skip(1));
        Assert.Empty(Interpreter.Apply(definition, Catalogue, after, new StageSucceeded("a#1")).Effects);
    }

    [Fact]
    public void A_join_that_waits_for_all_runs_once_after_the_last_branch()
    {
        var definition = WorkflowDefinition.Parse(ForkedTraining("WaitAll"));
        var first = Interpreter.Apply(definition, Catalogue, RunToFork(definition).State, new StageSucceeded("a#1"));
        var second = Interpreter.Apply(definition, Catalogue, first.State, new StageSucceeded("b#1"));

        Assert.DoesNotContain(first.Effects, e => e is WriteLine or FinishWorkflow);
        Assert.Equal([new WriteLine("joined")], second.Effects.OfType<WriteLine>());
        Assert.Equal(WorkflowStatus.Finished, second.State.Status);
    }

    [Fact]
    public void A_join_that_waits_for_any_cancels_the_slower_branch()
    {
        var definition = WorkflowDefinition.Parse(ForkedTraining("WaitAny"));

        var (state, effects) = Interpreter.Apply(definition, Catalogue, RunToFork(definition).State, new StageSucceeded("b#1"));

        Assert.Contains(new CancelStage("a#1"), effects);
        Assert.Contains(effects.OfType<JournalEntry>(), j => j is { ActivityInstanceId: "a#1", EventName: "Canceled" });
        Assert.Equal([new WriteLine("joined")], effects.OfType<WriteLine>());
        Assert.Equal(WorkflowStatus.Finished, state.Status);
    }

    [Fact]
    public void A_branch_that_is_not_taken_does_not_hold_up_the_activity_where_branches_meet()
    {
        var text = Flowchart(
            [
                Activity("dec", "Elsa.FlowDecision", ("condition", "JavaScript", "getInput('Who') == 'me'")),
                Activity("yes", "Elsa.WriteLine", ("text", "Literal", "yes")),
                Activity("no", "Elsa.WriteLine", ("text", "Literal", "no")),
                Activity("end", "Elsa.WriteLine", ("text", "JavaScript", "setX(variables.X + 1); return 'X=' + getX();")),
            ],
            "dec.True>yes", "dec.False>no", "yes>end", "no>end");

        var effects = Interpreter.Start(WorkflowDefinition.Parse(text), Catalogue, new Dictionary<string, JsonNode?> { ["Who"] = "me" }).Effects;

        Assert.Equal(["yes", "X=2"], effects.OfType<WriteLine>().Select(l => l.Text));
    }

    [Fact]
    public void A_sequence_runs_its_children_in_order()
    {
        var text = $$"""
            { "definitionId": "s", "root": { "id": "sq", "type": "Elsa.Sequence", "activities": [
              {{Activity("i", "FastDraft.Ingest", ("sources", "Literal", "a"))}}, {{Activity("a", "FastDraft.Align")}} ] } }
            """;
        var definition = WorkflowDefinition.Parse(text);
        var first = Interpreter.Start(definition, Catalogue, NoInputs);
        var second = Interpreter.Apply(definition, Catalogue, first.State, new StageSucceeded("i#1"));
        var third = Interpreter.Apply(definition, Catalogue, second.State, new StageSucceeded("a#1"));

        Assert.Equal(new PortSource("i#1", "i", "corpus"), second.Effects.OfType<StartStage>().Single().Inputs["corpus"]);
        Assert.Equal(WorkflowStatus.Finished, third.State.Status);
    }

    [Fact]
    public void Cancelling_cancels_the_stages_in_flight()
    {
        var definition = WorkflowDefinition.Parse(ForkedTraining("WaitAll"));

        var (state, effects) = Interpreter.Apply(definition, Catalogue, RunToFork(definition).State, new CancelRequested());

        Assert.Equal(["a#1", "b#1"], effects.OfType<CancelStage>().Select(c => c.ActivityInstanceId));
        Assert.Equal(WorkflowStatus.Cancelled, state.Status);
    }

    [Theory]
    [InlineData("while (true) {}")]
    [InlineData("let f = () => f(); f()")]
    [InlineData("System.IO.File.ReadAllText('x')")]
    [InlineData("new Date()")]
    [InlineData("Math.random()")]
    [InlineData("let a = []; while (true) a.push('x'.repeat(1000000))")]
    public void A_script_that_runs_away_or_reaches_outside_faults_the_workflow(string script)
    {
        var text = Flowchart([Activity("w", "Elsa.WriteLine", ("text", "JavaScript", script))]);

        var state = Interpreter.Start(WorkflowDefinition.Parse(text), Catalogue, NoInputs).State;

        Assert.Equal(WorkflowStatus.Faulted, state.Status);
        Assert.StartsWith("Failed to evaluate activity input 'Text'", state.Incident, StringComparison.Ordinal);
    }

    private static Transition RunToFork(WorkflowDefinition definition)
    {
        var step = Interpreter.Start(definition, Catalogue, NoInputs);
        step = Interpreter.Apply(definition, Catalogue, step.State, new StageSucceeded("i#1"));
        return Interpreter.Apply(definition, Catalogue, step.State, new StageSucceeded("t#1"));
    }

    private static string ForkedTraining(string mode) => Flowchart(
        [
            Activity("i", "FastDraft.Ingest", ("sources", "Literal", "a")),
            Activity("t", "FastDraft.Align"),
            Activity("fork", "Elsa.FlowFork", ("branches", "Object", "[\"A\",\"B\"]")),
            Activity("a", "FastDraft.Train"),
            Activity("b", "FastDraft.Train"),
            Activity("join", "Elsa.FlowJoin", ("mode", "Literal", mode)),
            Activity("end", "Elsa.WriteLine", ("text", "Literal", "joined")),
        ],
        "i>t", "t>fork", "fork.A>a", "fork.B>b", "a>join", "b>join", "join>end");
}
