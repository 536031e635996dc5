using FastDraft.Modeling.Evaluation;

namespace FastDraft.Modeling.Tests.Evaluation;

public sealed class SpeedupModelFacts
{
    // methods.md 2.2: tau and AR under independent acceptance.
    [Theory]
    [InlineData(.3, 1, 1.300, .300)]
    [InlineData(.3, 3, 1.417, .139)]
    [InlineData(.3, 5, 1.428, .086)]
    [InlineData(.3, 7, 1.428, .061)]
    [InlineData(.5, 3, 1.875, .292)]
    [InlineData(.5, 5, 1.969, .194)]
    [InlineData(.6, 3, 2.176, .392)]
    [InlineData(.6, 5, 2.383, .277)]
    [InlineData(.6, 7, 2.458, .208)]
    [InlineData(.7, 5, 2.941, .388)]
    [InlineData(.8, 3, 2.952, .651)]
    [InlineData(.8, 7, 4.161, .452)]
    [InlineData(.9, 5, 4.686, .737)]
    [InlineData(.9, 7, 5.695, .671)]
    public void Geometric_acceptance_gives_the_tabled_block_efficiency_and_rate(double alpha, int gamma, double tau, double rate)
    {
        var actual = SpeedupModel.GeometricBlockEfficiency(alpha, gamma);

        Assert.Equal(tau, actual, .00051);
        Assert.Equal(rate, SpeedupModel.AcceptanceRateOf(actual, gamma), .00051);
        Assert.Equal(actual, SpeedupModel.BlockEfficiencyOf(SpeedupModel.AcceptanceRateOf(actual, gamma), gamma), 1e-12);
    }

    [Fact]
    public void A_draft_that_is_always_right_emits_one_token_more_than_it_drafts() =>
        Assert.Equal(6, SpeedupModel.GeometricBlockEfficiency(1, 5));

    // methods.md 2.3.
    [Theory]
    [InlineData(.01, .3, 3, 1.38)]
    [InlineData(.01, .5, 5, 1.88)]
    [InlineData(.01, .6, 7, 2.30)]
    [InlineData(.01, .9, 24, 7.49)]
    [InlineData(.05, .3, 2, 1.26)]
    [InlineData(.05, .7, 6, 2.35)]
    [InlineData(.05, .8, 8, 3.09)]
    [InlineData(.10, .3, 1, 1.18)]
    [InlineData(.10, .7, 4, 1.98)]
    [InlineData(.10, .9, 10, 3.43)]
    [InlineData(.20, .5, 1, 1.25)]
    [InlineData(.20, .6, 2, 1.40)]
    [InlineData(.20, .9, 7, 2.37)]
    public void The_best_draft_length_is_the_tabled_one(double cost, double alpha, int gamma, double speedup)
    {
        Assert.Equal(gamma, SpeedupModel.BestDraftLength(alpha, cost));
        Assert.Equal(speedup, SpeedupModel.MemoryBound(SpeedupModel.GeometricBlockEfficiency(alpha, gamma), gamma, cost), .0051);
    }

    [Fact]
    public void At_acceptance_six_tenths_the_best_lengths_for_rising_cost_are_7_6_4_3() =>
        Assert.Equal([7, 6, 4, 3], new[] { .01, .02, .05, .1 }.Select(c => SpeedupModel.BestDraftLength(.6, c)));

    // methods.md 3.6: acceptance rate read back from tau, and the published memory-bound speed-ups.
    [Theory]
    [InlineData(1.0 / 76, 2.107, 2.03)]
    [InlineData(1.0 / 76, 1.918, 1.85)]
    [InlineData(1.0 / 76, 2.110, 2.03)]
    [InlineData(1.0 / 76, 2.686, 2.58)]
    [InlineData(150.0 / 8030, 1.921, 1.82)]
    [InlineData(150.0 / 8030, 1.798, 1.70)]
    [InlineData(150.0 / 8030, 2.002, 1.90)]
    [InlineData(150.0 / 8030, 2.947, 2.79)]
    public void Published_acceptance_gives_the_published_memory_bound_speedup(double cost, double tau, double speedup)
    {
        var rate = SpeedupModel.AcceptanceRateOf(tau, 3);

        Assert.Equal(speedup, SpeedupModel.MemoryBound(SpeedupModel.BlockEfficiencyOf(rate, 3), 3, cost), .0051);
    }

    [Fact]
    public void The_predicted_speedup_counts_verification_drafting_and_overhead()
    {
        var latency = new LatencyModel(.002, [.010, .011, .012], .001);

        Assert.Equal(.2, latency.DraftCost, 1e-12);
        Assert.Equal(1.2 + .4 + .1, latency.RelativeBlockTime(2), 1e-12);
        Assert.Equal(2.55 / 1.7, SpeedupModel.Predicted(2.55, 2, latency), 1e-12);
        Assert.Equal(1.4, latency.TargetCost(5), 1e-12);
    }

    [Fact]
    public void With_flat_verification_and_no_overhead_the_prediction_is_the_memory_bound_speedup()
    {
        var latency = new LatencyModel(.05, [1, 1, 1, 1, 1], 0);

        Assert.Equal(SpeedupModel.MemoryBound(2.2, 4, .05), SpeedupModel.Predicted(2.2, 4, latency), 1e-12);
    }
}
