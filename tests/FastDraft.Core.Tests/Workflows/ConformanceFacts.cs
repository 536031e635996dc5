using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.TestKit;

namespace FastDraft.Core.Tests.Workflows;

public sealed class ConformanceFacts
{
    [Theory]
    [InlineData("h01-exprs")]
    [InlineData("h03-outcome-unconnected")]
    [InlineData("h04-finish")]
    [InlineData("h05-fault")]
    [InlineData("h07-setvar-output")]
    [InlineData("h09-loop")]
    [InlineData("h11-unknown")]
    [InlineData("h13-switch")]
    [InlineData("h16-two-roots")]
    [InlineData("h18-start-prop")]
    [InlineData("h19-canstart")]
    public void A_workflow_gives_the_lines_status_incident_and_journal_that_Elsa_recorded(string name)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var definition = WorkflowDefinition.Parse(File.ReadAllText(SharedAssets.Path("conformance", "workflows", name + ".json")));
        var trace = JsonNode.Parse(File.ReadAllText(SharedAssets.Path("conformance", "workflows", name + ".counter.json")))!;

        var (state, effects) = Interpreter.Start(definition, [], new Dictionary<string, JsonNode?> { ["Who"] = "World" });

        Assert.Equal(trace["lines"]!.AsArray().Select(l => l!.GetValue<string>()), effects.OfType<WriteLine>().Select(l => l.Text));
        Assert.Equal(trace["subStatus"]!.GetValue<string>(), state.Status.ToString());
        Assert.Equal(
            trace["journal"]!.AsArray().Select(j => $"{j!["activityType"]} {j["nodeId"]} {j["eventName"]}"),
            effects.OfType<JournalEntry>().Select(j => $"{j.ActivityType} {j.NodeId} {j.EventName}"));
        if (trace["incidents"]!.AsArray() is [var incident])
        {
            Assert.StartsWith(incident!["message"]!.GetValue<string>(), state.Incident, StringComparison.Ordinal);
        }

        foreach (var (output, value) in trace["output"]!.AsObject())
        {
            Assert.Equal(value!.ToString(), state.Outputs[output]!.ToString());
        }
    }
}
