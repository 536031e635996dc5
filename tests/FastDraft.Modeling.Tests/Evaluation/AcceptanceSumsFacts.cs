using FastDraft.Modeling.Evaluation;

namespace FastDraft.Modeling.Tests.Evaluation;

public sealed class AcceptanceSumsFacts
{
    [Fact]
    public void Sums_come_before_ratios()
    {
        var sums = new AcceptanceSums();
        sums.Add(3, 3, 4, [.9, .8, .7]);
        sums.Add(3, 0, 1, [.2]);
        sums.Add(3, 1, 2, [.6, .1]);
        sums.Add(1, 1, 2, [.5]);

        Assert.Equal(4, sums.NumBlocks);
        Assert.Equal(5.0 / 10, sums.AcceptanceRate, 1e-12);
        Assert.Equal(9.0 / 4, sums.BlockEfficiency, 1e-12);
        Assert.Equal(3.8 / 7, sums.AnalyticAcceptance, 1e-12);
        Assert.Equal([4, 2, 1], sums.Reached);
        Assert.Equal([3.0 / 4, 1.0 / 2, 1.0], sums.ConditionalAcceptance);
        Assert.Equal(.75 + .375 + .375, sums.ExpectedAcceptedLength, 1e-12);
    }

    [Fact]
    public void Block_efficiency_is_one_plus_length_times_rate_when_no_block_is_cut()
    {
        var sums = new AcceptanceSums();
        foreach (var accepted in new[] { 0, 4, 2, 1, 3, 4, 0 })
        {
            sums.Add(4, accepted, accepted + 1, []);
        }

        Assert.Equal(SpeedupModel.BlockEfficiencyOf(sums.AcceptanceRate, 4), sums.BlockEfficiency, 1e-12);
        Assert.Equal(sums.BlockEfficiency - 1, sums.ExpectedAcceptedLength, 1e-12);
    }

    [Fact]
    public void Merging_equals_adding_all_blocks_to_one()
    {
        var (first, second, all) = (new AcceptanceSums(), new AcceptanceSums(), new AcceptanceSums());
        first.Add(2, 2, 3, [.5, .5]);
        second.Add(4, 3, 4, [.9, .9, .9, .1]);
        all.Add(2, 2, 3, [.5, .5]);
        all.Add(4, 3, 4, [.9, .9, .9, .1]);
        first.Add(second);

        Assert.Equal(all.ConditionalAcceptance, first.ConditionalAcceptance);
        Assert.Equal(all.AnalyticAcceptance, first.AnalyticAcceptance, 1e-12);
        Assert.Equal(all.AcceptanceRate, first.AcceptanceRate);
        Assert.Equal(all.BlockEfficiency, first.BlockEfficiency);
    }

    [Fact]
    public void Nothing_observed_is_not_zero() => Assert.True(double.IsNaN(new AcceptanceSums().AcceptanceRate));

    [Fact]
    public void Accepting_more_than_was_drafted_is_refused() =>
        Assert.Throws<ArgumentOutOfRangeException>(() => new AcceptanceSums().Add(2, 3, 4, []));
}
