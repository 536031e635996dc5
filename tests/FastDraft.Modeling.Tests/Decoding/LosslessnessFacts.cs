using FastDraft.Modeling.Decoding;

namespace FastDraft.Modeling.Tests.Decoding;

/// <summary>Statistics of the decoder itself (methods.md 1.11), with fixed seeds; critical values are those at 1e-3.</summary>
public sealed class LosslessnessFacts
{
    private const double CriticalAt63 = 103.442;

    // By degrees of freedom, from one on.
    private static readonly double[] Critical = [10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322];

    /// <summary>254,000 draws over 8 tokens find a total variation of 0.005 nine times in ten.</summary>
    [Theory]
    [InlineData(ProposalLaw.Iid, 1, 0, 1)]
    [InlineData(ProposalLaw.Iid, .6, 0, 1)]
    [InlineData(ProposalLaw.Iid, .8, 5, 1)]
    [InlineData(ProposalLaw.Iid, 1, 0, .8)]
    [InlineData(ProposalLaw.PointMass, 1, 0, 1)]
    [InlineData(ProposalLaw.PointMass, .8, 5, .9)]
    public void One_step_follows_the_target_law(ProposalLaw law, double temperature, int topK, double topP) =>
        Assert.True(IsTheTargetLaw(law, law == ProposalLaw.Iid ? new SoftVerifier() : new PointMassVerifier(), new() { Temperature = temperature, TopK = topK, TopP = topP }));

    [Fact]
    public void The_test_catches_an_argmax_draft_verified_with_soft_q() => Assert.False(IsTheTargetLaw(ProposalLaw.PointMass, new Claims(new SoftVerifier())));

    [Fact]
    public void The_test_catches_a_dropped_unlikely_draft_token() => Assert.False(IsTheTargetLaw(ProposalLaw.Iid, new DropsUnlikely(.15)));

    [Fact]
    public void The_test_catches_resampling_after_an_equality_test() => Assert.False(IsTheTargetLaw(ProposalLaw.Iid, new EqualityThenResample()));

    [Fact]
    public void The_test_catches_a_lenient_rule() => Assert.False(IsTheTargetLaw(ProposalLaw.Iid, new Lenient(.5)));

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Three_tokens_jointly_follow_the_target_law(int gamma)
    {
        var g = Joint(gamma, new SoftVerifier());
        Assert.True(g < CriticalAt63, $"G = {g}");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void The_joint_test_catches_each_biased_rule(int gamma)
    {
        foreach (var rule in new IVerifier[] { new EqualityThenResample(), new DropsUnlikely(.3), new Lenient(.5) })
        {
            var g = Joint(gamma, rule);
            Assert.True(g > CriticalAt63, $"{rule.GetType().Name}: G = {g}");
        }
    }

    private static double Joint(int gamma, IVerifier verifier)
    {
        using var target = new TableModel(4, 11, spread: 2);
        using var draft = new TableModel(4, 12, spread: 2);
        const int Draws = 60_000;
        var counts = new int[64];
        var decoder = new SpeculativeDecoder(target, draft, ProposalLaw.Iid, verifier);
        for (var i = 0; i < Draws; i++)
        {
            var ids = decoder.Generate([3], new() { MaxNewTokens = 4, Temperature = 1, DraftLength = gamma, Seed = (ulong)i }).Ids;
            counts[(ids[0] * 16) + (ids[1] * 4) + ids[2]]++;
        }

        var g = 0.0;
        for (var cell = 0; cell < 64; cell++)
        {
            int[] context = [3, cell / 16, cell / 4 % 4, cell % 4];
            var expected = (double)Draws;
            for (var i = 0; i < 3; i++)
            {
                expected *= TargetLaw(target, context.AsSpan(0, i + 1))[context[i + 1]];
            }

            g += counts[cell] == 0 ? 0 : 2 * counts[cell] * Math.Log(counts[cell] / expected);
        }

        return g;
    }

    private static bool IsTheTargetLaw(ProposalLaw proposals, IVerifier verifier, GenerationOptions? options = null)
    {
        const int Draws = 254_000;
        using var target = new TableModel(8, 1);
        using var draft = new TableModel(8, 2);
        options = (options ?? new() { Temperature = 1 }) with { MaxNewTokens = 2, DraftLength = 1 };
        var decoder = new SpeculativeDecoder(target, draft, proposals, verifier);
        var counts = new int[8];
        for (var i = 0; i < Draws; i++)
        {
            counts[decoder.Generate([3], options with { Seed = (ulong)i }).Ids[0]]++;
        }

        var law = TargetLaw(target, [3], options);
        var cells = law.Zip(counts).Where(c => c.First > 0).ToList();
        return cells.Sum(c => c.Second) == Draws && cells.Sum(c => Math.Pow(c.Second - (c.First * Draws), 2) / (c.First * Draws)) < Critical[cells.Count - 2];
    }

    private static double[] TargetLaw(TableModel target, ReadOnlySpan<int> context, GenerationOptions? options = null)
    {
        var logits = new float[target.VocabularySize];
        var law = new double[target.VocabularySize];
        target.Logits(context, logits);
        Sampling.Transform(logits, law, options?.Temperature ?? 1, options?.TopK ?? 0, options?.TopP ?? 1);
        return law;
    }
}
