using System.Diagnostics;
using FastDraft.Modeling.Models;

namespace FastDraft.Modeling.Decoding;

/// <summary>Decoding without a draft: the text, or the law of it, that speculative decoding must keep.</summary>
public sealed class PlainDecoder(ICausalModel model)
{
    /// <summary>Generates after <paramref name="prompt"/>; one block event per token.</summary>
    /// <exception cref="ArgumentException">The prompt is empty or longer than the context, or an option is out of range.</exception>
    public GenerationResult Generate(ReadOnlySpan<int> prompt, GenerationOptions options, Action<int>? onToken = null)
    {
        using var text = new DecodedText(prompt, options, model.ContextLength, onToken);
        var started = Stopwatch.GetTimestamp();
        using var session = model.StartSession(1, text.Capacity(model.ContextLength));
        var logits = new float[model.VocabularySize];
        var law = options.Temperature == 0 ? [] : new double[model.VocabularySize];
        var blocks = new List<BlockEvent>();
        if (text.Length > 1)
        {
            session.Forward(text.Committed[..^1], logits, 1);
        }

        var prefilled = Stopwatch.GetTimestamp();
        while (text.Remaining > 0)
        {
            var before = Stopwatch.GetTimestamp();
            session.Forward(text.Committed[^1..], logits, 1);
            int token;
            if (options.Temperature == 0)
            {
                token = Sampling.ArgMax(logits);
            }
            else
            {
                Sampling.Transform(logits, law, options.Temperature, options.TopK, options.TopP);
                token = Sampling.Draw(law, CounterRandom.NextUniform(options.Seed, text.Length, RandomPurpose.TargetDraw));
            }

            text.Append(token);
            blocks.Add(new BlockEvent(0, 0, 1, [], 0, Stopwatch.GetTimestamp() - before));
        }

        return text.Finish(blocks, prefilled - started, Stopwatch.GetTimestamp() - prefilled);
    }
}
