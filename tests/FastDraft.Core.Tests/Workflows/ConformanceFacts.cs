using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.TestKit;

namespace FastDraft.Core.Tests.Workflows;

public sealed class ConformanceFacts
{
    private static readonly Dictionary<string, JsonNode?> Inputs = new() { ["Who"] = "World" };

    // The recordings' stub activities, which print their inputs.
    private static readonly IReadOnlyList<StageDescriptor> Stubs =
    [
        new("IngestDataset", 1, "Prints its settings.",
            [
                new("datasetPath", SettingType.Text, "A path."),
                new("format", SettingType.Choice, "A format.", "jsonl", Choices: ["jsonl", "csv"]),
                new("maxRows", SettingType.Integer, "Rows at most.", 1000),
                new("shuffle", SettingType.Boolean, "Whether to shuffle.", true),
            ],
            [], []),
        new("Evaluate", 1, "Prints its settings.", [new("checkpoint", SettingType.Text, "A checkpoint.")], [], []),
    ];

    [Theory]
    [InlineData("h02-if-foreach")]
    [InlineData("h03-outcome-unconnected")]
    [InlineData("h04-finish")]
    [InlineData("h05-fault")]
    [InlineData("h06-defaults")]
    [InlineData("h07-setvar-output")]
    [InlineData("h08-activity-output")]
    [InlineData("h09-loop")]
    [InlineData("h11-unknown")]
    [InlineData("h12-parallelforeach")]
    [InlineData("h13-switch")]
    [InlineData("h14-sequence")]
    [InlineData("h15-while")]
    [InlineData("h16-two-roots")]
    [InlineData("h17-expr-shapes")]
    [InlineData("h18-start-prop")]
    [InlineData("h19-canstart")]
    public void A_workflow_gives_the_lines_status_incident_and_journal_that_Elsa_recorded(string name)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var trace = JsonNode.Parse(Read(name + ".counter.json"))!;

        var (state, effects) = Run(WorkflowDefinition.Parse(Read(name + ".json")));

        Assert.Equal(trace["lines"]!.AsArray().Select(l => l!.GetValue<string>()), effects.OfType<WriteLine>().Select(l => l.Text));
        Assert.Equal(trace["subStatus"]!.GetValue<string>(), state.Status.ToString());

        // A workflow that was suspended was recorded from its resumption on.
        var journal = trace["journal"]!.AsArray().Select(j => $"{j!["activityType"]} {j["nodeId"]} {j["eventName"]}").ToList();
        var entries = effects.OfType<JournalEntry>().Select(j => $"{j.ActivityType} {j.NodeId} {j.EventName}").ToList();
        Assert.Equal(journal, journal[0].EndsWith("Resumed", StringComparison.Ordinal) ? entries.TakeLast(journal.Count) : entries);
        if (trace["incidents"]!.AsArray() is [var incident])
        {
            Assert.StartsWith(incident!["message"]!.GetValue<string>(), state.Incident, StringComparison.Ordinal);
        }

        foreach (var (output, value) in trace["output"]!.AsObject())
        {
            Assert.Equal(value!.ToString(), state.Outputs[output]!.ToString());
        }
    }

    // The recording stops at Liquid, which that engine lacked.
    [Fact]
    public void Every_expression_type_prints_what_it_says()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);

        var (state, effects) = Run(WorkflowDefinition.Parse(Read("h01-exprs.json")));

        Assert.Equal(["lit", "js 3 xval xval World", "liq xval World", "xval", "World", "C# 2 xval"], effects.OfType<WriteLine>().Select(l => l.Text));
        Assert.Equal(WorkflowStatus.Finished, state.Status);
    }

    [Fact]
    public void Text_that_is_no_number_is_refused_before_the_workflow_runs()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);

        var error = Assert.Single(WorkflowValidator.Validate(Read("h10-badinput.json"), "h10.json", Stubs));

        Assert.Equal("stage 'ing': setting 'maxRows' expects a whole number, got \"notanumber\"", error.Message);
    }

    private static string Read(string file) =>
        Stubs.Aggregate(
            File.ReadAllText(SharedAssets.Path("conformance", "workflows", file)),
            (text, stub) => text.Replace("\"Pipeline." + stub.Name, "\"" + stub.ActivityType, StringComparison.Ordinal));

    private static Transition Run(WorkflowDefinition definition)
    {
        var step = Interpreter.Start(definition, Stubs, Inputs);
        var effects = new List<WorkflowEffect>();
        for (var open = new Queue<WorkflowEffect>(step.Effects); open.TryDequeue(out var effect);)
        {
            effects.Add(effect);
            if (Answer(effect) is not { } answer)
            {
                continue;
            }

            if (effect is StartStage { Stage.Name: var name } started)
            {
                effects.Add(new WriteLine(name == "IngestDataset"
                    ? $"[ingest] path={started.Settings["datasetPath"]} format={started.Settings["format"]} max={started.Settings["maxRows"]} shuffle={(bool)started.Settings["shuffle"]!}"
                    : $"[evaluate] {started.ActivityId} checkpoint={started.Settings["checkpoint"]}"));
            }

            step = Interpreter.Apply(definition, Stubs, step.State, answer);
            foreach (var next in step.Effects)
            {
                open.Enqueue(next);
            }
        }

        return new Transition(step.State, effects);
    }

    private static WorkflowEvent? Answer(WorkflowEffect effect) => effect switch
    {
        StartStage e => new StageSucceeded(e.ActivityInstanceId, "Done", new JsonObject { ["rows"] = e.Settings["maxRows"]?.DeepClone() }),
        StartTimer e => new TimerFired(e.ActivityInstanceId),
        _ => null,
    };
}
