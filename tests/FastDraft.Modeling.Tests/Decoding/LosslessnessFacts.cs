using FastDraft.Modeling.Decoding;

namespace FastDraft.Modeling.Tests.Decoding;

/// <summary>Statistics of the decoder itself (methods.md 1.11), with fixed seeds; critical values are those at 1e-3.</summary>
public sealed class LosslessnessFacts
{
    private const double CriticalAt7 = 24.322;
    private const double CriticalAt63 = 103.442;

    [Theory]
    [InlineData(ProposalLaw.Iid)]
    [InlineData(ProposalLaw.PointMass)]
    public void One_step_follows_the_target_law(ProposalLaw law)
    {
        using var target = new TableModel(8, 1);
        using var draft = new TableModel(8, 2);
        IVerifier verifier = law == ProposalLaw.Iid ? new SoftVerifier() : new PointMassVerifier();
        Assert.True(OneStep(target, draft, law, verifier) < CriticalAt7);
    }

    [Fact]
    public void The_test_catches_an_argmax_draft_verified_with_soft_q()
    {
        using var target = new TableModel(8, 1);
        using var draft = new TableModel(8, 2);
        Assert.True(OneStep(target, draft, ProposalLaw.PointMass, new Claims(new SoftVerifier())) > CriticalAt7);
    }

    [Fact]
    public void The_test_catches_a_dropped_unlikely_draft_token()
    {
        using var target = new TableModel(8, 1);
        using var draft = new TableModel(8, 2);
        Assert.True(OneStep(target, draft, ProposalLaw.Iid, new DropsUnlikely()) > CriticalAt7);
    }

    [Fact]
    public void The_test_catches_resampling_after_an_equality_test()
    {
        using var target = new TableModel(8, 1);
        using var draft = new TableModel(8, 2);
        Assert.True(OneStep(target, draft, ProposalLaw.Iid, new EqualityThenResample()) > CriticalAt7);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Three_tokens_jointly_follow_the_target_law(int gamma)
    {
        using var target = new TableModel(4, 11, spread: 2);
        using var draft = new TableModel(4, 12, spread: 2);
        const int Draws = 60_000;
        var counts = new int[64];
        var decoder = new SpeculativeDecoder(target, draft);
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

        Assert.True(g < CriticalAt63, $"G = {g}");
    }

    private static double OneStep(TableModel target, TableModel draft, ProposalLaw law, IVerifier verifier)
    {
        const int Draws = 254_000;
        var decoder = new SpeculativeDecoder(target, draft, law, verifier);
        var counts = new int[8];
        for (var i = 0; i < Draws; i++)
        {
            counts[decoder.Generate([3], new() { MaxNewTokens = 2, Temperature = 1, DraftLength = 1, Seed = (ulong)i }).Ids[0]]++;
        }

        return counts.Zip(TargetLaw(target, [3]), (count, p) => Math.Pow(count - (p * Draws), 2) / (p * Draws)).Sum();
    }

    private static double[] TargetLaw(TableModel target, ReadOnlySpan<int> context)
    {
        var logits = new float[target.VocabularySize];
        var law = new double[target.VocabularySize];
        target.Logits(context, logits);
        Sampling.Transform(logits, law, 1);
        return law;
    }

    private sealed class Claims(IVerifier inner) : IVerifier
    {
        public Guarantee Guarantee => Guarantee.None;

        public bool Consumes(ProposalLaw law) => true;

        public double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token) => inner.AcceptProbability(p, q, token);

        public void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual) => inner.Residual(p, q, token, residual);
    }

    private sealed class DropsUnlikely : IVerifier
    {
        private readonly SoftVerifier _inner = new();

        public Guarantee Guarantee => Guarantee.None;

        public bool Consumes(ProposalLaw law) => true;

        public double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token) =>
            q[token] < .15 ? 0 : _inner.AcceptProbability(p, q, token);

        public void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual)
        {
            if (q[token] < .15)
            {
                p.CopyTo(residual);
            }
            else
            {
                _inner.Residual(p, q, token, residual);
            }
        }
    }

    private sealed class EqualityThenResample : IVerifier
    {
        public Guarantee Guarantee => Guarantee.None;

        public bool Consumes(ProposalLaw law) => true;

        public double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token) => p[token];

        public void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual) => p.CopyTo(residual);
    }
}
