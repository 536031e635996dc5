using FastDraft.Modeling.Checkpoints;

namespace FastDraft.Modeling.Models;

/// <summary>
/// A Phi-3 checkpoint under the names of a Llama one: query, key and value lie below each other in one matrix, gate and up in another. Where
/// only the first elements of a head turn with position, the rows of queries and keys are put into an order in which the pairs that turn are
/// the first of each half of the head; scores are sums over a head's elements, so their order is free as long as both have the same.
/// </summary>
internal sealed class FusedWeights : ISafetensors
{
    private readonly SafetensorsFolder _weights;
    private readonly DecoderConfig _config;
    private readonly Dictionary<string, SafetensorsEntry> _tensors = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (string Name, long Start)> _slices = new(StringComparer.Ordinal);
    private (string Name, byte[] Bytes) _ordered = ("", []);

    /// <exception cref="CheckpointException">A fused matrix is missing or of another shape; <paramref name="weights"/> stays open.</exception>
    public FusedWeights(SafetensorsFolder weights, DecoderConfig config, string folder)
    {
        (_weights, _config) = (weights, config);
        foreach (var (name, entry) in weights.Tensors)
        {
            _tensors.Add(name, entry);
        }

        long query = config.NumHeads * config.HeadSize, keyValue = config.NumKeyValueHeads * config.HeadSize;
        for (var i = 0; i < config.NumLayers; i++)
        {
            var prefix = $"model.layers.{i}.";
            Split(prefix + "self_attn.qkv_proj.weight", (prefix + "self_attn.q_proj.weight", query), (prefix + "self_attn.k_proj.weight", keyValue), (prefix + "self_attn.v_proj.weight", keyValue));
            Split(prefix + "mlp.gate_up_proj.weight", (prefix + "mlp.gate_proj.weight", config.IntermediateSize), (prefix + "mlp.up_proj.weight", config.IntermediateSize));
        }

        void Split(string fused, params ReadOnlySpan<(string Name, long Rows)> parts)
        {
            var rows = 0L;
            foreach (var part in parts)
            {
                rows += part.Rows;
            }

            if (!_tensors.Remove(fused, out var whole))
            {
                throw new CheckpointException($"'{folder}' has no tensor '{fused}', which its config.json calls for.");
            }

            if (!whole.Shape.SequenceEqual([rows, config.HiddenSize]))
            {
                throw new CheckpointException($"'{folder}': tensor '{fused}' has shape [{string.Join(", ", whole.Shape)}], config.json calls for [{rows}, {config.HiddenSize}].");
            }

            var start = 0L;
            foreach (var (name, count) in parts)
            {
                var length = whole.LengthBytes / rows * count;
                _tensors[name] = new SafetensorsEntry(name, whole.Dtype, [count, config.HiddenSize], whole.Offset + start, length);
                _slices[name] = (fused, start);
                start += length;
            }
        }
    }

    public IReadOnlyDictionary<string, SafetensorsEntry> Tensors => _tensors;

    public ReadOnlySpan<byte> Bytes(string name) => _slices.ContainsKey(name) ? Bytes(name, 0, checked((int)_tensors[name].LengthBytes)) : _weights.Bytes(name);

    public ReadOnlySpan<byte> Bytes(string name, long start, int length)
    {
        if (!_slices.TryGetValue(name, out var slice))
        {
            return _weights.Bytes(name, start, length);
        }

        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start + length, _tensors[name].LengthBytes, nameof(start));
        return _config.RotarySize is not null && (name.EndsWith("q_proj.weight", StringComparison.Ordinal) || name.EndsWith("k_proj.weight", StringComparison.Ordinal))
            ? Ordered(name).AsSpan((int)start, length)
            : _weights.Bytes(slice.Name, slice.Start + start, length);
    }

    public void Dispose() => _weights.Dispose();

    /// <summary>The matrix with its rows in the order of the pairs; the last one is kept, because a matrix is read part by part.</summary>
    private byte[] Ordered(string name)
    {
        if (_ordered.Name != name)
        {
            var (fused, start) = _slices[name];
            var entry = _tensors[name];
            var (half, size, turning) = (_config.HeadSize / 2, _config.HeadSize, _config.RotarySize!.Value / 2);
            var rowBytes = (int)(entry.LengthBytes / entry.Shape[0]);
            var bytes = new byte[entry.LengthBytes];
            for (var row = 0; row < entry.Shape[0]; row++)
            {
                var (head, at) = (row / size, row % size);
                var (second, pair) = (at / half, at % half);
                var source = pair < turning ? (second * turning) + pair : (2 * turning) + (second * (half - turning)) + pair - turning;
                _weights.Bytes(fused, start + (((long)(head * size) + source) * rowBytes), rowBytes).CopyTo(bytes.AsSpan(row * rowBytes));
            }

            _ordered = (name, bytes);
        }

        return _ordered.Bytes;
    }
}
