using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using static FastDraft.Core.Tests.Workflows.WorkflowText;

namespace FastDraft.Core.Tests.Workflows;

public sealed class WorkflowDefinitionFacts
{
    [Fact]
    public void The_digest_ignores_what_only_the_designer_sees()
    {
        var json = JsonNode.Parse(Chain())!.AsObject();
        var digest = WorkflowDefinition.Parse(Chain()).Digest;
        var root = json["root"]!.AsObject();
        foreach (var activity in root["activities"]!.AsArray())
        {
            activity!["metadata"] = new JsonObject { ["designer"] = new JsonObject { ["position"] = new JsonObject { ["x"] = 7 } } };
            activity["nodeId"] = "Workflow1:fc:" + activity["id"];
        }

        var reordered = root["activities"]!.AsArray().Select(a => a!.DeepClone()).Reverse().ToArray();
        root["activities"] = new JsonArray(reordered);
        json["version"] = 9;
        json.Remove("definitionId");
        json["definitionId"] = "w";

        Assert.Equal(digest, WorkflowDefinition.Parse(json.ToJsonString(new() { WriteIndented = true })).Digest);
    }

    [Theory]
    [InlineData("\"500\"", "\"501\"")]
    [InlineData("\"align\"", "\"aligned\"")]
    [InlineData("FastDraft.Train", "FastDraft.Evaluate")]
    [InlineData("\"Done\"", "\"True\"")]
    public void The_digest_changes_with_the_meaning(string from, string to) =>
        Assert.NotEqual(WorkflowDefinition.Parse(Chain()).Digest, WorkflowDefinition.Parse(Chain().Replace(from, to, StringComparison.Ordinal)).Digest);

    [Theory]
    [InlineData("nodeId", "\"elsewhere\"")]
    [InlineData("metadata", "{\"designer\":{\"position\":{\"x\":7}}}")]
    [InlineData("version", "2")]
    [InlineData("displayName", "\"Shown\"")]
    public void The_digest_ignores_what_only_the_designer_sees_inside_loops_branches_and_cases_too(string member, string value)
    {
        foreach (var id in new[] { "inBody", "inThen", "inCase", "inDefault", "inBranch", "inFlow" })
        {
            Assert.Equal(WorkflowDefinition.Parse(Nested()).Digest, WorkflowDefinition.Parse(Nested((id, member, value))).Digest);
            Assert.NotEqual(WorkflowDefinition.Parse(Nested()).Digest, WorkflowDefinition.Parse(Nested((id, "text", "\"other\""))).Digest);
        }
    }

    [Theory]
    [InlineData("Elsa.Workflows.IncidentStrategies.ContinueWithIncidentsStrategy, Elsa.Workflows.Core", false)]
    [InlineData("Elsa.Workflows.IncidentStrategies.FaultStrategy, Elsa.Workflows.Core", true)]
    public void The_digest_knows_an_incident_strategy_that_is_not_the_default(string strategy, bool isSame)
    {
        var json = JsonNode.Parse(Chain())!.AsObject();
        json["options"] = new JsonObject { ["incidentStrategyType"] = strategy };

        Assert.Equal(isSame, WorkflowDefinition.Parse(Chain()).Digest == WorkflowDefinition.Parse(json.ToJsonString()).Digest);
    }

    [Theory]
    [InlineData("Elsa.Sequence", "activities")]
    [InlineData("Elsa.Parallel", "activities")]
    [InlineData("Elsa.Fork", "branches")]
    public void The_digest_knows_the_order_of_what_runs_in_it(string type, string list)
    {
        string Text(params string[] ids) => Workflow(Node("r", type, (list, new JsonArray([.. ids.Select(id => Line(id))]))));

        Assert.NotEqual(WorkflowDefinition.Parse(Text("a", "b")).Digest, WorkflowDefinition.Parse(Text("b", "a")).Digest);
    }

    // One activity in every kind of slot, one of them with a further member.
    private static string Nested((string Id, string Member, string Value) extra = default)
    {
        JsonObject Inner(string id)
        {
            var line = Line(id);
            if (extra is ({ } at, { } member, { } value) && at == id)
            {
                line[member] = JsonNode.Parse(value);
            }

            return line;
        }

        return Workflow(Sequence(
            "sq",
            Node("each", "ForEach", ("body", Inner("inBody"))),
            Node("if", "If", ("then", Inner("inThen"))),
            Node("switch", "Switch", ("cases", new JsonArray(Case("none", "false"), Case("one", "true", Inner("inCase")))), ("default", Inner("inDefault"))),
            Node("fork", "Fork", ("branches", new JsonArray(Inner("inBranch")))),
            Node("box", "FlowNode", ("body", Flow("fc", [Inner("inFlow")])))));
    }

    [Fact]
    public void Members_that_are_not_known_survive()
    {
        var definition = WorkflowDefinition.Parse("""{"definitionId":"w","future":{"a":[1]},"root":{"id":"fc","type":"Elsa.Flowchart","mystery":true}}""");

        Assert.Equal("""{"definitionId":"w","future":{"a":[1]},"root":{"id":"fc","type":"Elsa.Flowchart","mystery":true}}""", definition.ToJson());
    }

    [Fact]
    public void A_member_given_twice_is_refused_with_its_place()
    {
        var error = Assert.Throws<WorkflowFormatException>(() => WorkflowDefinition.Parse("{\n  \"definitionId\": \"a\",\n  \"definitionId\": \"b\"}"));

        Assert.Equal((3, 3, "$.definitionId"), (error.Line, error.Column, error.JsonPath));
    }

    [Fact]
    public void Text_that_is_too_large_or_too_deep_or_no_definition_is_refused()
    {
        var tooDeep = "{\"root\":" + new string('[', 70) + new string(']', 70) + "}";
        var tooLarge = "{\"a\":\"" + new string('x', 1 << 20) + "\"}";
        foreach (var text in new[] { tooDeep, tooLarge, "", "[]", "{}", "{\"definitionId\":\"a\"}", "{\"definitionId\":" })
        {
            Assert.Throws<WorkflowFormatException>(() => WorkflowDefinition.Parse(text));
        }
    }
}
