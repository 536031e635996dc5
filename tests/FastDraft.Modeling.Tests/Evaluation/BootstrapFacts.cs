using FastDraft.Modeling.Evaluation;

namespace FastDraft.Modeling.Tests.Evaluation;

public sealed class BootstrapFacts
{
    [Fact]
    public void Equal_seeds_give_equal_intervals_and_other_seeds_others()
    {
        double[] top = [1, 4, 2, 8, 5], bottom = [1, 2, 2, 3, 4];

        Assert.Equal(Bootstrap.Ratio(top, bottom, 7), Bootstrap.Ratio(top, bottom, 7));
        Assert.NotEqual(Bootstrap.Ratio(top, bottom, 7, 50), Bootstrap.Ratio(top, bottom, 8, 50));
    }

    [Fact]
    public void Pairing_removes_the_difference_between_prompts()
    {
        double[] plain = [1, 10, 100, 3], speculative = [.5, 5, 50, 1.5];

        var interval = Bootstrap.Ratio(plain, speculative, 1);

        Assert.Equal(2, interval.Low, 1e-12);
        Assert.Equal(2, interval.High, 1e-12);
    }

    [Fact]
    public void The_interval_of_a_mean_is_near_the_normal_one()
    {
        var values = Enumerable.Range(0, 400).Select(i => (double)(i % 10)).ToArray();
        var ones = values.Select(_ => 1.0).ToArray();

        var interval = Bootstrap.Ratio(values, ones, 3);

        // Standard deviation of 0..9 is 2.872; 1.96 * 2.872 / sqrt(400) = .2815.
        Assert.Equal(4.5 - .2815, interval.Low, .03);
        Assert.Equal(4.5 + .2815, interval.High, .03);
    }

    [Fact]
    public void The_median_of_an_even_count_lies_between_the_middle_two() => Assert.Equal(2.5, Quantiles.Median([4, 1, 3, 2]));

    [Fact]
    public void A_loop_has_high_repetition_and_few_distinct_tokens()
    {
        int[] loop = [1, 2, 1, 2, 1, 2, 1, 2, 1, 2], varied = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

        Assert.Equal(.2, OutputDiversity.Distinct([loop], 1), 1e-12);
        Assert.Equal(5.0 / 7, OutputDiversity.Repetition([loop]), 1e-12);
        Assert.Equal(0, OutputDiversity.Repetition([varied]));
        Assert.Equal(.5, OutputDiversity.Distinct([varied, varied], 2), 1e-12);
    }
}
