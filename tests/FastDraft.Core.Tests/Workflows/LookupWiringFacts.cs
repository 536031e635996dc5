using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using static FastDraft.Core.Tests.Workflows.WorkflowText;

namespace FastDraft.Core.Tests.Workflows;

/// <summary>Stages with outcomes, and inputs that may find nothing to take.</summary>
public sealed class LookupWiringFacts
{
    private static readonly IReadOnlyList<StageDescriptor> Stages =
    [
        new("Find", 1, "Looks up a model.", [], [], [new("draft", ArtifactKind.Model, "The model.")]) { Outcomes = ["Found", "None"], IsLookup = true },
        new("Measure", 1, "Measures a model.", [new("prompts", SettingType.Text, "Prompts.")],
            [new("draft", ArtifactKind.Model, "The model."), new("corpus", ArtifactKind.Corpus, "Prompts come from it.", Required: false, UnlessSetting: "prompts")],
            [new("evaluation", ArtifactKind.Evaluation, "The report.")]),
        new("Compare", 1, "Compares.", [], [new("champion", ArtifactKind.Evaluation, "The report.", Required: false)], []),
        new("Ingest", 1, "Reads.", [], [], [new("corpus", ArtifactKind.Corpus, "Documents.")]),
    ];

    [Theory]
    [InlineData("Found", "measure")]
    [InlineData("None", "compare")]
    public void The_outcome_of_a_stage_says_which_connection_is_followed(string outcome, string next) =>
        Assert.Equal(next, Started(AfterFind(outcome)).ActivityId);

    [Fact]
    public void An_optional_input_from_a_branch_that_was_not_taken_is_left_unconnected()
    {
        Assert.Empty(Started(AfterFind("None")).Inputs);
        var definition = WorkflowDefinition.Parse(Text());
        var measured = Interpreter.Apply(definition, Stages, AfterFind("Found").State, new StageSucceeded("measure#1"));
        Assert.Equal(new PortSource("measure#1", "measure", "evaluation"), Started(measured).Inputs["champion"]);
    }

    [Theory]
    [InlineData(null, 2)]
    [InlineData("frozen.jsonl", 1)]
    public void An_input_that_a_setting_replaces_is_left_unconnected(string? prompts, int numInputs)
    {
        var definition = WorkflowDefinition.Parse(Flowchart(
            [
                Activity("find", "FastDraft.Find"), Activity("ingest", "FastDraft.Ingest"),
                Activity("measure", "FastDraft.Measure", ("corpus", "Literal", "ingest.corpus"), ("prompts", "Literal", prompts)),
            ],
            "find.Found>ingest", "ingest>measure"));
        var step = Interpreter.Start(definition, Stages, new Dictionary<string, JsonNode?>());
        step = Interpreter.Apply(definition, Stages, step.State, new StageSucceeded("find#1", "Found"));
        Assert.Equal(numInputs, Started(Interpreter.Apply(definition, Stages, step.State, new StageSucceeded("ingest#1"))).Inputs.Count);
    }

    [Fact]
    public void A_connection_leaves_by_an_outcome_that_the_stage_has() =>
        Assert.Contains("'Missing'", Assert.Single(WorkflowValidator.Validate(Text().Replace("\"None\"", "\"Missing\"", StringComparison.Ordinal), "w.json", Stages)).Message, StringComparison.Ordinal);

    private static string Text() => Flowchart(
        [
            Activity("find", "FastDraft.Find"), Activity("measure", "FastDraft.Measure", ("draft", "Literal", "find.draft"), ("prompts", "Literal", "frozen.jsonl")),
            Activity("compare", "FastDraft.Compare", ("champion", "Literal", "measure.evaluation")),
        ],
        "find.Found>measure", "find.None>compare", "measure>compare");

    private static Transition AfterFind(string outcome)
    {
        var definition = WorkflowDefinition.Parse(Text());
        var step = Interpreter.Start(definition, Stages, new Dictionary<string, JsonNode?>());
        return Interpreter.Apply(definition, Stages, step.State, new StageSucceeded("find#1", outcome));
    }

    private static StartStage Started(Transition transition) => transition.Effects.OfType<StartStage>().Single();
}
