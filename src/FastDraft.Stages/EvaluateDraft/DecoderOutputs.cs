using System.Diagnostics;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;

namespace FastDraft.Stages.EvaluateDraft;

/// <summary>Runs the plain and the speculative decoder for a measurement, with the same options on both sides.</summary>
public static class DecoderOutputs
{
    /// <summary>Draft length 0 runs <see cref="PlainDecoder"/>, any other <see cref="SpeculativeDecoder"/>; the prefill is left out of the time.</summary>
    public static GenerateOutput Of(ICausalModel target, ICausalModel draft, int maxNewTokens, IReadOnlyList<int> eosTokenIds)
    {
        var plain = new PlainDecoder(target);
        var speculative = new SpeculativeDecoder(target, draft);
        return (prompt, temperature, draftLength, seed, recordOverlaps) =>
        {
            var options = new GenerationOptions
            {
                MaxNewTokens = maxNewTokens,
                Temperature = temperature,
                DraftLength = draftLength,
                Seed = seed,
                EosTokenIds = eosTokenIds,
                RecordOverlaps = recordOverlaps,
            };
            var result = draftLength == 0 ? plain.Generate(prompt.Ids, options) : speculative.Generate(prompt.Ids, options);
            return new(
                result.Ids,
                [.. result.Blocks.Select(b => new MeasuredBlock(b.Drafted, b.Accepted, b.Emitted, b.Overlaps, Seconds(b.DraftTicks), Seconds(b.TargetTicks)))],
                Seconds(result.DecodeTicks));
        };
    }

    private static double Seconds(long ticks) => (double)ticks / Stopwatch.Frequency;
}
