namespace FastDraft.Modeling.Evaluation;

/// <summary>
/// What blocks of speculative decoding added up to. Everything is summed first and divided once at the end, so that a prompt with many
/// blocks weighs as much as its blocks do (methods.md 2.1). A ratio without observations is NaN.
/// </summary>
public sealed class AcceptanceSums
{
    private readonly List<long> reached = [];
    private readonly List<long> acceptedAt = [];
    private double overlap;
    private long overlapPositions;

    /// <summary>Target calls after the prefill.</summary>
    public long NumBlocks { get; private set; }

    /// <summary>Tokens the draft proposed.</summary>
    public long NumDrafted { get; private set; }

    /// <summary>Proposed tokens the target accepted.</summary>
    public long NumAccepted { get; private set; }

    /// <summary>Tokens emitted: accepted ones, and the correction or bonus token of each block.</summary>
    public long NumEmitted { get; private set; }

    /// <summary>Accepted / drafted (methods.md 2.1, AR). Not the per-token acceptance: see methods.md 2.2.</summary>
    public double AcceptanceRate => Ratio(NumAccepted, NumDrafted);

    /// <summary>Mean of sum_x min(p, q) over the drafted positions that verification reached.</summary>
    public double AnalyticAcceptance => overlapPositions == 0 ? double.NaN : overlap / overlapPositions;

    /// <summary>Tokens emitted per target call (tau).</summary>
    public double BlockEfficiency => Ratio(NumEmitted, NumBlocks);

    /// <summary>a_i for i = 1, 2, ...: how often position i is accepted when all positions before it were.</summary>
    public IReadOnlyList<double> ConditionalAcceptance => [.. reached.Select((n, i) => Ratio(acceptedAt[i], n))];

    /// <summary>How many blocks reached position i = 1, 2, ...</summary>
    public IReadOnlyList<long> Reached => reached;

    /// <summary>Sum over k of the product of a_1..a_k (methods.md 2.1, EAL).</summary>
    public double ExpectedAcceptedLength => SpeedupModel.ExpectedAcceptedLength(ConditionalAcceptance);

    /// <summary>Adds one block.</summary>
    /// <param name="overlaps">sum_x min(p, q) at each drafted position that was reached; may be empty when not recorded.</param>
    /// <exception cref="ArgumentOutOfRangeException">The counts contradict each other.</exception>
    public void Add(int drafted, int accepted, int emitted, ReadOnlySpan<double> overlaps)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(drafted);
        ArgumentOutOfRangeException.ThrowIfNegative(accepted);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(accepted, drafted);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(emitted, accepted + 1);
        NumBlocks++;
        NumDrafted += drafted;
        NumAccepted += accepted;
        NumEmitted += emitted;
        foreach (var value in overlaps)
        {
            overlap += value;
            overlapPositions++;
        }

        var positions = Math.Min(drafted, accepted + 1);
        Grow(positions);
        for (var i = 0; i < positions; i++)
        {
            reached[i]++;
            acceptedAt[i] += i < accepted ? 1 : 0;
        }
    }

    /// <summary>Adds what another set of blocks summed to.</summary>
    public void Add(AcceptanceSums other)
    {
        NumBlocks += other.NumBlocks;
        NumDrafted += other.NumDrafted;
        NumAccepted += other.NumAccepted;
        NumEmitted += other.NumEmitted;
        overlap += other.overlap;
        overlapPositions += other.overlapPositions;
        Grow(other.reached.Count);
        for (var i = 0; i < other.reached.Count; i++)
        {
            reached[i] += other.reached[i];
            acceptedAt[i] += other.acceptedAt[i];
        }
    }

    private void Grow(int positions)
    {
        while (reached.Count < positions)
        {
            reached.Add(0);
            acceptedAt.Add(0);
        }
    }

    private static double Ratio(long numerator, long denominator) =>
        denominator == 0 ? double.NaN : (double)numerator / denominator;
}
