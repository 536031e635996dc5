using FastDraft.Modeling.Models;

namespace FastDraft.Export;

/// <summary>The argument checks that <see cref="ICausalSession"/> promises, shared by the exported engines.</summary>
internal static class SessionArguments
{
    public static void CheckStart(ICausalModel model, int batch, int capacity)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(batch, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(capacity, model.ContextLength);
    }

    /// <summary>The number of new positions.</summary>
    public static int CheckForward(
        ICausalSession session, int vocabularySize, int batch, ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
    {
        var count = tokens.Length / batch;
        if (count == 0 || tokens.Length % batch != 0)
        {
            throw new ArgumentException($"{tokens.Length} tokens are not one or more positions of {batch} sequences.", nameof(tokens));
        }

        if (session.Length + count > session.Capacity)
        {
            throw new ArgumentException($"{session.Length} + {count} positions exceed the capacity of {session.Capacity}.", nameof(tokens));
        }

        foreach (var token in tokens)
        {
            if ((uint)token >= (uint)vocabularySize)
            {
                throw new ArgumentException($"Token id {token} lies outside the vocabulary of {vocabularySize}.", nameof(tokens));
            }
        }

        if (numLogitRows < 0 || numLogitRows > count || logits.Length < (long)batch * numLogitRows * vocabularySize)
        {
            throw new ArgumentException($"{numLogitRows} logit rows of {count} positions do not fit {logits.Length} values.", nameof(logits));
        }

        return count;
    }

    public static void CheckRollback(ICausalSession session, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, session.Length);
    }

    /// <summary>Copies the last rows of <c>[batch, count, vocabulary]</c> into <c>[batch, rows, vocabulary]</c>.</summary>
    public static void CopyLastRows(ReadOnlySpan<float> all, Span<float> last, int batch, int count, int rows, int vocabulary)
    {
        for (var b = 0; b < batch; b++)
        {
            all.Slice(((b * count) + count - rows) * vocabulary, rows * vocabulary).CopyTo(last[(b * rows * vocabulary)..]);
        }
    }
}
