using FastDraft.Modeling.Decoding;

namespace FastDraft.Modeling.Tests.Decoding;

/// <summary>The exact vectors of methods.md 1.8, by enumerating a rule over every drafted token.</summary>
public sealed class VerifierFacts
{
    private static readonly double[] P = [.40, .30, .15, .10, .05];
    private static readonly double[] Q = [.20, .45, .05, .10, .20];

    [Fact]
    public void Soft_verifier_accepts_seven_tenths_and_emits_the_target_law()
    {
        var (acceptance, law) = Enumerate(new SoftVerifier(), Q);
        Assert.Equal(.7, acceptance, 12);
        Assert.Equal(.7, Sampling.Overlap(P, Q), 12);
        Assert.Equal(0, TotalVariation(law), 12);
    }

    [Fact]
    public void Soft_residual_is_two_thirds_and_one_third()
    {
        var residual = new double[5];
        new SoftVerifier().Residual(P, Q, 1, residual);
        double[] expected = [2.0 / 3, 0, 1.0 / 3, 0, 0];
        for (var i = 0; i < 5; i++)
        {
            Assert.Equal(expected[i], residual[i], 12);
        }
    }

    [Fact]
    public void Point_mass_verifier_is_exact_for_soft_and_for_greedy_proposals()
    {
        var (soft, softLaw) = Enumerate(new PointMassVerifier(), Q);
        Assert.Equal(.2425, soft, 12);
        Assert.Equal(0, TotalVariation(softLaw), 12);
        var (greedy, greedyLaw) = Enumerate(new PointMassVerifier(), [0, 1, 0, 0, 0]);
        Assert.Equal(.30, greedy, 12);
        Assert.Equal(0, TotalVariation(greedyLaw), 12);
    }

    [Fact]
    public void An_argmax_draft_verified_with_soft_q_is_biased_as_published()
    {
        var (_, law) = Enumerate(new SoftVerifier(), [0, 1, 0, 0, 0]);
        Assert.Equal(.3667, TotalVariation(law), 4);
    }

    [Theory]
    [InlineData(.1650, nameof(DropsUnlikely))]
    [InlineData(.06225, nameof(EqualityThenResample))]
    [InlineData(.20, nameof(Lenient), .5)]
    [InlineData(.30, nameof(Lenient), .25)]
    public void Rules_that_look_right_are_biased_as_published(double bias, string rule, double epsilon = 1)
    {
        IVerifier verifier = rule switch
        {
            nameof(DropsUnlikely) => new DropsUnlikely(.25),
            nameof(EqualityThenResample) => new EqualityThenResample(),
            _ => new Lenient(epsilon),
        };
        var (_, law) = Enumerate(verifier, Q);
        Assert.Equal(bias, TotalVariation(law), 4);
    }

    [Theory]
    [InlineData(2.0 / 3, 0, 1, 3)]
    [InlineData(.40, 1, 2)]
    public void A_draft_of_part_of_the_vocabulary_keeps_the_law_and_is_accepted_as_published(double expected, params int[] kept)
    {
        var mass = kept.Sum(i => Q[i]);
        double[] q = [.. Q.Select((x, i) => kept.Contains(i) ? x / mass : 0)];
        var (acceptance, law) = Enumerate(new SoftVerifier(), q, q);
        Assert.Equal(expected, acceptance, 12);
        Assert.Equal(0, TotalVariation(law), 12);
    }

    [Fact]
    public void Equal_laws_up_to_rounding_fall_back_to_the_target()
    {
        var residual = new double[5];
        new SoftVerifier().Residual(P, P, 0, residual);
        Assert.Equal(P, residual);
    }

    [Fact]
    public void A_token_the_draft_could_not_draw_is_never_accepted() =>
        Assert.Equal(0, new SoftVerifier().AcceptProbability([.5, .5], [1, 0], 1));

    [Fact]
    public void A_biased_pair_is_refused_at_construction()
    {
        using var target = new TableModel(4, 1);
        using var draft = new TableModel(4, 2);
        using var other = new TableModel(5, 2);
        Assert.Throws<ArgumentException>(() => new SpeculativeDecoder(target, draft, ProposalLaw.PointMass, new SoftVerifier()));
        Assert.Throws<ArgumentException>(() => new SpeculativeDecoder(target, draft, ProposalLaw.WithoutReplacement, new PointMassVerifier()));
        Assert.Throws<ArgumentException>(() => new SpeculativeDecoder(target, other));
    }

    /// <param name="verifier">The rule.</param>
    /// <param name="proposal">What tokens are drawn from.</param>
    /// <param name="claimed">What the rule is told that they are drawn from; Q when absent.</param>
    private static (double Acceptance, double[] Law) Enumerate(IVerifier verifier, double[] proposal, double[]? claimed = null)
    {
        var q = claimed ?? Q;
        var law = new double[5];
        var residual = new double[5];
        var acceptance = 0.0;
        for (var token = 0; token < 5; token++)
        {
            var accept = verifier.AcceptProbability(P, q, token);
            acceptance += proposal[token] * accept;
            law[token] += proposal[token] * accept;
            verifier.Residual(P, q, token, residual);
            for (var i = 0; i < 5; i++)
            {
                law[i] += proposal[token] * (1 - accept) * residual[i];
            }
        }

        return (acceptance, law);
    }

    private static double TotalVariation(double[] law) => law.Zip(P, (a, b) => Math.Abs(a - b)).Sum() / 2;
}
