using System.Text.Json;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Stages.PromoteDraft;

/// <summary>
/// Decides whether a new draft takes the champion's place. The stage only decides: the registry changes in the transaction that commits
/// its <c>promotion</c> output, so a worker killed here, or a commit that is refused, changes nothing.
/// </summary>
public sealed class PromoteDraftStage : IStage
{
    public const string Draft = "draft";
    public const string Evaluation = "evaluation";
    public const string Champion = "champion";
    public const string ChampionEvaluation = "championEvaluation";
    public const string Promoted = "Promoted";
    public const string Kept = "Kept";

    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        "PromoteDraft", 1, "Promotes a draft to champion only if it is better than the present one by its confidence interval.",
        [
            new("draftName", SettingType.Text, "The draft's name in the registry.", Required: true),
            new("target", SettingType.Path, "Hugging Face folder of the target model.", Required: true, Content: PathContent.Model),
            new(
                "criterion", SettingType.Choice, "What must be better, on the same prompts.", ChampionComparison.AcceptanceRate,
                Choices: [ChampionComparison.AcceptanceRate, ChampionComparison.PredictedSpeedup]),
            new("margin", SettingType.Number, "The whole 95 % interval of the difference must lie above this.", 0),
            new("temperature", SettingType.Number, "Temperature to compare at; the champion's lowest when not given.", Minimum: 0),
            new("draftLength", SettingType.Integer, "Draft length to compare at; the champion's best when not given.", Minimum: 1, Unit: "tokens"),
            new("seed", SettingType.Integer, "Seed of the bootstrap.", 1),
        ],
        [
            new(Draft, ArtifactKind.Model, "The challenger."),
            new(Evaluation, ArtifactKind.Evaluation, "The challenger's evaluation."),
            new(Champion, ArtifactKind.Model, "The present champion, as FindChampion gave it; unconnected or empty where there is none.", Required: false),
            new(ChampionEvaluation, ArtifactKind.Evaluation, "The champion's evaluation on the same prompts.", Required: false),
        ],
        [new("promotion", ArtifactKind.Promotion, "decision.json: the decision, both values, their interval and the reason.")])
    {
        Outcomes = [Promoted, Kept],
    };

    public Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        if (context.HasInput(Champion) != context.HasInput(ChampionEvaluation))
        {
            throw new StageFailureException(
                FailureKind.Config, $"Only one of the inputs '{Champion}' and '{ChampionEvaluation}' is connected.", "wire both, from FindChampion and from EvaluateDraft on its draft, or neither");
        }

        var targetWeights = WeightDigests(context.RequiredText("target"));
        var challenger = Report(context, Evaluation, Draft, targetWeights);
        var champion = context.HasInput(Champion) ? Report(context, ChampionEvaluation, Champion, targetWeights) : null;
        var decision = new ChampionComparison(
            context.RequiredText("criterion"), context.Number("margin")!.Value, context.Number("temperature"), (int?)context.Integer("draftLength"), unchecked((ulong)context.Integer("seed")!.Value))
            .Decide(challenger, champion);
        File.WriteAllText(Path.Join(context.Output("promotion"), PromotionDecision.FileName), decision.ToJson());
        context.Outcome = decision.IsPromoted ? Promoted : Kept;
        context.Events.Metric("promotion_challenger", decision.Challenger, 0);
        context.Events.Log(decision.Reason);
        return Task.CompletedTask;
    }

    /// <summary>The report of an input, which must be about the model of another input and about this target.</summary>
    private static EvaluationReport Report(StageContext context, string evaluation, string model, IReadOnlyList<string> targetWeights)
    {
        EvaluationReport report;
        try
        {
            report = EvaluationReport.Parse(File.ReadAllText(Path.Join(context.Input(evaluation), "report.json")));
        }
        catch (Exception e) when (e is JsonException or FileNotFoundException)
        {
            throw new StageFailureException(FailureKind.Data, $"Input '{evaluation}' holds no evaluation report: {e.Message}", "wire it to EvaluateDraft", e);
        }

        if (!report.Draft.Weights.Select(w => w.Digest).SequenceEqual(WeightDigests(context.Input(model))))
        {
            throw new StageFailureException(FailureKind.Config, $"Input '{evaluation}' is the evaluation of another model than input '{model}'.", "wire both from the same draft");
        }

        return report.Target.Weights.Select(w => w.Digest).SequenceEqual(targetWeights)
            ? report
            : throw new StageFailureException(FailureKind.Config, $"Input '{evaluation}' was measured against another target than the setting 'target' names.", "the same target in EvaluateDraft and PromoteDraft");
    }

    private static List<string> WeightDigests(string folder) => [.. TensorStages.Reading(() => SafetensorsFolder.WeightFiles(folder)).Select(EvaluateDraftStage.FileDigest)];
}
