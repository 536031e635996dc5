using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Evaluation;
using FastDraft.Modeling.Models;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Stages.ExportDraft;

/// <summary>What a written model is worth as a draft, in the engine and at the precision that it is deployed in.</summary>
/// <param name="AcceptanceRate">Accepted / drafted, greedy, over all prompts; NaN where nothing was drafted.</param>
/// <param name="BlockEfficiency">Tokens emitted for each call of the target; NaN where there was none.</param>
/// <param name="DraftSeconds">Median time of a call on one token.</param>
/// <param name="DraftLength">Tokens proposed at a time.</param>
/// <param name="NumPrompts">Prompts decoded.</param>
public sealed record DeployedFigures(double AcceptanceRate, double BlockEfficiency, double DraftSeconds, int DraftLength, int NumPrompts)
{
    private const int NumLatencyRepeats = 50;

    /// <summary>Decodes the prompts greedily with this draft.</summary>
    internal static DeployedFigures Measure(
        ICausalModel target, ICausalModel draft, IReadOnlyList<PromptCase> prompts, int draftLength, int maxNewTokens, IReadOnlyList<int> eosTokenIds, TimeProvider clock, CancellationToken cancellationToken)
    {
        var seconds = LatencyProbe.Measure(draft, prompts[0].Ids, 1, NumLatencyRepeats, clock)[0];
        var decoder = new SpeculativeDecoder(target, draft);
        var sums = new AcceptanceSums();
        foreach (var prompt in prompts)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var result = decoder.Generate(prompt.Ids, new GenerationOptions { MaxNewTokens = maxNewTokens, DraftLength = draftLength, EosTokenIds = eosTokenIds });
            foreach (var block in result.Blocks)
            {
                sums.Add(block.Drafted, block.Accepted, block.Emitted, []);
            }
        }

        return new(sums.AcceptanceRate, sums.BlockEfficiency, seconds, draftLength, prompts.Count);
    }
}
