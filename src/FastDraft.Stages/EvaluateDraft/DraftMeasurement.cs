using FastDraft.Modeling.Evaluation;

namespace FastDraft.Stages.EvaluateDraft;

/// <summary>One held-out prompt as the target's token ids.</summary>
public sealed record PromptCase(string Suite, string Id, int[] Ids);

/// <summary>One block: counts, the overlap at each reached position, and the time of its draft and target calls in seconds.</summary>
public sealed record MeasuredBlock(int Drafted, int Accepted, int Emitted, double[] Overlaps, double DraftSeconds, double TargetSeconds);

/// <summary>One generated output. <see cref="DecodeSeconds"/> leaves the prefill out.</summary>
public sealed record MeasuredOutput(int[] Ids, IReadOnlyList<MeasuredBlock> Blocks, double DecodeSeconds);

/// <summary>
/// Generates from a prompt; draft length 0 is the target alone. Overlaps cost time at temperature 0, so timed runs leave them out.
/// </summary>
public delegate MeasuredOutput GenerateOutput(PromptCase prompt, double temperature, int draftLength, ulong seed, bool recordOverlaps);

/// <summary>What to measure. The sweep over all draft lengths repeats until <see cref="SweepBudget"/> is spent, at least once.</summary>
public sealed record MeasurementPlan(
    IReadOnlyList<PromptCase> Prompts,
    IReadOnlyList<double> Temperatures,
    IReadOnlyList<int> DraftLengths,
    int NumRepeats,
    ulong Seed,
    TimeSpan SweepBudget,
    double CostRatio);

/// <summary>Everything measured at one temperature, draft length and prompt.</summary>
public sealed class PromptMeasurement(PromptCase prompt, double temperature, int draftLength)
{
    public PromptCase Prompt { get; } = prompt;

    public double Temperature { get; } = temperature;

    public int DraftLength { get; } = draftLength;

    /// <summary>The timed output of the first pass.</summary>
    public MeasuredOutput Output { get; set; } = new([], [], 0);

    public AcceptanceSums Sums { get; } = new();

    /// <summary>Pairs of decode times of the alternating runs.</summary>
    public List<(double Plain, double Speculative)> Seconds { get; } = [];

    public int NumPlainTokens { get; set; }
}

/// <summary>
/// The measurement protocol of methods.md 2.4. Plain and speculative runs alternate prompt by prompt, so a drifting machine touches both
/// alike; each repeat of a draft length is paired with a plain run of the same pass.
/// </summary>
public sealed class DraftMeasurement(MeasurementPlan plan, GenerateOutput generate, TimeProvider clock, Action<long, long?>? progress = null)
{
    private readonly List<PromptMeasurement> measurements = [];
    private readonly List<(PromptMeasurement Where, int Position, int Plain, int Speculative)> divergences = [];
    private long done;

    /// <summary>Every prompt at every temperature and draft length.</summary>
    public IReadOnlyList<PromptMeasurement> Measurements => measurements;

    /// <summary>First differing token of each greedy output that is not the target's own.</summary>
    public IReadOnlyList<(PromptMeasurement Where, int Position, int Plain, int Speculative)> Divergences => divergences;

    /// <summary>Median over outputs of what a block costs beside its draft and target calls, in seconds.</summary>
    public double OverheadSeconds => Quantiles.Median(measurements.Where(m => m.Output.Blocks.Count > 0).Select(m =>
        Math.Max(0, (m.Output.DecodeSeconds - m.Output.Blocks.Sum(b => b.DraftSeconds + b.TargetSeconds)) / m.Output.Blocks.Count)));

    /// <summary>Prompts whose greedy output was the target's own at every draft length; all prompts if nothing greedy ran.</summary>
    public int NumIdenticalPrompts => plan.Prompts.Count
        - divergences.Select(d => (d.Where.Prompt.Suite, d.Where.Prompt.Id)).Distinct().Count();

