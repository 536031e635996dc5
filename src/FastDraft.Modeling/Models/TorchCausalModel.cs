// Shapes: B batch, T positions fed, C positions cached after the call, D hidden, V vocabulary, H heads, K key-value heads, S head size.
using FastDraft.Modeling.Native;
using TorchSharp;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Models;

/// <summary>
/// The decoder prepared for inference. Query, key and value projections are one matrix, gate and up another: at batch 1 a step costs
/// what reading the weights costs plus a fixed price per operation, so fewer operations is faster.
/// </summary>
public sealed class TorchCausalModel : ICausalModel
{
    private readonly Decoder _decoder;
    private readonly bool _ownsDecoder;

    /// <param name="decoder">Read, never changed; disposed with this object when <paramref name="ownsDecoder"/>.</param>
    /// <param name="ownsDecoder">False when the caller goes on training it.</param>
    public TorchCausalModel(Decoder decoder, bool ownsDecoder = true)
    {
        _decoder = decoder;
        _ownsDecoder = ownsDecoder;
        using var _ = no_grad();
        Layers = [.. decoder.Layers.Select(layer => new FusedLayer(
            layer.InputNorm,
            cat([layer.Query, layer.Key, layer.Value], 0).t().contiguous().DetachFromDisposeScope(),
            layer.Output.t().contiguous().DetachFromDisposeScope(),
            layer.PostNorm,
            cat([layer.Gate, layer.Up], 0).t().contiguous().DetachFromDisposeScope(),
            layer.Down.t().contiguous().DetachFromDisposeScope()))];
    }

    public int VocabularySize => _decoder.Config.VocabularySize;

    public int ContextLength => _decoder.Config.MaxPositions;

    public long NumParameters => _decoder.Config.NumParameters;

    public DecoderConfig Config => _decoder.Config;

    internal Decoder Decoder => _decoder;

    internal IReadOnlyList<FusedLayer> Layers { get; }

    public ICausalSession StartSession(int batch = 1, int? capacity = null) => StartTorchSession(batch, capacity);

    public TorchCausalSession StartTorchSession(int batch = 1, int? capacity = null) =>
        new(this, batch, Math.Min(capacity ?? ContextLength, ContextLength));

    public void Dispose()
    {
        foreach (var layer in Layers)
        {
            layer.Dispose();
        }

        if (_ownsDecoder)
        {
            _decoder.Dispose();
        }
    }

    /// <summary>Weights transposed to [in, out].</summary>
    internal sealed record FusedLayer(Tensor InputNorm, Tensor QueryKeyValue, Tensor Output, Tensor PostNorm, Tensor GateUp, Tensor Down) : IDisposable
    {
        public void Dispose()
        {
            QueryKeyValue.Dispose();
            Output.Dispose();
            GateUp.Dispose();
            Down.Dispose();
        }
    }
}

/// <summary>A key-value cache of fixed capacity [B, K, capacity, S] per layer, written in place; rollback only moves the length.</summary>
public sealed class TorchCausalSession : IDrawingSession
{
    private readonly TorchCausalModel _model;
    private readonly int _batch;
    private readonly Tensor[] _keys;
    private readonly Tensor[] _values;
    private readonly Tensor? _history;
    private bool _isLong;

    internal TorchCausalSession(TorchCausalModel model, int batch, int capacity)
    {
        (_model, _batch, Capacity) = (model, batch, capacity);
        var config = model.Config;
        _keys = [.. Enumerable.Range(0, config.NumLayers).Select(_ => NewCache())];
        _values = [.. Enumerable.Range(0, config.NumLayers).Select(_ => NewCache())];
        _history = RotaryPositions.IsLong(config, capacity) ? zeros([batch, capacity], ScalarType.Int64, model.Decoder.Device).DetachFromDisposeScope() : null;

        Tensor NewCache() => zeros([batch, config.NumKeyValueHeads, capacity, config.HeadSize], model.Decoder.Dtype, model.Decoder.Device).DetachFromDisposeScope();
    }

    public int Length { get; private set; }

    public int Capacity { get; }

    public void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
    {
        if (logits.Length != _batch * numLogitRows * _model.VocabularySize)
        {
            throw new ArgumentException($"Logits hold {logits.Length} values, {_batch} x {numLogitRows} x {_model.VocabularySize} are written.", nameof(logits));
        }

        using var scope = NewDisposeScope();
        var logits_BTV = ForwardTensor(Ids(tokens, numLogitRows), numLogitRows);
        if (numLogitRows > 0)
        {
            logits_BTV.to_type(ScalarType.Float32).cpu().contiguous().data<float>().CopyTo(logits);
        }
    }

