using System.Globalization;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Evaluation;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Stages.PromoteDraft;

/// <summary>
/// Compares two evaluations prompt by prompt. Equal prompts, target, draft length and temperature are a precondition and not an
/// adjustment: where one differs the comparison is refused, because a difference of the drafts could not be told from it.
/// </summary>
internal sealed class ChampionComparison(string criterion, double margin, double? temperature, int? draftLength, ulong seed)
{
    public const string AcceptanceRate = "acceptance-rate";
    public const string PredictedSpeedup = "predicted-speedup";

    // A bootstrap of fewer has too few distinct resamples for a 95 % interval to mean anything.
    private const int MinPrompts = 5;

    /// <param name="champion">Null where there is none yet.</param>
    /// <exception cref="StageFailureException">The evaluations cannot be compared.</exception>
    public PromotionDecision Decide(EvaluationReport challenger, EvaluationReport? champion)
    {
        // The champion's best conditions decide, not the challenger's: whoever takes a place must be better there.
        var home = (champion ?? challenger).Summary;
        var (at, gamma) = (temperature ?? home.Temperature, draftLength ?? home.DraftLength);
        var ours = Counts(challenger, "challenger", at, gamma);
        var all = Enumerable.Range(0, ours.Count).ToArray();
        var ourValue = Value(challenger, ours, gamma, all);
        if (champion is null)
        {
            return Decision(PromotionVerdict.Promote, null, null, null, FormattableString.Invariant(
                $"There is no champion yet: the draft is promoted with {Words} {ourValue:F3} over {ours.Count} prompts."));
        }

        Comparable(challenger, champion);
        var theirs = Counts(champion, "champion", at, gamma);
        if (!ours.Select(Key).SequenceEqual(theirs.Select(Key)))
        {
            throw Refused("the two evaluations list different prompts");
        }

        if (ours.Count < MinPrompts)
        {
            throw Refused($"{ours.Count} prompts are too few for an interval, at least {MinPrompts} are needed", "a larger numPrompts in both evaluations");
        }

        var theirValue = Value(champion, theirs, gamma, all);
        var interval = Bootstrap.Percentile(ours.Count, drawn => Value(challenger, ours, gamma, drawn) - Value(champion, theirs, gamma, drawn), seed);
        var difference = ourValue - theirValue;
        var isBetter = interval.Low > margin;
        var figures = FormattableString.Invariant(
            $"{Words} {ourValue:F3} against the champion's {theirValue:F3}, a difference of {difference:+0.000;-0.000;0.000} (95 % interval {interval.Low:+0.000;-0.000;0.000} to {interval.High:+0.000;-0.000;0.000} over {ours.Count} prompts)");
        var bar = margin == 0 ? "zero" : FormattableString.Invariant($"the margin {margin:0.###}");
        return isBetter
            ? Decision(PromotionVerdict.Promote, theirValue, difference, interval, $"The challenger is promoted: {figures}, wholly above {bar}.")
            : Decision(PromotionVerdict.Keep, theirValue, difference, interval, $"The champion stays: the challenger has {figures}, not wholly above {bar}.");

        PromotionDecision Decision(PromotionVerdict verdict, double? other, double? by, Interval? within, string reason) => new(
            PromotionDecision.CurrentSchema, verdict, criterion, margin, at, gamma, ourValue, other, by, within is { } i ? [i.Low, i.High] : null,
            ours.Count, challenger.Prompts.Digest, reason);
    }

    private string Words => criterion == AcceptanceRate ? "acceptance rate" : "predicted speed-up";

    private static (string Suite, string Prompt) Key(PromptResult p) => (p.Suite, p.Prompt);

    private void Comparable(EvaluationReport challenger, EvaluationReport champion)
    {
        if (challenger.Prompts.Digest != champion.Prompts.Digest)
        {
            throw Refused("they measured different prompts", "evaluate both on the same frozen prompt files");
        }

        if (!challenger.Target.Weights.Select(w => w.Digest).SequenceEqual(champion.Target.Weights.Select(w => w.Digest)))
        {
            throw Refused("they measured against different targets", "a new name for drafts of a new target");
        }

        if (criterion == PredictedSpeedup && challenger.Machine != champion.Machine)
        {
            throw Refused(
                $"they were measured on different machines ({challenger.Machine.Processor} and {champion.Machine.Processor}), and call times decide a predicted speed-up",
                $"criterion {AcceptanceRate}, or evaluate both on one machine");
        }
    }

    private static List<PromptResult> Counts(EvaluationReport report, string whose, double temperature, int draftLength)
    {
        if (report.PromptResults is not { Count: > 0 } results)
        {
            throw Refused($"the {whose}'s report is of schema {report.Schema}, which has no counts of single prompts", "run EvaluateDraft on it again");
        }

        var at = results.Where(p => p.Temperature == temperature && p.DraftLength == draftLength).ToList();
        return at.Count > 0 ? at : throw Refused(
            string.Create(CultureInfo.InvariantCulture, $"the {whose} was not measured at draft length {draftLength} and temperature {temperature}"),
            "equal draftLengths and temperatures in both evaluations");
    }

    private double Value(EvaluationReport report, List<PromptResult> of, int gamma, ReadOnlySpan<int> drawn)
    {
        var (blocks, drafted, accepted, emitted) = (0L, 0L, 0L, 0L);
        foreach (var i in drawn)
        {
            blocks += of[i].NumBlocks;
            drafted += of[i].NumDrafted;
            accepted += of[i].NumAccepted;
            emitted += of[i].NumEmitted;
        }

        return criterion == AcceptanceRate
            ? drafted == 0 ? double.NaN : (double)accepted / drafted
            : blocks == 0 ? double.NaN : SpeedupModel.Predicted((double)emitted / blocks, gamma, report.Latency.ToModel());
    }

    private static StageFailureException Refused(string why, string? hint = null) =>
        new(FailureKind.Config, $"Challenger and champion cannot be compared: {why}.", hint);
}
