namespace FastDraft.Modeling.Training;

/// <summary>What the derivation needs of a target model.</summary>
public sealed record TargetShape(int VocabularySize, int NumHeads, int NumKeyValueHeads);

/// <summary>
/// The shape of a draft model, derived from one dial. Few layers, because depth rather than width decides a draft's latency
/// (methods.md 3.2 finding 4); the embedding is tied, because the vocabulary is the target's and would otherwise be paid twice (3.4).
/// </summary>
public sealed record DraftShape(
    int VocabularySize, int NumLayers, int HiddenSize, int IntermediateSize, int NumHeads, int NumKeyValueHeads, int HeadSize, bool TieWordEmbeddings)
{
    public long NumParameters => Count(VocabularySize, NumLayers, HiddenSize, IntermediateSize, NumHeads, NumKeyValueHeads, HeadSize);

    /// <summary>The largest shape within the budget. Overrides fix a dimension; the others are derived around it.</summary>
    /// <exception cref="ArgumentException">Not even the narrowest model with this vocabulary fits, or the overrides contradict each other.</exception>
    public static DraftShape Derive(long parameterBudget, TargetShape target, int? numLayers = null, int? hiddenSize = null, int? numHeads = null)
    {
        var layers = numLayers ?? parameterBudget switch
        {
            < 10_000_000 => 2,
            < 40_000_000 => 4,
            < 100_000_000 => 6,
            _ => 8,
        };
        var smallest = Build(target, layers, hiddenSize ?? 32, numHeads);
        if (hiddenSize is not null)
        {
            return smallest;
        }

        if (smallest.NumParameters > parameterBudget)
        {
            throw new ArgumentException(
                $"A budget of {parameterBudget:N0} parameters cannot hold a draft for a vocabulary of {target.VocabularySize:N0}: the smallest (hidden 32, {layers} layers) has {smallest.NumParameters:N0}.");
        }

        var best = smallest;
        for (var width = 64; ; width += width < 256 ? 32 : 64)
        {
            if (numHeads is { } heads && width % (2 * heads) != 0)
            {
                continue;
            }

            var wider = Build(target, layers, width, numHeads);
            if (wider.NumParameters > parameterBudget)
            {
                return best;
            }

            best = wider;
        }
    }

    public override string ToString() =>
        $"{NumParameters / 1e6:F2}M parameters: {NumLayers} layers, hidden {HiddenSize}, intermediate {IntermediateSize}, {NumHeads} heads of {HeadSize} ({NumKeyValueHeads} key-value), vocabulary {VocabularySize}, {(TieWordEmbeddings ? "tied" : "untied")} embedding";

    private static DraftShape Build(TargetShape target, int layers, int hidden, int? numHeads)
    {
        var heads = numHeads ?? hidden / (hidden >= 256 && hidden % 64 == 0 ? 64 : 32);
        if (heads < 1 || hidden % (2 * heads) != 0)
        {
            throw new ArgumentException($"A hidden size of {hidden} does not divide into {heads} heads of an even size.");
        }

        // Grouped-query attention as the target has it, as far as the draft's heads divide that way.
        var group = Math.Max(1, target.NumHeads / Math.Max(1, target.NumKeyValueHeads));
        while (heads % group != 0)
        {
            group--;
        }

        var intermediate = ((hidden * 8 / 3) + 31) / 32 * 32;
        return new DraftShape(target.VocabularySize, layers, hidden, intermediate, heads, heads / group, hidden / heads, TieWordEmbeddings: true);
    }

    private static long Count(long vocabulary, long layers, long hidden, long intermediate, long heads, long keyValueHeads, long headSize) =>
        (vocabulary * hidden) + hidden
        + (layers * ((2 * hidden * heads * headSize) + (2 * hidden * keyValueHeads * headSize) + (3 * hidden * intermediate) + (2 * hidden)));
}
