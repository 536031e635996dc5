using FastDraft.Modeling.Evaluation;
using FastDraft.Modeling.Models;

namespace FastDraft.Stages.EvaluateDraft;

/// <summary>Measures how long one call takes on this machine: the median over repeated calls after the same prompt, cache rolled back.</summary>
public static class LatencyProbe
{
    /// <summary>Seconds of a call on m = 1..<paramref name="maxTokens"/> tokens with all their logits, at index m - 1.</summary>
    public static IReadOnlyList<double> Measure(ICausalModel model, ReadOnlySpan<int> prompt, int maxTokens, int numRepeats, TimeProvider clock)
    {
        using var session = model.StartSession(1, prompt.Length + maxTokens);
        var logits = new float[maxTokens * model.VocabularySize];
        session.Forward(prompt, logits.AsSpan(0, model.VocabularySize), 1);
        var tokens = new int[maxTokens];
        Array.Fill(tokens, prompt[^1]);
        var samples = Enumerable.Range(0, maxTokens).Select(_ => new List<double>()).ToList();

        // Call sizes alternate within a repeat, so that a slow moment of the machine touches all of them; the first two repeats warm up.
        for (var repeat = -2; repeat < numRepeats; repeat++)
        {
            for (var m = 1; m <= maxTokens; m++)
            {
                session.Rollback(prompt.Length);
                var start = clock.GetTimestamp();
                session.Forward(tokens.AsSpan(0, m), logits.AsSpan(0, m * model.VocabularySize), m);
                if (repeat >= 0)
                {
                    samples[m - 1].Add(clock.GetElapsedTime(start).TotalSeconds);
                }
            }
        }

        return [.. samples.Select(Quantiles.Median)];
    }

    /// <summary>The log-probability margin between the model's best two tokens after <paramref name="context"/>, in nats.</summary>
    public static double TopTwoMargin(ICausalModel model, ReadOnlySpan<int> context)
    {
        using var session = model.StartSession(1, context.Length);
        var logits = new float[model.VocabularySize];
        session.Forward(context, logits, 1);
        var (first, second) = (float.NegativeInfinity, float.NegativeInfinity);
        foreach (var value in logits)
        {
            (first, second) = value > first ? (value, first) : (first, Math.Max(second, value));
        }

        return first - second;
    }
}