    /// <summary>Runs everything and returns the results, pooled (<c>all</c>) and by suite.</summary>
    /// <param name="latencyOf">Given the measured block overhead in seconds, the latency model that predicts the speed-up.</param>
    public IReadOnlyList<ConditionResult> Run(Func<double, LatencyModel> latencyOf, CancellationToken cancellationToken)
    {
        var started = clock.GetTimestamp();
        foreach (var gamma in plan.DraftLengths.Append(0))
        {
            generate(plan.Prompts[0], plan.Temperatures[0], gamma, plan.Seed, recordOverlaps: false);
        }

        foreach (var temperature in plan.Temperatures)
        {
            Pass(temperature, plan.DraftLengths, cancellationToken);
        }

        for (var pass = 1; pass < plan.NumRepeats && clock.GetElapsedTime(started) < plan.SweepBudget; pass++)
        {
            foreach (var temperature in plan.Temperatures)
            {
                Pass(temperature, plan.DraftLengths, cancellationToken);
            }
        }

        var latency = latencyOf(double.IsNaN(OverheadSeconds) ? 0 : OverheadSeconds);
        var best = plan.Temperatures.ToDictionary(t => t, t => plan.DraftLengths.MaxBy(gamma => Rates.Of(At(t, gamma)).Speedup));
        foreach (var temperature in plan.Temperatures)
        {
            while (At(temperature, best[temperature]).Any(m => m.Seconds.Count < plan.NumRepeats))
            {
                Pass(temperature, [best[temperature]], cancellationToken);
            }
        }

        var results = new List<ConditionResult>();
        foreach (var temperature in plan.Temperatures)
        {
            foreach (var gamma in plan.DraftLengths)
            {
                var all = At(temperature, gamma);
                results.Add(Summarize(ReportPage.AllSuites, all, gamma == best[temperature], latency));
                results.AddRange(all.GroupBy(m => m.Prompt.Suite).Select(g => Summarize(g.Key, [.. g], gamma == best[temperature], latency)));
            }
        }

        return results;
    }

