using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Decoding;

/// <summary>
/// Stories sampled with a trained draft beside stories sampled without (methods.md 1.11, two samples): as likely to the target, the
/// same beginnings, the same lengths. Each test at 1e-3 over three, seeds fixed. FASTDRAFT_FULL=1 runs the full counts.
/// </summary>
[Collection(typeof(StoriesCollection))]
public sealed class SampledStoriesFacts
{
    private const int NumBins = 64;

    // Two-sided 1e-3 / 3: of a normal, of chi-square with 63 degrees of freedom, and of Kolmogorov's statistic.
    private const double CriticalZ = 3.588, CriticalBins = 108.5, CriticalDistance = 2.09;

    private static readonly int NumStories = Environment.GetEnvironmentVariable("FASTDRAFT_FULL") == "1" ? 2000 : 80;

    private readonly ICausalModel _target;
    private readonly ICausalModel _draft;

    public SampledStoriesFacts(StoriesDrafts drafts)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        (_target, _draft) = (drafts.Load("cpu", "target"), drafts.Load("cpu", "trained"));
    }

    [Fact]
    public void A_draft_changes_neither_likelihood_nor_beginnings_nor_lengths()
    {
        var (likelihood, beginnings, lengths) = Compare(new SpeculativeDecoder(_target, _draft));
        TestContext.Current.TestOutputHelper?.WriteLine($"{NumStories} stories each: z {likelihood:F2}, chi-square {beginnings:F1}, distance {lengths:F2}");
        Assert.InRange(Math.Abs(likelihood), 0, CriticalZ);
        Assert.InRange(beginnings, 0, CriticalBins);
        Assert.InRange(lengths, 0, CriticalDistance);
    }

    [Fact]
    public void The_test_catches_a_greedy_draft_that_is_verified_as_if_it_were_sampled()
    {
        var (likelihood, _, _) = Compare(new SpeculativeDecoder(_target, _draft, ProposalLaw.PointMass, new Claims(new SoftVerifier())));
        Assert.True(Math.Abs(likelihood) > CriticalZ, $"z {likelihood}");
    }

    private (double Likelihood, double Beginnings, double Lengths) Compare(SpeculativeDecoder decoder)
    {
        GenerationOptions Options(int seed) => new() { MaxNewTokens = 256, Temperature = 1, DraftLength = 4, Seed = (ulong)seed, EosTokenIds = [1, 2] };
        var plain = new PlainDecoder(_target);
        var without = Enumerable.Range(0, NumStories).Select(i => plain.Generate([1], Options(i)).Ids).ToList();
        var with = Enumerable.Range(0, NumStories).Select(i => decoder.Generate([1], Options(NumStories + i)).Ids).ToList();
        return (Z([.. without.Select(LogLikelihood)], [.. with.Select(LogLikelihood)]), ChiSquare(Bins(without), Bins(with)), Distance([.. without.Select(t => t.Length)], [.. with.Select(t => t.Length)]));
    }

    /// <summary>Mean log p of a text's tokens.</summary>
    private double LogLikelihood(int[] text)
    {
        using var session = _target.StartSession();
        var logits = new float[text.Length * _target.VocabularySize];
        session.Forward([1, .. text[..^1]], logits, text.Length);
        var law = new double[_target.VocabularySize];
        var sum = 0.0;
        for (var i = 0; i < text.Length; i++)
        {
            Sampling.Transform(logits.AsSpan(i * law.Length, law.Length), law, 1);
            sum += Math.Log(law[text[i]]);
        }

        return sum / text.Length;
    }

    private static double Z(double[] a, double[] b) => (a.Average() - b.Average()) / Math.Sqrt((Variance(a) / a.Length) + (Variance(b) / b.Length));

    private static double Variance(double[] values) => values.Sum(v => Math.Pow(v - values.Average(), 2)) / (values.Length - 1);

    private static int[] Bins(IEnumerable<int[]> texts)
    {
        var counts = new int[NumBins];
        foreach (var text in texts)
        {
            counts[text.Take(3).Aggregate(17UL, (hash, id) => CounterRandom.Derive(hash, (ulong)id)) % NumBins]++;
        }

        return counts;
    }

    private static double ChiSquare(int[] a, int[] b) => a.Zip(b).Where(c => c.First + c.Second > 0).Sum(c => Math.Pow(c.First - c.Second, 2) / (c.First + c.Second));

    /// <summary>Kolmogorov and Smirnov's largest distance, times the root of n / 2.</summary>
    private static double Distance(int[] a, int[] b) =>
        a.Concat(b).Distinct().Max(x => Math.Abs(a.Count(v => v <= x) - b.Count(v => v <= x))) / (double)a.Length * Math.Sqrt(a.Length / 2.0);
}
