namespace FastDraft.Modeling.Decoding;

/// <summary>How to generate. <see cref="Temperature"/> 0 is greedy with ties going to the lowest id.</summary>
public sealed record GenerationOptions
{
    public int MaxNewTokens { get; init; } = 128;

    public double Temperature { get; init; }

    /// <summary>Keep only this many most likely tokens; 0 keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>Keep the smallest set of most likely tokens with at least this mass; 1 keeps all.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Gamma: tokens drafted per block, at most. 0 decodes without a draft.</summary>
    public int DraftLength { get; init; } = 4;

    public ulong Seed { get; init; }

    public bool IgnoreEos { get; init; }

    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>
    /// Record sum_x min(p, q) at every reached drafted position. At temperature 0 the overlap is that of the untempered laws,
    /// which costs two softmaxes a position; otherwise it is nearly free.
    /// </summary>
    public bool RecordOverlaps { get; init; }

    /// <exception cref="ArgumentException">A value is out of range.</exception>
    internal void Validate()
    {
        Require(MaxNewTokens >= 0, nameof(MaxNewTokens));
        Require(double.IsFinite(Temperature) && Temperature >= 0, nameof(Temperature));
        Require(TopK >= 0, nameof(TopK));
        Require(TopP is > 0 and <= 1, nameof(TopP));
        Require(DraftLength >= 0, nameof(DraftLength));
    }

    internal bool IsEos(int token) => !IgnoreEos && EosTokenIds.Contains(token);

    private static void Require(bool condition, string name)
    {
        if (!condition)
        {
            throw new ArgumentException($"Generation option {name} is out of range.", name);
        }
    }
}

public enum FinishReason
{
    /// <summary>An end-of-sequence token was emitted; it is the last id.</summary>
    Eos,

    /// <summary>The budget of new tokens is spent.</summary>
    Length,

    /// <summary>Prompt and text fill the target's context.</summary>
    Context,
}

/// <summary>
/// One draft phase and one target call. <see cref="Accepted"/> counts drafted tokens the verifier took; <see cref="Emitted"/> counts
/// what was appended (one more, unless the block ended at an accepted end-of-sequence token). <see cref="Overlaps"/> is empty
/// unless recorded. Ticks are those of <see cref="System.Diagnostics.Stopwatch"/>.
/// </summary>
public sealed record BlockEvent(int Drafted, int Accepted, int Emitted, double[] Overlaps, long DraftTicks, long TargetTicks);

/// <summary>New tokens (without the prompt) and one event per target call. Prefill feeds all prompt tokens but the last.</summary>
public sealed record GenerationResult(
    int[] Ids, IReadOnlyList<BlockEvent> Blocks, long PrefillTicks, long DecodeTicks, FinishReason FinishReason);