    public void Draw(ReadOnlySpan<int> tokens, ReadOnlySpan<double> temperatures, ReadOnlySpan<double> uniforms, Span<int> drawn)
    {
        using var _ = inference_mode();
        using var scope = NewDisposeScope();
        var device = _model.Decoder.Device;
        var logits_BV = ForwardTensor(Ids(tokens, 1)).squeeze(1).to_type(ScalarType.Float32);
        var temperature_B1 = tensor(temperatures.ToArray(), [_batch, 1], ScalarType.Float32, device);
        var uniform_B1 = tensor(uniforms.ToArray(), [_batch, 1], device: device);
        var isGreedy_B1 = temperature_B1.eq(0);
        var cumulative_BV = logits_BV.div(temperature_B1.masked_fill(isGreedy_B1, 1)).softmax(1).cumsum(1, ScalarType.Float64);
        var sampled_B1 = searchsorted(cumulative_BV, uniform_B1 * cumulative_BV.narrow(1, _model.VocabularySize - 1, 1), out_int32: false, right: true).clamp_max_(_model.VocabularySize - 1);
        var tokens_B1 = where(isGreedy_B1, logits_BV.argmax(1, keepdim: true), sampled_B1);
        tokens_B1.flatten().to_type(ScalarType.Int32).cpu().data<int>().CopyTo(drawn);
    }

    /// <summary>ids [B, T] (int64) to the logits of the last <paramref name="numLogitRows"/> positions, [B, rows, V], on the model's device.</summary>
    public Tensor ForwardTensor(Tensor ids_BT, int numLogitRows = 1)
    {
        if (_history is null)
        {
            return ForwardCached(ids_BT, numLogitRows);
        }

        using var _ = inference_mode();
        using var scope = NewDisposeScope();
        var (start, count, config) = (Length, (int)ids_BT.shape[1], _model.Config);
        var numShort = config.LongRope!.OriginalPositions - start;
        if (start > 0 && numShort > 0 && numShort < count)
        {
            // A block that crosses the original context: rows before it are what they are when tokens come one by one.
            var rest = count - numShort;
            var before = ForwardTensor(ids_BT.narrow(1, 0, numShort), Math.Max(0, numLogitRows - rest));
            var after = ForwardTensor(ids_BT.narrow(1, numShort, rest), Math.Min(numLogitRows, rest));
            return (numLogitRows > rest ? cat([before, after], 1) : after).MoveToOuterDisposeScope();
        }

        _history.narrow(1, start, count).copy_(ids_BT);
        var isLong = RotaryPositions.IsLong(config, start + count);
        if (start > 0 && isLong != _isLong)
        {
            (_isLong, Length) = (isLong, 0);
            ForwardCached(_history.narrow(1, 0, start), 0);
        }

        _isLong = isLong;
        return ForwardCached(ids_BT, numLogitRows).MoveToOuterDisposeScope();
    }

    private Tensor ForwardCached(Tensor ids_BT, int numLogitRows)
    {
        using var _ = inference_mode();
        using var scope = NewDisposeScope();
        var decoder = _model.Decoder;
        var config = decoder.Config;
        var count = (int)ids_BT.shape[1];
        var total = Length + count;
        var rope = decoder.Rope(_isLong);
        var cos = rope.Cos.narrow(0, Length, count).unsqueeze(1);
        var sin = rope.Sin.narrow(0, Length, count).unsqueeze(1);

        // Position i of the block sees the cache and the block up to itself. One fed token sees everything: no mask.
        var mask = count == 1 ? null : ones([count, total], ScalarType.Bool, decoder.Device).triu(Length + 1);
        var hidden_ND = decoder.Embedding.index_select(0, ids_BT.flatten());
        for (var i = 0; i < config.NumLayers; i++)
        {
            var layer = _model.Layers[i];
            var mixed = Attend(i, mm(Normalize(hidden_ND, layer.InputNorm), layer.QueryKeyValue), count, total, cos, sin, mask);
            hidden_ND = addmm(hidden_ND, mixed, layer.Output, 1, 1);
            var gateUp = mm(Normalize(hidden_ND, layer.PostNorm), layer.GateUp);
            var gated = nn.functional.silu(gateUp.narrow(1, 0, config.IntermediateSize)).mul_(gateUp.narrow(1, config.IntermediateSize, config.IntermediateSize));
            hidden_ND = addmm(hidden_ND, gated, layer.Down, 1, 1);
        }

        Length = total;
        if (numLogitRows == 0)
        {
            return hidden_ND.MoveToOuterDisposeScope();
        }

        var last_BRD = hidden_ND.view(_batch, count, config.HiddenSize).narrow(1, count - numLogitRows, numLogitRows);
        return nn.functional.linear(decoder.RmsNorm(last_BRD, decoder.FinalNorm), decoder.HeadWeight).MoveToOuterDisposeScope();
    }

