using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;

namespace FastDraft.Stages.GenerateSynthetic;

/// <summary>One row to generate: its number keys its randomness, so its text does not depend on the batch it is in.</summary>
public sealed record RolloutPrompt(long RowNumber, int[] Ids, double Temperature);

/// <summary>What a row became. <see cref="Ended"/> when the last id is an end-of-sequence token.</summary>
public sealed record RolloutText(int[] Ids, bool Ended);

/// <summary>Lockstep generation of prompts of one length (methods.md 3.3).</summary>
public static class Rollout
{
    private delegate void Draws(ReadOnlySpan<int> tokens, ReadOnlySpan<double> temperatures, ReadOnlySpan<double> uniforms, Span<int> drawn);

    /// <summary>
    /// Generates until every row ended or has <paramref name="maxNewTokens"/> tokens, or the context is full. A finished row is fed its
    /// last token and ignored.
    /// </summary>
    /// <exception cref="ArgumentException">The prompts differ in length, or do not fit the context.</exception>
    public static IReadOnlyList<RolloutText> Generate(
        ICausalModel model,
        IReadOnlyList<RolloutPrompt> prompts,
        int maxNewTokens,
        IReadOnlyList<int> eosTokenIds,
        ulong seed,
        CancellationToken cancellationToken)
    {
        var length = prompts[0].Ids.Length;
        if (length == 0 || length >= model.ContextLength || prompts.Any(p => p.Ids.Length != length))
        {
            throw new ArgumentException("The prompts of a batch have one length, of at least one token, below the context.", nameof(prompts));
        }

        var limit = Math.Min(maxNewTokens, model.ContextLength - length);
        var rows = prompts.Select(_ => new List<int>(limit)).ToArray();
        var ended = new bool[rows.Length];
        var seeds = prompts.Select(p => CounterRandom.Derive(seed, (ulong)p.RowNumber)).ToArray();
        var temperatures = prompts.Select(p => p.Temperature).ToArray();
        var uniforms = new double[rows.Length];
        var drawn = new int[rows.Length];
        var fed = prompts.SelectMany(p => p.Ids).ToArray();
        using var session = model.StartSession(rows.Length, length + limit);
        var draw = session is IDrawingSession own ? own.Draw : DrawOnHost(session, model.VocabularySize);
        for (var step = 0; step < limit && !Array.TrueForAll(ended, e => e); step++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            for (var row = 0; row < rows.Length; row++)
            {
                uniforms[row] = CounterRandom.NextUniform(seeds[row], length + step, RandomPurpose.TargetDraw);
            }

            draw(fed, temperatures, uniforms, drawn);
            fed = step == 0 ? new int[rows.Length] : fed;
            for (var row = 0; row < rows.Length; row++)
            {
                if (!ended[row])
                {
                    rows[row].Add(drawn[row]);
                    fed[row] = drawn[row];
                    ended[row] = eosTokenIds.Contains(drawn[row]);
                }
            }
        }

        return [.. rows.Select((ids, row) => new RolloutText([.. ids], ended[row]))];
    }

    /// <summary>
    /// The share of token 4-grams that occurred before in the same text: 0 for text without repeats, near 1 for a loop.
    /// </summary>
    public static double RepetitionRatio(ReadOnlySpan<int> ids)
    {
        const int Order = 4;
        if (ids.Length < Order)
        {
            return 0;
        }

        var seen = new HashSet<(int, int, int, int)>();
        var repeated = 0;
        for (var i = 0; i + Order <= ids.Length; i++)
        {
            repeated += seen.Add((ids[i], ids[i + 1], ids[i + 2], ids[i + 3])) ? 0 : 1;
        }

        return (double)repeated / (ids.Length - Order + 1);
    }

    private static Draws DrawOnHost(ICausalSession session, int vocabularySize)
    {
        var law = new double[vocabularySize];
        float[] logits = [];
        return (tokens, temperatures, uniforms, drawn) =>
        {
            logits = logits.Length == 0 ? new float[drawn.Length * vocabularySize] : logits;
            session.Forward(tokens, logits, 1);
            for (var row = 0; row < drawn.Length; row++)
            {
                var own = logits.AsSpan(row * vocabularySize, vocabularySize);
                if (temperatures[row] == 0)
                {
                    drawn[row] = Sampling.ArgMax(own);
                    continue;
                }

                Sampling.Transform(own, law, temperatures[row]);
                drawn[row] = Sampling.Draw(law, uniforms[row]);
            }
        };
    }
}
