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