    public void Rollback(int length)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        Length = length;
    }

    public void Dispose()
    {
        foreach (var cache in _keys.Concat(_values))
        {
            cache.Dispose();
        }

        _history?.Dispose();
    }

    private Tensor Ids(ReadOnlySpan<int> tokens, int numLogitRows)
    {
        var count = tokens.Length / _batch;
        if (count == 0 || count * _batch != tokens.Length || Length + count > Capacity || numLogitRows > count)
        {
            throw new ArgumentException($"{tokens.Length} tokens for {_batch} sequences, {Length} of {Capacity} positions used, {numLogitRows} logit rows wanted.", nameof(tokens));
        }

        var ids = new long[tokens.Length];
        for (var i = 0; i < ids.Length; i++)
        {
            ids[i] = (uint)tokens[i] < (uint)_model.VocabularySize
                ? tokens[i]
                : throw new ArgumentException($"Token id {tokens[i]} lies outside the vocabulary of {_model.VocabularySize}.", nameof(tokens));
        }

        return tensor(ids, [_batch, count], device: _model.Decoder.Device);
    }

    /// <summary>The decoder's norm; in float32 with the fewest operations.</summary>
    private Tensor Normalize(Tensor x, Tensor weight) => x.dtype == ScalarType.Float32 && weight.dtype == ScalarType.Float32
        ? x.square().mean([-1], keepdim: true).add_(_model.Config.RmsNormEpsilon).rsqrt_().mul(x).mul_(weight)
        : _model.Decoder.RmsNorm(x, weight);

    /// <summary>The decoder's rotary positions; in float32 half of each head is written at a time, without a concatenation of the input.</summary>
    private static Tensor Rotate(Tensor x, Tensor cos, Tensor sin)
    {
        var half = x.shape[3] / 2;
        if (x.dtype != ScalarType.Float32)
        {
            return ScriptedOperations.Rotate(x, cos.narrow(2, 0, half).to_type(x.dtype), sin.narrow(2, 0, half).to_type(x.dtype));
        }

        var (first, second) = (x.narrow(3, 0, half), x.narrow(3, half, half));
        var halfSin = sin.narrow(2, 0, half);
        var rotated = x * cos;
        rotated.narrow(3, 0, half).addcmul_(second, halfSin, -1);
        rotated.narrow(3, half, half).addcmul_(first, halfSin, 1);
        return rotated;
    }

    private Tensor Attend(int layer, Tensor queryKeyValue, int count, int total, Tensor cos, Tensor sin, Tensor? mask)
    {
        var config = _model.Config;
        int heads = config.NumHeads, keyValueHeads = config.NumKeyValueHeads, size = config.HeadSize, groups = heads / keyValueHeads;
        var split_BTHS = queryKeyValue.view(_batch, count, heads + (2 * keyValueHeads), size);
        var rotary_BTHS = Rotate(split_BTHS.narrow(2, 0, heads + keyValueHeads), cos, sin);
        _keys[layer].narrow(2, Length, count).copy_(rotary_BTHS.narrow(2, heads, keyValueHeads).transpose(1, 2));
        _values[layer].narrow(2, Length, count).copy_(split_BTHS.narrow(2, heads + keyValueHeads, keyValueHeads).transpose(1, 2));

        // The query heads of a group share one key-value head: fold the group into the query's positions instead of copying the cache.
        var query = rotary_BTHS.narrow(2, 0, heads).view(_batch, count, keyValueHeads, groups, size).permute(0, 2, 3, 1, 4).reshape(_batch, keyValueHeads, groups * count, size);
        var scores = matmul(query, _keys[layer].narrow(2, 0, total).transpose(2, 3)).mul_(1.0 / Math.Sqrt(size));
        if (mask is not null)
        {
            scores = scores.view(_batch, keyValueHeads, groups, count, total).masked_fill_(mask, float.NegativeInfinity).view(_batch, keyValueHeads, groups * count, total);
        }

        var mixed = matmul(scores.softmax(-1), _values[layer].narrow(2, 0, total));
        return mixed.view(_batch, keyValueHeads, groups, count, size).permute(0, 3, 1, 2, 4).reshape(_batch * count, heads * size);
    }
}
