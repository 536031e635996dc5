using static TorchSharp.torch;

namespace FastDraft.Modeling.Models;

/// <summary>A decoder behind the decoding contract. Owns the decoder.</summary>
public sealed class TorchCausalModel(Decoder decoder) : ICausalModel
{
    public int VocabularySize => decoder.Config.VocabularySize;

    public int ContextLength => decoder.Config.MaxPositions;

    public long NumParameters => decoder.Config.NumParameters;

    public ICausalSession StartSession(int batch = 1, int? capacity = null) => new TorchCausalSession(decoder, batch, capacity ?? ContextLength);

    public void Dispose() => decoder.Dispose();
}

/// <summary>Keys and values per layer, [B, key-value heads, capacity, head size], allocated once and written in place.</summary>
public sealed class TorchCausalSession : ICausalSession
{
    private readonly Decoder decoder;
    private readonly int batch;
    private readonly (Tensor Keys, Tensor Values)[] cache;

    public TorchCausalSession(Decoder decoder, int batch, int capacity)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(capacity);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(capacity, decoder.Config.MaxPositions);
        this.decoder = decoder;
        this.batch = batch;
        Capacity = capacity;
        var c = decoder.Config;
        var head = decoder.HeadWeight;
        Tensor Room() => zeros([batch, c.NumKeyValueHeads, capacity, c.HeadSize], head.dtype, head.device).DetachFromDisposeScope();
        cache = [.. Enumerable.Range(0, c.NumLayers).Select(_ => (Room(), Room()))];
    }

    public int Length { get; private set; }

    public int Capacity { get; }

    public void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
    {
        var vocabulary = decoder.Config.VocabularySize;
        var count = tokens.Length / batch;
        if (tokens.Length == 0 || tokens.Length % batch != 0 || numLogitRows < 0 || numLogitRows > count || logits.Length != (long)batch * numLogitRows * vocabulary)
        {
            throw new ArgumentException($"{tokens.Length} tokens and {logits.Length} logits do not fit a batch of {batch} with {numLogitRows} logit rows.");
        }

        var ids = new long[tokens.Length];
        for (var i = 0; i < ids.Length; i++)
        {
            ids[i] = (uint)tokens[i] < (uint)vocabulary ? tokens[i]
                : throw new ArgumentException($"Token {tokens[i]} lies outside the vocabulary of {vocabulary}.", nameof(tokens));
        }

        using var _ = inference_mode();
        using var scope = NewDisposeScope();
        var hidden = Advance(tensor(ids, [batch, count], device: decoder.HeadWeight.device));
        if (numLogitRows > 0)
        {
            Head(hidden.narrow(1, count - numLogitRows, numLogitRows)).to(ScalarType.Float32).cpu().contiguous().data<float>().CopyTo(logits);
        }
    }

    /// <summary>Feeds ids [B,T] (int64, trusted) and returns the last position's logits [B,V] on the decoder's device.</summary>
    public Tensor ForwardTensor(Tensor ids)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        return Head(Advance(ids).select(1, ids.shape[1] - 1)).MoveToOuterDisposeScope();
    }

    public void Rollback(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        Length = length;
    }

    public void Dispose()
    {
        foreach (var (keys, values) in cache)
        {
            keys.Dispose();
            values.Dispose();
        }
    }

    private Tensor Advance(Tensor ids)
    {
        var count = (int)ids.shape[1];
        if (ids.shape[0] != batch || count > Capacity - Length)
        {
            throw new ArgumentException($"{count} tokens do not fit a cache of {Capacity} positions that holds {Length}, or the batch is not {batch}.", nameof(ids));
        }

        var hidden = decoder.Run(ids, cache, Length);
        Length += count;
        return hidden;
    }

    private Tensor Head(Tensor hidden) => TorchSharp.torch.nn.functional.linear(hidden, decoder.HeadWeight);
}
