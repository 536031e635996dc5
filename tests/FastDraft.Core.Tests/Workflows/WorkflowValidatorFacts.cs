using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using static FastDraft.Core.Tests.Workflows.WorkflowText;

namespace FastDraft.Core.Tests.Workflows;

public sealed class WorkflowValidatorFacts
{
    private static IReadOnlyList<WorkflowError> Validate(string json) => WorkflowValidator.Validate(json, "w.json", Catalogue);

    [Fact]
    public void A_right_workflow_has_no_errors() => Assert.Empty(Validate(Chain()));

    [Fact]
    public void A_misspelt_setting_is_named_at_its_line_and_column()
    {
        var text = "{\n\"definitionId\": \"w\", \"root\": { \"id\": \"fc\", \"type\": \"Elsa.Flowchart\", \"activities\": [\n"
            + "  { \"id\": \"i\", \"type\": \"FastDraft.Ingest\", \"sources\": \"a\",\n    \"maxRow\": 3 } ] } }";

        var error = Assert.Single(Validate(text));

        Assert.Equal(
            new WorkflowError("w.json", 4, 5, "$.root.activities[0].maxRow", "stage 'i': unknown setting 'maxRow'", "did you mean 'maxRows'?"), error);
    }

    [Fact]
    public void An_artifact_of_the_wrong_kind_is_named_with_a_right_one()
    {
        var text = Flowchart(
            [
                Activity("ingest", "FastDraft.Ingest", ("sources", "Literal", "a")),
                Activity("align", "FastDraft.Align"),
                Activity("train", "FastDraft.Train"),
                Activity("evaluate", "FastDraft.Evaluate", ("draft", "Literal", "align.tokens")),
            ],
            "ingest>align", "align>train", "train>evaluate");

        var error = Assert.Single(Validate(text));

        Assert.Equal("stage 'evaluate': input 'draft' expects kind model, got token-shards (from 'align.tokens')", error.Message);
        Assert.Equal("set 'draft' to 'train.draft'", error.Try);
    }

    [Fact]
    public void Equally_near_producers_are_ambiguous()
    {
        var text = Flowchart(
            [
                Activity("i", "FastDraft.Ingest", ("sources", "Literal", "a")),
                Activity("t", "FastDraft.Align"),
                Activity("a", "FastDraft.Train"),
                Activity("b", "FastDraft.Train"),
                Activity("e", "FastDraft.Evaluate"),
            ],
            "i>t", "t>a", "t>b", "a>e", "b>e");

        var error = Assert.Single(Validate(text));

        Assert.Equal("stage 'e': input 'draft' is ambiguous: 'a.draft' and 'b.draft' are equally near", error.Message);
    }

    [Theory]
    [InlineData("FastDraft.Aling", null, null, "activity 'x': unknown activity type 'FastDraft.Aling'", "did you mean 'FastDraft.Align'?")]
    [InlineData("FastDraft.Ingest", null, null, "stage 'x': required setting 'sources' has no value", "Files to read.")]
    [InlineData("FastDraft.Ingest", "maxRows", "many", "stage 'x': setting 'maxRows' expects a whole number, got \"many\"", null)]
    [InlineData("FastDraft.Ingest", "maxRows", "5000", "stage 'x': setting 'maxRows' expects 1 to 1000, got 5000", null)]
    [InlineData("FastDraft.Ingest", "shuffle", "perhaps", "stage 'x': setting 'shuffle' expects true or false, got \"perhaps\"", null)]
    [InlineData("FastDraft.Train", "accelerator", "cudo", "stage 'x': setting 'accelerator' expects one of cpu, cuda; got \"cudo\"", "did you mean 'cuda'?")]
    [InlineData("FastDraft.Train", "tokens", "algin.tokens", "stage 'x': input 'tokens' names 'algin.tokens', and there is no activity 'algin'", "did you mean 'align.tokens'?")]
    [InlineData("FastDraft.Train", "tokens", "align.token", "stage 'x': input 'tokens' names 'align.token', and 'align' has no output 'token'", "did you mean 'align.tokens'?")]
    [InlineData("FastDraft.Evaluate", null, null, "stage 'x': input 'draft' expects kind model, and no stage before it makes one", "connect a stage that does: Train")]
    [InlineData("Elsa.FlowJoin", "mode", "WaitAl", "activity 'x': setting 'mode' expects one of WaitAny, WaitAll, WaitAllActive; got 'WaitAl'", "did you mean 'WaitAll'?")]
    public void A_wrong_activity_is_reported(string type, string? input, string? value, string message, string? hint)
    {
        var text = Flowchart(
            [
                Activity("ingest", "FastDraft.Ingest", ("sources", "Literal", "a")),
                Activity("align", "FastDraft.Align"),
                input is null ? Activity("x", type) : Activity("x", type, (input, "Literal", value)),
            ],
            "ingest>align", "align>x");

        Assert.Contains(Validate(text), e => e.Message == message && e.Try == hint);
    }

