namespace FastDraft.Modeling.Evaluation;

/// <summary>Figures that expose degenerate loops, which a draft predicts far too easily (methods.md 2.4).</summary>
public static class OutputDiversity
{
    /// <summary>Different n-grams / n-grams over all outputs together; 1 when nothing repeats, NaN without n-grams.</summary>
    public static double Distinct(IEnumerable<IReadOnlyList<int>> outputs, int n)
    {
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var total = 0L;
        foreach (var gram in outputs.SelectMany(o => Grams(o, n)))
        {
            seen.Add(gram);
            total++;
        }

        return total == 0 ? double.NaN : (double)seen.Count / total;
    }

    /// <summary>Share of n-grams already seen earlier in the same output; near 1 for a loop, NaN without n-grams.</summary>
    public static double Repetition(IEnumerable<IReadOnlyList<int>> outputs, int n = 4)
    {
        var (repeated, total) = (0L, 0L);
        foreach (var output in outputs)
        {
            var seen = new HashSet<string>(StringComparer.Ordinal);
            foreach (var gram in Grams(output, n))
            {
                repeated += seen.Add(gram) ? 0 : 1;
                total++;
            }
        }

        return total == 0 ? double.NaN : (double)repeated / total;
    }

    private static IEnumerable<string> Grams(IReadOnlyList<int> ids, int n)
    {
        for (var i = 0; i + n <= ids.Count; i++)
        {
            yield return string.Join(' ', ids.Skip(i).Take(n));
        }
    }
}
