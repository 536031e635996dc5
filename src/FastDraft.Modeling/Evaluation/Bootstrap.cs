namespace FastDraft.Modeling.Evaluation;

/// <summary>A two-sided interval, both ends included.</summary>
public readonly record struct Interval(double Low, double High)
{
    public bool Contains(double value) => Low <= value && value <= High;
}

/// <summary>
/// Percentile bootstrap over prompts. The statistic is given the drawn prompt indices, so both sides of a comparison are computed from
/// the same prompts (a paired interval). Equal seeds give equal intervals on every machine.
/// </summary>
public static class Bootstrap
{
    public const int DefaultResamples = 2000;

    /// <param name="numPrompts">Prompts to draw from, with replacement.</param>
    /// <param name="statistic">Computes the figure from the drawn indices; NaN draws are left out.</param>
    /// <returns>The central interval; NaN ends when no draw had a value.</returns>
    public static Interval Percentile(
        int numPrompts, Func<ReadOnlySpan<int>, double> statistic, ulong seed, int resamples = DefaultResamples, double level = .95)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(numPrompts);
        if (numPrompts == 0)
        {
            return new(double.NaN, double.NaN);
        }

        var state = seed;
        var drawn = new int[numPrompts];
        var values = new List<double>(resamples);
        for (var r = 0; r < resamples; r++)
        {
            for (var i = 0; i < drawn.Length; i++)
            {
                drawn[i] = (int)Math.BigMul(Next(ref state), (ulong)numPrompts, out _);
            }

            var value = statistic(drawn);
            if (!double.IsNaN(value))
            {
                values.Add(value);
            }
        }

        if (values.Count == 0)
        {
            return new(double.NaN, double.NaN);
        }

        values.Sort();
        var tail = (1 - level) / 2;
        return new(Quantiles.OfSorted(values, tail), Quantiles.OfSorted(values, 1 - tail));
    }

    /// <summary>The interval of sum(numerators) / sum(denominators), prompt by prompt pairs kept together.</summary>
    public static Interval Ratio(
        IReadOnlyList<double> numerators, IReadOnlyList<double> denominators, ulong seed, int resamples = DefaultResamples)
    {
        if (numerators.Count != denominators.Count)
        {
            throw new ArgumentException($"{numerators.Count} numerators and {denominators.Count} denominators.", nameof(denominators));
        }

        return Percentile(
            numerators.Count,
            drawn =>
            {
                var (top, bottom) = (0.0, 0.0);
                foreach (var i in drawn)
                {
                    top += numerators[i];
                    bottom += denominators[i];
                }

                return bottom == 0 ? double.NaN : top / bottom;
            },
            seed,
            resamples);
    }

    // SplitMix64: tiny, seedable and the same everywhere, which System.Random does not promise between versions.
    private static ulong Next(ref ulong state)
    {
        var z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}

/// <summary>Quantiles with linear interpolation between order statistics.</summary>
public static class Quantiles
{
    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        return sorted.Count == 0 ? double.NaN : OfSorted(sorted, .5);
    }

    /// <param name="sorted">Ascending, not empty.</param>
    public static double OfSorted(IReadOnlyList<double> sorted, double quantile)
    {
        var position = quantile * (sorted.Count - 1);
        var below = (int)Math.Floor(position);
        var above = Math.Min(below + 1, sorted.Count - 1);
        return sorted[below] + ((position - below) * (sorted[above] - sorted[below]));
    }
}
