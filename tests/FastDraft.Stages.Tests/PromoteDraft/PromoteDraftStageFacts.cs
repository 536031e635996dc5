using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Evaluation;
using FastDraft.Stages.EvaluateDraft;
using FastDraft.Stages.PromoteDraft;
using FastDraft.Stages.Tests.IngestCorpus;

namespace FastDraft.Stages.Tests.PromoteDraft;

public sealed class PromoteDraftStageFacts : IDisposable
{
    private const int NumPrompts = 40;

    private readonly StageFolder _folder = new();

    public PromoteDraftStageFacts()
    {
        foreach (var model in new[] { "target", "challenger", "champion" })
        {
            _folder.File($"{model}/model.safetensors", model);
        }

        _folder.Inputs.Clear();
        _folder.Inputs["draft"] = "challenger";
        _folder.Inputs["evaluation"] = "challenger-evaluation";
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_first_draft_is_promoted_and_the_decision_says_why()
    {
        Write("challenger", _ => .4);
        var (decision, outcome) = await Decide();
        Assert.Equal((PromoteDraftStage.Promoted, true), (outcome, decision.IsPromoted));
        Assert.Null(decision.Interval);
        Assert.Equal("There is no champion yet: the draft is promoted with acceptance rate 0.400 over 40 prompts.", decision.Reason);
    }

    [Fact]
    public async Task A_challenger_that_is_better_on_nearly_every_prompt_is_promoted()
    {
        Write("challenger", i => .5 + (.2 * Noise(i)));
        Champion(i => .4 + (.2 * Noise(i)));
        var (decision, outcome) = await Decide();
        Assert.Equal(PromoteDraftStage.Promoted, outcome);
        Assert.InRange(decision.Interval![0], .05, .1);
        Assert.Equal(decision.Challenger - decision.Champion!.Value, decision.Difference!.Value, 12);
        Assert.Matches(@"^The challenger is promoted: acceptance rate 0\.\d{3} against the champion's 0\.\d{3}, a difference of \+0\.\d{3} \(95 % interval .* over 40 prompts\), wholly above zero\.$", decision.Reason);
    }

    [Theory]
    [InlineData(.38, 0)]
    [InlineData(.4, 0)]
    [InlineData(.41, 0)]
    [InlineData(.5, .2)]
    public async Task A_challenger_that_is_worse_or_not_surely_better_is_not_promoted(double rate, double margin)
    {
        // Independent noise of both: a difference of one point over 40 prompts cannot be told from luck.
        Write("challenger", i => rate + (.3 * Noise(i)));
        Champion(i => .4 + (.3 * Noise(i + 1000)));
        var (decision, outcome) = await Decide(("margin", margin));
        Assert.Equal((PromoteDraftStage.Kept, PromotionVerdict.Keep), (outcome, decision.Decision));
        Assert.StartsWith("The champion stays: the challenger has acceptance rate", decision.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Pairing_finds_a_small_gain_that_differences_between_prompts_would_hide()
    {
        Write("challenger", i => .43 + (.35 * Noise(i)));
        Champion(i => .4 + (.35 * Noise(i)));
        Assert.Equal(PromoteDraftStage.Promoted, (await Decide()).Outcome);
    }

    [Fact]
    public async Task The_predicted_speedup_counts_what_the_draft_costs()
    {
        Write("challenger", i => .5 + (.1 * Noise(i)), draftSeconds: .5);
        Champion(i => .4 + (.1 * Noise(i)), draftSeconds: .05);
        Assert.Equal(PromoteDraftStage.Promoted, (await Decide()).Outcome);
        var (decision, outcome) = await Decide(("criterion", "predicted-speedup"));
        Assert.Equal(PromoteDraftStage.Kept, outcome);
        Assert.True(decision.Difference < 0);
    }

    [Fact]
    public async Task The_champions_best_conditions_decide_unless_others_are_set()
    {
        Write("challenger", _ => .4, best: 2);
        Champion(_ => .4, best: 3);
        Assert.Equal(3, (await Decide()).Decision.DraftLength);
        var (decision, _) = await Decide(("draftLength", 2), ("temperature", .6));
        Assert.Equal((2, .6), (decision.DraftLength, decision.Temperature));
    }

    [Fact]
    public async Task What_cannot_be_compared_is_refused()
    {
        var champion = Report("champion", _ => .4);
        Write("challenger", _ => .5);
        await Refused(champion with { Prompts = champion.Prompts with { Digest = "sha256:other" } }, "they measured different prompts");
        await Refused(champion with { PromptResults = null, Schema = "fastdraft-report/1" }, "schema fastdraft-report/1, which has no counts of single prompts");
        await Refused(champion with { Target = champion.Target with { Weights = [new("model.safetensors", "sha256:other")] } }, "was measured against another target");
        await Refused(champion with { Draft = champion.Draft with { Weights = [new("model.safetensors", "sha256:other")] } }, "the evaluation of another model");
        await Refused(champion with { PromptResults = [.. champion.PromptResults!.Where(p => p.Prompt != "p0")] }, "list different prompts");
        await Refused(champion with { Machine = champion.Machine with { Processor = "another" } }, "on different machines (cpu and another)", ("criterion", "predicted-speedup"));
        await Refused(champion, "the challenger was not measured at draft length 5 and temperature 0", ("draftLength", 5));
        _folder.Inputs.Remove("championEvaluation");
        Assert.Contains("Only one of the inputs", (await Assert.ThrowsAsync<StageFailureException>(() => Decide())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Too_few_prompts_for_an_interval_are_refused()
    {
        Write("challenger", _ => .9, numPrompts: 4);
        var champion = Report("champion", _ => .1, numPrompts: 4);
        await Refused(champion, "4 prompts are too few for an interval, at least 5");
    }

    private static double Noise(int i) => (CounterNoise(i) - .5) * 2;

    private static double CounterNoise(int i) => (uint)(i * 2654435761u) / 4294967296.0;

    private async Task Refused(EvaluationReport champion, string why, params (string Name, JsonNode Value)[] settings)
    {
        WriteReport("champion", champion);
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => Decide(settings));
        Assert.Contains(why, failure.Message, StringComparison.Ordinal);
    }

    private void Champion(Func<int, double> rate, double draftSeconds = .1, int best = 3) => WriteReport("champion", Report("champion", rate, draftSeconds, best));

    private void Write(string model, Func<int, double> rate, double draftSeconds = .1, int best = 3, int numPrompts = NumPrompts) =>
        WriteReport(model, Report(model, rate, draftSeconds, best, numPrompts));

    private void WriteReport(string model, EvaluationReport report)
    {
        _folder.File($"{model}-evaluation/report.json", report.ToJson());
        if (model == "champion")
        {
            _folder.Inputs["champion"] = "champion";
            _folder.Inputs["championEvaluation"] = "champion-evaluation";
        }
    }

    private EvaluationReport Report(string model, Func<int, double> rate, double draftSeconds = .1, int best = 3, int numPrompts = NumPrompts)
    {
        ModelFacts Facts(string name) => new(name, 1, 1, 1, 1, [new("model.safetensors", EvaluateDraftStage.FileDigest(_folder[name + "/model.safetensors"]))]);
        PromptResult Prompt(int i, double temperature, int gamma)
        {
            var accepted = (long)Math.Round(1000 * gamma * Math.Clamp(rate(i), 0, 1));
            return new("suite", $"p{i}", temperature, gamma, 1000, 1000 * gamma, accepted, 1000 + accepted);
        }

        return new(
            EvaluationReport.CurrentSchema, new(0, 0, 0, 0, 0, new(0, 0), 0, best, numPrompts, numPrompts), DateTimeOffset.UnixEpoch, new Dictionary<string, string>(), [],
            Facts("target"), Facts(model), .1, new("os", "cpu", 2, 2, "f32", "cpu"), new("sha256:prompts", numPrompts, []), new(draftSeconds, [1, 1.1, 1.2, 1.3], 0), [],
            [.. from temperature in new[] { 0, .6 } from gamma in new[] { 2, 3 } from i in Enumerable.Range(0, numPrompts) select Prompt(i, temperature, gamma)],
            [], new(0, 0, 0, 0), null, []);
    }

    private async Task<(PromotionDecision Decision, string? Outcome)> Decide(params (string Name, JsonNode Value)[] settings)
    {
        var all = new JsonObject { ["draftName"] = "d", ["target"] = _folder["target"], ["criterion"] = "acceptance-rate", ["margin"] = 0, ["seed"] = 1 };
        foreach (var (name, value) in settings)
        {
            all[name] = value.DeepClone();
        }

        var context = _folder.Context(all, "promotion");
        await new PromoteDraftStage().ExecuteAsync(context, TestContext.Current.CancellationToken);
        return (PromotionDecision.Parse(await File.ReadAllTextAsync(_folder["promotion/decision.json"], TestContext.Current.CancellationToken)), context.Outcome);
    }
}