    private void Pass(double temperature, IReadOnlyList<int> draftLengths, CancellationToken cancellationToken)
    {
        for (var i = 0; i < plan.Prompts.Count; i++)
        {
            var prompt = plan.Prompts[i];
            var seed = plan.Seed + (ulong)i;
            foreach (var gamma in draftLengths)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var plain = generate(prompt, temperature, 0, seed, recordOverlaps: false);
                var speculative = generate(prompt, temperature, gamma, seed, recordOverlaps: false);
                Record(prompt, temperature, gamma, seed, plain, speculative);
                progress?.Invoke(++done, done <= NumFirstPass ? NumFirstPass : null);
            }
        }
    }

    private void Record(PromptCase prompt, double temperature, int gamma, ulong seed, MeasuredOutput plain, MeasuredOutput speculative)
    {
        var measurement = measurements.Find(m => m.Prompt == prompt && m.Temperature == temperature && m.DraftLength == gamma);
        var first = measurement is null;
        if (measurement is null)
        {
            measurement = new(prompt, temperature, gamma) { Output = speculative, NumPlainTokens = plain.Ids.Length };
            measurements.Add(measurement);
            foreach (var block in generate(prompt, temperature, gamma, seed, recordOverlaps: true).Blocks)
            {
                measurement.Sums.Add(block.Drafted, block.Accepted, block.Emitted, block.Overlaps);
            }
        }

        measurement.Seconds.Add((plain.DecodeSeconds, speculative.DecodeSeconds));
        if (first && temperature == 0 && !plain.Ids.AsSpan().SequenceEqual(speculative.Ids))
        {
            var position = plain.Ids.AsSpan().CommonPrefixLength(speculative.Ids);
            divergences.Add((measurement, position, plain.Ids.ElementAtOrDefault(position, -1), speculative.Ids.ElementAtOrDefault(position, -1)));
        }
    }

    /// <summary>What one pass over everything takes; how often it repeats depends on the time left.</summary>
    private long NumFirstPass => (long)plan.Prompts.Count * plan.DraftLengths.Count * plan.Temperatures.Count;

    private List<PromptMeasurement> At(double temperature, int gamma) =>
        measurements.FindAll(m => m.Temperature == temperature && m.DraftLength == gamma);

    private static AcceptanceSums Pool(IEnumerable<PromptMeasurement> of)
    {
        var sums = new AcceptanceSums();
        foreach (var measurement in of)
        {
            sums.Add(measurement.Sums);
        }

        return sums;
    }

    private ConditionResult Summarize(string suite, IReadOnlyList<PromptMeasurement> of, bool best, LatencyModel latency)
    {
        var sums = Pool(of);
        var gamma = of[0].DraftLength;
        var rates = Rates.Of(of);
        double[] Column(Func<PromptMeasurement, double> value) => [.. of.Select(value)];
        var outputs = of.Select(m => m.Output.Ids).ToList();
        return new(
            suite,
            of[0].Temperature,
            gamma,
            best,
            of.Count,
            of.Min(m => m.Seconds.Count),
            sums.NumBlocks,
            sums.NumDrafted,
            sums.NumAccepted,
            sums.NumEmitted,
            sums.AnalyticAcceptance,
            sums.AcceptanceRate,
            Bootstrap.Ratio(Column(m => m.Sums.NumAccepted), Column(m => m.Sums.NumDrafted), plan.Seed),
            sums.ConditionalAcceptance,
            sums.BlockEfficiency,
            Bootstrap.Ratio(Column(m => m.Sums.NumEmitted), Column(m => m.Sums.NumBlocks), plan.Seed),
            sums.ExpectedAcceptedLength,
            SpeedupModel.MemoryBound(sums.BlockEfficiency, gamma, plan.CostRatio),
            SpeedupModel.Predicted(sums.BlockEfficiency, gamma, latency),
            rates.Speedup,
            Bootstrap.Percentile(of.Count, drawn => rates.Drawn(drawn).Speedup, plan.Seed),
            rates.PlainTokensPerSecond,
            rates.SpeculativeTokensPerSecond,
            OutputDiversity.Distinct(outputs, 1),
            OutputDiversity.Distinct(outputs, 2),
            OutputDiversity.Repetition(outputs));
    }

    /// <summary>Tokens and seconds of each output without and with the draft; of the repeats of an output the median counts.</summary>
    private sealed record Rates(IReadOnlyList<(int PlainTokens, double PlainSeconds, int Tokens, double Seconds)> Outputs)
    {
        public double PlainTokensPerSecond => Outputs.Sum(o => o.PlainTokens) / Outputs.Sum(o => o.PlainSeconds);

        public double SpeculativeTokensPerSecond => Outputs.Sum(o => o.Tokens) / Outputs.Sum(o => o.Seconds);

        /// <summary>NaN if nothing was written or no time passed.</summary>
        public double Speedup => SpeculativeTokensPerSecond / PlainTokensPerSecond is var ratio && double.IsFinite(ratio) ? ratio : double.NaN;

        public static Rates Of(IEnumerable<PromptMeasurement> of) => new([.. of.Select(m => (
            m.NumPlainTokens, Quantiles.Median(m.Seconds.Select(s => s.Plain)), m.Output.Ids.Length, Quantiles.Median(m.Seconds.Select(s => s.Speculative))))]);

        public Rates Drawn(ReadOnlySpan<int> indices)
        {
            var drawn = new (int, double, int, double)[indices.Length];
            for (var i = 0; i < drawn.Length; i++)
            {
                drawn[i] = Outputs[indices[i]];
            }

            return new(drawn);
        }
    }
}

file static class ArrayElements
{
    public static int ElementAtOrDefault(this int[] values, int index, int otherwise) => index < values.Length ? values[index] : otherwise;
}
