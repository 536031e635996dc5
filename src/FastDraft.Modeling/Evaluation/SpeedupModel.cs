namespace FastDraft.Modeling.Evaluation;

/// <summary>Closed forms that turn acceptance into speed-ups (methods.md 2.1 to 2.3; Leviathan et al. 2211.17192).</summary>
public static class SpeedupModel
{
    /// <summary>tau = (1 - alpha^(gamma+1)) / (1 - alpha) for independent acceptance <paramref name="alpha"/> per token.</summary>
    public static double GeometricBlockEfficiency(double alpha, int draftLength) => alpha >= 1
        ? draftLength + 1
        : (1 - Math.Pow(alpha, draftLength + 1)) / (1 - alpha);

    /// <summary>tau = 1 + gamma AR, exact as long as no block is cut by an end of text or a length limit.</summary>
    public static double BlockEfficiencyOf(double acceptanceRate, int draftLength) => 1 + (draftLength * acceptanceRate);

    /// <summary>AR = (tau - 1) / gamma, the inverse of <see cref="BlockEfficiencyOf"/>.</summary>
    public static double AcceptanceRateOf(double blockEfficiency, int draftLength) => (blockEfficiency - 1) / draftLength;

    /// <summary>MBSU = tau / (1 + c gamma); <paramref name="costRatio"/> is draft parameters / target parameters.</summary>
    public static double MemoryBound(double blockEfficiency, int draftLength, double costRatio) =>
        blockEfficiency / (1 + (costRatio * draftLength));

    /// <summary>tau / (v(gamma+1) + gamma c_lat + o), from latencies measured on this machine.</summary>
    public static double Predicted(double blockEfficiency, int draftLength, LatencyModel latency) =>
        blockEfficiency / latency.RelativeBlockTime(draftLength);

    /// <summary>The draft length of 1..<paramref name="maximum"/> with the highest memory-bound speed-up under the geometric model.</summary>
    public static int BestDraftLength(double alpha, double costRatio, int maximum = 64) => Enumerable.Range(1, maximum)
        .MaxBy(gamma => MemoryBound(GeometricBlockEfficiency(alpha, gamma), gamma, costRatio));

    /// <summary>Sum over k of the product of the first k conditional acceptances; stops at the first position never reached.</summary>
    public static double ExpectedAcceptedLength(IReadOnlyList<double> conditionalAcceptance)
    {
        var (sum, product) = (0.0, 1.0);
        foreach (var a in conditionalAcceptance)
        {
            if (double.IsNaN(a))
            {
                break;
            }

            product *= a;
            sum += product;
        }

        return sum;
    }
}

/// <summary>
/// Measured times of one call in seconds: the draft on one token, the target on m = 1, 2, ... tokens, and what a block costs beside them.
/// </summary>
public sealed record LatencyModel(double DraftSeconds, IReadOnlyList<double> TargetSeconds, double OverheadSeconds)
{
    /// <summary>c_lat = t_draft(1) / t_target(1).</summary>
    public double DraftCost => DraftSeconds / TargetSeconds[0];

    /// <summary>o = block overhead / t_target(1).</summary>
    public double Overhead => OverheadSeconds / TargetSeconds[0];

    /// <summary>v(m) = t_target(m) / t_target(1); beyond what was measured it follows the slope of the last two points.</summary>
    public double TargetCost(int numTokens)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(numTokens, 1);
        var last = TargetSeconds.Count;
        var seconds = numTokens <= last
            ? TargetSeconds[numTokens - 1]
            : TargetSeconds[^1] + ((numTokens - last) * (last > 1 ? Math.Max(0, TargetSeconds[^1] - TargetSeconds[^2]) : 0));
        return seconds / TargetSeconds[0];
    }

    /// <summary>v(gamma+1) + gamma c_lat + o: the time of one block in units of one plain target call.</summary>
    public double RelativeBlockTime(int draftLength) => TargetCost(draftLength + 1) + (draftLength * DraftCost) + Overhead;
}
