using FastDraft.Modeling.Evaluation;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Stages.Tests.EvaluateDraft;

public sealed class DraftMeasurementFacts
{
    private static readonly PromptCase[] Prompts = [new("prose", "a", [1, 2]), new("code", "b", [3, 4])];

    [Fact]
    public void Known_outputs_give_known_figures_and_every_plain_run_has_its_partner()
    {
        var measurement = Measure(diverging: false);
        var results = measurement.Run(_ => new LatencyModel(.1, [1, 1, 1], 0), TestContext.Current.CancellationToken);

        var best = Assert.Single(results, r => r.Best && r.Suite == "all");
        Assert.Equal(2, best.DraftLength);
        Assert.Equal(1.0, best.AcceptanceRate);
        Assert.Equal(3.0, best.BlockEfficiency);
        Assert.Equal(2.5, best.PredictedSpeedup, 1e-12);
        Assert.Equal(2.0, best.WallClockSpeedup, 1e-12);
        Assert.Equal(new Interval(2, 2), best.WallClockSpeedupCi);
        Assert.Equal(3, best.NumRepeats);
        Assert.Equal(["all", "code", "prose"], results.Select(r => r.Suite).Distinct().Order(StringComparer.Ordinal));
        Assert.Equal(2, measurement.NumIdenticalPrompts);
        Assert.Empty(measurement.Divergences);
    }

    [Fact]
    public void A_greedy_output_that_differs_is_recorded_at_its_first_differing_token()
    {
        var measurement = Measure(diverging: true);
        measurement.Run(_ => new LatencyModel(.1, [1, 1, 1], 0), TestContext.Current.CancellationToken);

        var divergence = Assert.Single(measurement.Divergences, d => d.Where.DraftLength == 2);
        Assert.Equal(("b", 4, 11, 99), (divergence.Where.Prompt.Id, divergence.Position, divergence.Plain, divergence.Speculative));
        Assert.Equal(1, measurement.NumIdenticalPrompts);
    }

    [Fact]
    public void The_best_draft_length_is_the_one_measured_fastest_whatever_is_predicted()
    {
        var results = Measure(diverging: false, secondsOfOne: 1).Run(_ => new LatencyModel(.1, [1, 1, 1], 0), TestContext.Current.CancellationToken);

        var best = Assert.Single(results, r => r.Best && r.Suite == "all");
        Assert.Equal((1, 4.0), (best.DraftLength, best.WallClockSpeedup));
        Assert.True(results.Single(r => r.DraftLength == 2 && r.Suite == "all").PredictedSpeedup > best.PredictedSpeedup);
    }

    private static DraftMeasurement Measure(bool diverging, double secondsOfOne = 3) => new(
        new(Prompts, [0], [1, 2], 3, 5, TimeSpan.Zero, .1),
        (prompt, _, gamma, _, _) =>
        {
            int[] ids = [7, 8, 9, 10, gamma > 0 && diverging && prompt.Id == "b" ? 99 : 11, 12];
            var blocks = Enumerable.Range(0, gamma == 0 ? 0 : 6 / (gamma + 1))
                .Select(_ => new MeasuredBlock(gamma, gamma, gamma + 1, [.. Enumerable.Repeat(.5, gamma)], .1, .2)).ToList();
            return new(ids, blocks, gamma switch { 0 => 4, 1 => secondsOfOne, _ => 2 });
        },
        TimeProvider.System);
}
