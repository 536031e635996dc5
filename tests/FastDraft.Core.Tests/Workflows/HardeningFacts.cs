using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using static FastDraft.Core.Tests.Workflows.WorkflowRuns;
using static FastDraft.Core.Tests.Workflows.WorkflowText;

namespace FastDraft.Core.Tests.Workflows;

/// <summary>What goes wrong in an activity is that activity's incident, and nothing else.</summary>
public sealed class HardeningFacts
{
    public static TheoryData<string, string> Wrong() => new()
    {
        { "ExecuteWorkflow", """{"workflowDefinitionId":"c","input":[1]}""" },
        { "ExecuteWorkflow", """{"workflowDefinitionId":"c","input":"no object"}""" },
        { "ExecuteWorkflow", """{"workflowDefinitionId":""}""" },
        { "DispatchWorkflow", """{}""" },
        { "Delay", """{"timeSpan":"soon"}""" },
        { "Delay", """{"timeSpan":"-00:00:01"}""" },
        { "Delay", """{"timeSpan":"10675199.00:00:00"}""" },
        { "Delay", """{"timeSpan":"99999999999.00:00:00"}""" },
        { "Delay", """{"timeSpan":{"typeName":"TimeSpan","expression":{"type":"Object","value":"{\"a\":1}"}}}""" },
        { "Timer", """{"interval":""}""" },
        { "StartAt", """{"dateTime":"2026-02-30"}""" },
        { "StartAt", """{"dateTime":"99999-01-01"}""" },
        { "StartAt", """{}""" },
        { "Cron", """{"cronExpression":"0 0 30 2 *"}""" },
        { "Cron", """{"cronExpression":"every day"}""" },
        { "Cron", """{"cronExpression":"99 * * * *"}""" },
        { "Event", """{"eventName":""}""" },
        { "PublishEvent", """{}""" },
        { "For", """{"end":5,"step":0,"body":{"id":"b","type":"Elsa.WriteLine"}}""" },
        { "For", """{"end":99999999999,"body":{"id":"b","type":"Elsa.WriteLine"}}""" },
        { "For", """{"end":"many","body":{"id":"b","type":"Elsa.WriteLine"}}""" },
        { "ForEach", """{"items":5,"body":{"id":"b","type":"Elsa.WriteLine"}}""" },
        { "ParallelForEach", """{"items":{"typeName":"Object","expression":{"type":"Object","value":"{\"a\":1}"}},"body":{"id":"b","type":"Elsa.WriteLine"}}""" },
        { "While", """{"condition":"perhaps","body":{"id":"b","type":"Elsa.WriteLine"}}""" },
        { "While", """{"condition":true,"body":{"id":"b","type":"Elsa.End"}}""" },
        { "SetVariable", """{"variable":{"id":"vx"},"value":"no number"}""" },
        { "SetVariable", """{"variable":{"id":"vx"},"value":[1]}""" },
        { "SetVariable", """{"variable":"vx","value":1}""" },
        { "SetVariable", """{"value":1}""" },
        { "SetOutput", """{"outputValue":1}""" },
        { "FlowSwitch", """{"mode":"MatchSome"}""" },
        { "Switch", """{"cases":[{"label":"a","condition":{"type":"JavaScript","value":"'perhaps'"}}]}""" },
        { "RunJavaScript", """{"script":{"typeName":"String","expression":{"type":"JavaScript","value":"setVariable('X', 'text')"}}}""" },
        { "RunJavaScript", """{"script":{"typeName":"String","expression":{"type":"JavaScript","value":"parseGuid('x')"}}}""" },
        { "WriteLine", """{"text":{"typeName":"String","expression":{"type":"Python","value":"1"}}}""" },
        { "WriteLine", """{"text":{"typeName":"String","expression":{"type":"Variable","value":7}}}""" },
        { "FlowDecision", """{"condition":{"typeName":"Boolean","expression":{"type":"Liquid","value":"{{ 1"}}}""" },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void A_wrong_input_is_an_incident_of_its_activity(string type, string members)
    {
        var activity = JsonNode.Parse(members)!.AsObject();
        (activity["id"], activity["type"]) = ("a", "Elsa." + type);

        var (state, effects) = Run(Workflow(Sequence("sq", activity, Line("never"))));

        Assert.Equal(WorkflowStatus.Faulted, state.Status);
        var incident = Assert.Single(state.Incidents);
        Assert.True(incident.ActivityId is "a" or "b", incident.ToString());
        Assert.DoesNotContain("Exception", incident.Message, StringComparison.Ordinal);
        Assert.Equal(new FinishWorkflow(WorkflowStatus.Faulted, incident.Message), effects[^1]);
    }

    [Theory]
    [InlineData("""{"cases":[{"label":"a"}],"default":{"id":"d","type":"Elsa.WriteLine","text":"default"}}""")]
    [InlineData("""{"cases":[{"label":"a","condition":null},{"condition":7}],"default":{"id":"d","type":"Elsa.WriteLine","text":"default"}}""")]
    [InlineData("""{"cases":{"label":"a"},"default":{"id":"d","type":"Elsa.WriteLine","text":"default"}}""")]
    [InlineData("""{"cases":"none","default":{"id":"d","type":"Elsa.WriteLine","text":"default"}}""")]
    public void A_case_without_a_condition_is_not_taken(string members)
    {
        var activity = JsonNode.Parse(members)!.AsObject();
        (activity["id"], activity["type"]) = ("s", "Elsa.Switch");

        Assert.Equal(["default"], Run(Workflow(activity)).Lines());
    }

    [Fact]
    public void A_loop_without_a_wait_in_it_is_stopped()
    {
        var (state, _) = Run(Workflow(Node("while", "While", ("condition", true), ("body", Line("w", "x")))));

        Assert.Contains("the workflow loops", state.Incident, StringComparison.Ordinal);
    }

    [Fact]
    public void Values_that_grow_from_activity_to_activity_are_stopped()
    {
        var items = new JsonArray([.. Enumerable.Range(0, 500).Select(i => (JsonNode)i)]);
        var (state, _) = Run(Workflow(Node(
            "each", "ParallelForEach", ("items", items), ("body", Node("w", "WriteLine", ("text", Script("'x'.repeat(900000)")))))));

        Assert.Contains("more than 16777216 characters", state.Incident, StringComparison.Ordinal);
    }

    [Fact]
    public void A_value_too_deep_to_be_read_again_is_an_incident()
    {
        var deep = JsonNode.Parse(new string('[', 60) + new string(']', 60))!;
        var (state, _) = Run(Workflow(Node("e", "Event", ("eventName", "x"))), effect => effect is WaitForEvent wait ? new EventReceived(wait.ActivityInstanceId, deep) : null);

        Assert.Contains("levels deep", state.Incident, StringComparison.Ordinal);
    }

    [Fact]
    public void A_loop_back_into_a_branch_is_an_incident()
    {
        var (state, _) = Run(Workflow(Flow(
            "fc", [Node("d", "FlowDecision", ("condition", true)), Line("a"), Line("b"), Line("c")], "d.True>a", "d.False>b", "a>c", "b>c", "c>a")));

        Assert.StartsWith("Invalid backward connection", state.Incident, StringComparison.Ordinal);
    }
}
