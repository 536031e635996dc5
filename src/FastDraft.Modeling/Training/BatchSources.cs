namespace FastDraft.Modeling.Training;

/// <summary>
/// Where a trainer's rows come from. A batch is a pure function of its index, so the data position of a training run is a step number.
/// </summary>
public interface IBatchSource
{
    /// <summary>Fills row-major [rows, sequenceLength] ids and labels. A label is the NEXT token, or -1 where it carries no loss.</summary>
    void Fill(long firstRow, int rows, int sequenceLength, Span<long> ids_BT, Span<long> labels_BT);
}

/// <summary>
/// Packed windows of a token split, every window once per epoch in an order drawn from the seed; optionally mixed with a second split. Every
/// epoch cuts the tokens at other places: a small corpus that is read many times is learned by heart later.
/// </summary>
public sealed class PackedWindows(TokenSplit tokens, ulong seed, TokenSplit? replay = null, double replayFraction = 0) : IBatchSource
{
    /// <summary>Windows of length T (and one label beyond) that a split holds.</summary>
    public static long NumWindows(TokenSplit split, int sequenceLength) => Math.Max(0, (split.NumTokens - 1) / sequenceLength);

    public void Fill(long firstRow, int rows, int sequenceLength, Span<long> ids_BT, Span<long> labels_BT)
    {
        var window = new int[sequenceLength + 1];
        for (var b = 0; b < rows; b++)
        {
            var row = firstRow + b;
            // Row r is a replay row exactly when the running count of replay rows rises at r: the mix is even, not random.
            var numReplayBefore = replay is null ? 0 : (long)Math.Floor(row * replayFraction);
            var isReplay = replay is not null && (long)Math.Floor((row + 1) * replayFraction) > numReplayBefore;
            var source = isReplay ? replay! : tokens;
            var index = isReplay ? numReplayBefore : row - numReplayBefore;
            var count = NumWindows(source, sequenceLength);
            var key = seed + (ulong)(index / count) + (isReplay ? 0x5eedUL << 32 : 0);
            var cut = Permutation.At(key, 0, sequenceLength);
            CopyFromRing(source, cut + (Permutation.At(key, index % count, count) * sequenceLength), window);
            for (var t = 0; t < sequenceLength; t++)
            {
                ids_BT[(b * sequenceLength) + t] = window[t];
                labels_BT[(b * sequenceLength) + t] = window[t + 1];
            }
        }
    }

    /// <summary>Behind the last token comes the first: a window over the end is one of two documents, as most are.</summary>
    private static void CopyFromRing(TokenSplit source, long position, Span<int> window)
    {
        position %= source.NumTokens;
        var numBeforeEnd = (int)Math.Min(window.Length, source.NumTokens - position);
        source.CopyTo(position, window[..numBeforeEnd]);
        source.CopyTo(0, window[numBeforeEnd..]);
    }
}

/// <summary>A sequence whose loss begins at the token with index <paramref name="LossStart"/>: that token is the first one to be predicted.</summary>
public sealed record SequenceExample(int[] Ids, int LossStart);

/// <summary>One example a row, padded on the right with id 0 that carries no loss (methods.md section 7: label shift).</summary>
public sealed class PaddedSequences(IReadOnlyList<SequenceExample> examples, ulong seed) : IBatchSource
{
    public void Fill(long firstRow, int rows, int sequenceLength, Span<long> ids_BT, Span<long> labels_BT)
    {
        for (var b = 0; b < rows; b++)
        {
            var row = firstRow + b;
            var index = Permutation.At(seed + (ulong)(row / examples.Count), row % examples.Count, examples.Count);
            Write(examples[(int)index], ids_BT.Slice(b * sequenceLength, sequenceLength), labels_BT.Slice(b * sequenceLength, sequenceLength));
        }
    }

    /// <summary>Position t sees Ids[t] and is to predict Ids[t + 1], with loss only where t + 1 is at or after LossStart.</summary>
    public static void Write(SequenceExample example, Span<long> ids_T, Span<long> labels_T)
    {
        for (var t = 0; t < ids_T.Length; t++)
        {
            ids_T[t] = t < example.Ids.Length ? example.Ids[t] : 0;
            labels_T[t] = t + 1 < example.Ids.Length && t + 1 >= example.LossStart ? example.Ids[t + 1] : -1;
        }
    }
}

/// <summary>A keyed bijection of [0, count) without a table: a four-round Feistel network over the next even number of bits, walked until it lands inside.</summary>
public static class Permutation
{
    public static long At(ulong key, long index, long count)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((ulong)index, (ulong)count, nameof(index));
        var half = 1;
        while (1L << (2 * half) < count)
        {
            half++;
        }

        var mask = (1UL << half) - 1;
        var x = (ulong)index;
        do
        {
            var (left, right) = (x >> half, x & mask);
            for (var round = 0UL; round < 4; round++)
            {
                (left, right) = (right, left ^ (Mix(key ^ Mix(right + (round << 56) + 1)) & mask));
            }

            x = (left << half) | right;
        }
        while (x >= (ulong)count);
        return (long)x;
    }

    // The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
    private static ulong Mix(ulong z)
    {
        z += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
}
