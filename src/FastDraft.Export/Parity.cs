using FastDraft.Modeling.Models;

namespace FastDraft.Export;

/// <summary>How far an exported engine is from the reference, both in float32.</summary>
/// <param name="MaxAbsLogitDifference">Over every compared logit: prompts, cached decoding, and decoding after a rollback.</param>
/// <param name="GreedyIdsEqual">Whether both choose the same ids, near ties of the reference (margin below 1e-4) aside.</param>
/// <param name="NumPrompts">Prompts compared.</param>
/// <param name="GreedyAgreement">The share of positions of the greedy paths at which both choose the same id.</param>
public sealed record ParityResult(double MaxAbsLogitDifference, bool GreedyIdsEqual, int NumPrompts, double GreedyAgreement);

/// <summary>Compares two engines of one model.</summary>
public static class Parity
{
    // Float noise decides which of two ids this close is the larger.
    private const double NearTie = 1e-4;

    /// <summary>
    /// Feeds each prompt whole, decodes <paramref name="numGreedyTokens"/> tokens one by one along the reference's greedy path, rolls
    /// back to the prompt and decodes the path again in one block.
    /// </summary>
    public static ParityResult Measure(ICausalModel reference, ICausalModel exported, IReadOnlyList<int[]> prompts, int numGreedyTokens = 32)
    {
        double difference = 0;
        var (agreed, compared) = (0, 0);
        var vocabulary = reference.VocabularySize;
        foreach (var prompt in prompts)
        {
            using var expectedSession = reference.StartSession();
            using var actualSession = exported.StartSession();
            var (expected, actual) = (new float[prompt.Length * vocabulary], new float[prompt.Length * vocabulary]);
            expectedSession.Forward(prompt, expected, prompt.Length);
            actualSession.Forward(prompt, actual, prompt.Length);
            Compare(expected, actual);
            var path = new List<int>();
            var lastExpected = expected.AsSpan(^vocabulary..).ToArray();
            var lastActual = actual.AsSpan(^vocabulary..).ToArray();
            for (var i = 0; i < numGreedyTokens; i++)
            {
                var (token, other) = (ArgMax(lastExpected), ArgMax(lastActual));
                agreed += lastExpected[token] - lastExpected[other] < NearTie ? 1 : 0;
                compared++;
                path.Add(token);
                expectedSession.Forward([token], lastExpected, 1);
                actualSession.Forward([token], lastActual, 1);
                Compare(lastExpected, lastActual);
            }

            expectedSession.Rollback(prompt.Length);
            actualSession.Rollback(prompt.Length);
            (expected, actual) = (new float[path.Count * vocabulary], new float[path.Count * vocabulary]);
            expectedSession.Forward([.. path], expected, path.Count);
            actualSession.Forward([.. path], actual, path.Count);
            Compare(expected, actual);
        }

        return new ParityResult(difference, agreed == compared, prompts.Count, compared == 0 ? 1 : (double)agreed / compared);

        void Compare(float[] a, float[] b)
        {
            for (var i = 0; i < a.Length; i++)
            {
                var d = Math.Abs((double)a[i] - b[i]);

                // A NaN compares as no difference; it must count as the worst.
                difference = double.IsNaN(d) ? double.PositiveInfinity : Math.Max(difference, d);
            }
        }
    }

    private static int ArgMax(float[] row) => Array.IndexOf(row, row.Max());
}
