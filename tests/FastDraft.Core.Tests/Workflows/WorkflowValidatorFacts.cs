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

    [Fact]
    public void Broken_text_is_one_error_with_its_place()
    {
        var error = Assert.Single(Validate("{\n  \"root\": }"));

        Assert.Equal((2, 11), (error.Line, error.Column));
    }
}