    [Fact]
    public void Every_error_is_reported_at_once_in_the_order_of_the_file()
    {
        var text = Flowchart(
            [
                Activity("a", "Elsa.WriteLine", ("text", "Liqud", "x")),
                Activity("a", "Elsa.WriteLine", ("txt", "Literal", "x")),
                Activity("s", "Elsa.WriteLine", ("text", "Input", "Wo")),
            ],
            "a.Don>s", "s>nobody");

        var errors = Validate(text);

        Assert.Equal(
            [
                "activity 'a': setting 'text': expressions of type 'Liqud' are not supported",
                "Two activities have the id 'a'.",
                "activity 'a': unknown setting 'txt'",
                "activity 's': setting 'text': the workflow has no input 'Wo'",
                "A connection leaves 'a' by the port 'Don', which it does not have.",
                "A connection's target is 'nobody', and 'fc' has no such activity.",
            ],
            errors.Select(e => e.Message));
        Assert.Equal([6, 7, 7, 8], errors.Take(4).Select(e => e.Line));
    }

    public static TheoryData<string, string, string?> Wrong() => new()
    {
        { """{"id":"a","type":"Elsa.ForEach","body":"text"}""", "activity 'a': 'body' holds \"text\", which is not an activity", null },
        { """{"id":"a","type":"Elsa.If","then":[1],"condition":true}""", "activity 'a': 'then' holds [1], which is not an activity", null },
        { """{"id":"a","type":"Elsa.Fork","branches":[{"id":"b","type":"Elsa.End"},7,null]}""", "activity 'a': 'branches' holds 7, which is not an activity", null },
        { """{"id":"a","type":"Elsa.Fork","branches":[{"id":"b","type":"Elsa.End"},7,null]}""", "activity 'a': 'branches' holds nothing, which is not an activity", null },
        { """{"id":"a","type":"Elsa.Sequence","activities":"b"}""", "activity 'a': 'activities' holds \"b\", which is not an activity", null },
        { """{"id":"a","type":"Elsa.Flowchart","connections":["b"]}""", "activity 'a': 'connections' holds \"b\", which is not a connection", null },
        { """{"id":"a","type":"Elsa.Switch","cases":[{"label":"x","condition":{"type":"Literal","value":true},"activity":"b"}]}""", "activity 'a': 'activity' holds \"b\", which is not an activity", null },
        { """{"id":"a","type":"Elsa.Switch","cases":[{"label":"x"}]}""", "activity 'a': case 'x' has no condition, and would never be taken", """write it as { "type": "JavaScript", "value": "..." }""" },
        { """{"id":"a","type":"Elsa.FlowSwitch","cases":[{"condition":{"type":"Literal","value":true}}]}""", "activity 'a': a case has no 'label', and no connection can leave by it", "give each case its own label" },
        { """{"id":"a","type":"Elsa.ForEach","body":{"id":"a","type":"Elsa.End"}}""", "Two activities have the id 'a'.", "give each activity its own id" },
        { """{"id":"a","type":"Elsa.Cron","cronExpression":"0 0 30 2 *"}""", "activity 'a': setting 'cronExpression' '0 0 30 2 *' never occurs", null },
        { """{"id":"a","type":"Elsa.Delay","timeSpan":"-00:01:00"}""", "activity 'a': setting 'timeSpan' expects a time span such as 00:05:00 or 1.12:00:00, got \"-00:01:00\"", null },
        { """{"id":"a","type":"Elsa.StartAt","dateTime":"2026-02-30"}""", "activity 'a': setting 'dateTime' expects a time such as 2026-01-31T08:00:00+01:00, got \"2026-02-30\"", null },
        { """{"id":"a","type":"Elsa.For","step":"0"}""", "activity 'a': setting 'step' is 0, and the loop would not end", "set it to 1, or to -1 to count down" },
        { """{"id":"a","type":"Elsa.SetVariable","variable":{"id":"vx"},"value":"many"}""", "activity 'a': variable 'X' expects a whole number, got \"many\"", null },
        { """{"id":"a","type":"Elsa.SetVariable","variable":{"id":"vy"},"value":1}""", "activity 'a': there is no variable with id 'vy'", "did you mean 'vl'?" },
        { """{"id":"a","type":"Elsa.ExecuteWorkflow"}""", "activity 'a': required setting 'workflowDefinitionId' has no value", "The workflow to run." },
        { """{"id":"a","type":"Elsa.DispatchWorkflow","workflowDefinitionId":""}""", "activity 'a': required setting 'workflowDefinitionId' has no value", "The workflow to run." },
        { """{"id":"a","type":"Elsa.ExecuteWorkflow","workflowDefinitionId":"w"}""", "activity 'a': the workflow 'w' would run itself and wait for it", "use a loop" },
        { """{"id":"a","type":"Elsa.DispatchWorkflow","workflowDefinitionId":"w","waitForCompletion":"True"}""", "activity 'a': the workflow 'w' would run itself and wait for it", "use a loop" },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void A_wrong_core_activity_is_reported_wherever_it_stands(string activity, string message, string? hint)
    {
        Assert.Contains(Validate(Workflow(JsonNode.Parse(activity)!.AsObject())), e => (e.Message, e.Try) == (message, hint));
        Assert.Contains(Validate(Workflow(Node("loop", "ForEach", ("body", Sequence("sq", JsonNode.Parse(activity)!.AsObject()))))), e => e.Message == message);
    }

    // Ports that a run may go on by, and one that it may not.
    [Theory]
    [InlineData("""{"id":"a","type":"Elsa.FlowSwitch","cases":[{"label":"X","condition":{"type":"Literal","value":true}}]}""", new[] { "X", "Default" }, "Done")]
    [InlineData("""{"id":"a","type":"Elsa.FlowFork","branches":["X","Y"]}""", new[] { "X", "Y" }, "Done")]
    [InlineData("""{"id":"a","type":"Elsa.FlowFork"}""", new[] { "Done" }, "X")]
    [InlineData("""{"id":"a","type":"Elsa.FlowFork","branches":{"typeName":"Object","expression":{"type":"JavaScript","value":"['X']"}}}""", new[] { "X", "Y" }, null)]
    [InlineData("""{"id":"a","type":"Elsa.RunJavaScript","possibleOutcomes":["X"]}""", new[] { "X", "Done" }, "Y")]
    [InlineData("""{"id":"a","type":"Elsa.FlowDecision"}""", new[] { "True", "False" }, "Done")]
    [InlineData("""{"id":"a","type":"FastDraft.Gate","title":"?"}""", new[] { "Approved", "Rejected" }, "Done")]
    [InlineData("""{"id":"a","type":"FastDraft.Ingest","sources":"s"}""", new[] { "Done" }, "Failed")]
    [InlineData("""{"id":"a","type":"Elsa.FlowNode","body":{"id":"c","type":"Elsa.Complete","outcomes":["X"]}}""", new[] { "X", "Done" }, "Y")]
    [InlineData("""{"id":"a","type":"Elsa.Finish"}""", new string[0], "Done")]
    public void A_connection_leaves_by_a_port_that_the_activity_has(string activity, string[] ports, string? missing)
    {
        IReadOnlyList<WorkflowError> From(string port) => Validate(Workflow(Flow("fc", [JsonNode.Parse(activity)!.AsObject(), Line("b")], $"a.{port}>b")));

        Assert.All(ports, port => Assert.Empty(From(port)));
        if (missing is not null)
        {
            Assert.Equal($"A connection leaves 'a' by the port '{missing}', which it does not have.", Assert.Single(From(missing)).Message);
        }
    }

    [Fact]
    public void A_loop_back_into_a_branch_is_found_before_it_runs()
    {
        var error = Assert.Single(Validate(Workflow(Flow(
            "fc", [Node("d", "FlowDecision", ("condition", true)), Line("a"), Line("b"), Line("c")], "d.True>a", "d.False>b", "a>c", "b>c", "c>a"))));

        Assert.StartsWith("The connection from 'c' back to 'a' closes a loop that can be entered past 'a'", error.Message, StringComparison.Ordinal);
        Assert.Equal("$.root.connections[4]", error.JsonPath);
    }

    [Fact]
    public void Loops_back_to_the_start_to_a_decision_and_to_itself_are_right() => Assert.Empty(Validate(Workflow(Flow(
        "fc", [Line("a"), Node("d", "FlowDecision", ("condition", true)), Node("e", "FlowDecision", ("condition", true))], "a>d", "d.True>a", "d.False>e", "e.True>d", "e.False>e"))));

    // Two stages make drafts on branches of which one run takes only one.
    [Theory]
    [InlineData("FlowDecision", "True", "False", false)]
    [InlineData("FlowFork", "A", "B", true)]
    public void Outputs_equally_near_are_ambiguous_only_where_one_pass_can_make_both(string type, string first, string second, bool isAmbiguous)
    {
        var text = Flowchart(
            [
                Activity("i", "FastDraft.Ingest", ("sources", "Literal", "a")), Activity("t", "FastDraft.Align"),
                type == "FlowFork" ? Activity("d", "Elsa.FlowFork", ("branches", "Object", "[\"A\",\"B\"]")) : Activity("d", "Elsa." + type, ("condition", "Literal", true)),
                Activity("a", "FastDraft.Train"), Activity("b", "FastDraft.Train"), Activity("e", "FastDraft.Evaluate"),
            ],
            "i>t", "t>d", $"d.{first}>a", $"d.{second}>b", "a>e", "b>e");

        Assert.Equal(isAmbiguous, Validate(text).Count > 0);
        if (!isAmbiguous)
        {
            Assert.Equal(new PortSource("a#1", "a", "draft"), WorkflowRuns.Run(text).Effects.OfType<StartStage>().Last().Inputs["draft"]);
        }
    }

    // Which of the branches ran is another one each round.
    [Fact]
    public void Where_a_loop_has_run_both_branches_the_stage_takes_what_ran_last()
    {
        JsonObject Typed(string id, string type, params (string, JsonNode?)[] members)
        {
            var node = Node(id, "", members);
            node["type"] = type;
            return node;
        }

        var text = Workflow(Sequence(
            "sq", Typed("i", "FastDraft.Ingest", ("sources", "a")), Typed("t", "FastDraft.Align"),
            Node("loop", "For", ("start", 1), ("end", 3), ("body", Sequence(
                "body", Node("if", "If", ("condition", Script("getCurrentValue() != 2")), ("then", Typed("a", "FastDraft.Train")), ("else", Typed("b", "FastDraft.Train"))), Typed("e", "FastDraft.Evaluate"))))));

        Assert.Empty(Validate(text));
        Assert.Equal(["a#1", "b#1", "a#2"], WorkflowRuns.Run(text).Effects.OfType<StartStage>().Where(s => s.ActivityId == "e").Select(s => s.Inputs["draft"].ActivityInstanceId));
    }

    [Fact]
    public void Thousands_of_activities_validate()
    {
        string[] ids = [.. Enumerable.Range(0, 2000).Select(i => "n" + i)];
        var text = Workflow(Flow(
            "fc",
            [.. ids.Select((id, i) => i % 3 == 0 ? Node(id, "FlowDecision", ("condition", true)) : Line(id))],
            [.. ids.Zip(ids.Skip(1), (a, b) => $"{a}.{(int.Parse(a[1..], System.Globalization.CultureInfo.InvariantCulture) % 3 == 0 ? "True" : "Done")}>{b}"), .. ids.Where((_, i) => i % 3 == 0).Select(id => $"{id}.False>n0")]));

        Assert.Empty(Validate(text));
    }

    [Fact]
    public void Broken_text_is_one_error_with_its_place()
    {
        var error = Assert.Single(Validate("{\n  \"root\": }"));

        Assert.Equal((2, 11), (error.Line, error.Column));
    }
}
