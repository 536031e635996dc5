// Shapes: B batch, T positions, D hidden, V vocabulary, H heads, K key-value heads, S head size, F intermediate.
using System.Runtime.InteropServices;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Native;
using TorchSharp;
using static TorchSharp.torch;
using Parameter = TorchSharp.Modules.Parameter;

namespace FastDraft.Modeling.Models;

/// <summary>
/// The one causal decoder of the Llama family: RMSNorm, rotary positions (half-split), grouped-query attention, SwiGLU, tied or untied
/// head. Parameters carry Hugging Face's names, so a checkpoint is read and written without a mapping.
/// </summary>
public sealed class Decoder : IDisposable
{
    private readonly Dictionary<string, Parameter> _parameters = new(StringComparer.Ordinal);
    private readonly (Tensor Cos, Tensor Sin) _rope;
    private readonly (Tensor Cos, Tensor Sin)? _longRope;

    // A first tensor without libtorch loaded fails for the life of the process.
    static Decoder() => Libtorch.Load();

    public Decoder(DecoderConfig config, Device? device = null, ScalarType dtype = ScalarType.Float32)
    {
        Config = config;
        Device = device ?? CPU;
        Dtype = dtype;
        foreach (var (name, shape) in config.Tensors())
        {
            _parameters.Add(name, new Parameter(zeros(shape, dtype, Device), requires_grad: false));
        }

        Layers = [.. Enumerable.Range(0, config.NumLayers).Select(i => new LayerWeights(_parameters, $"model.layers.{i}."))];
        _rope = RopeTables(config, isLong: false, Device);
        _longRope = RotaryPositions.IsLong(config, config.MaxPositions) ? RopeTables(config, isLong: true, Device) : null;
    }

    public DecoderConfig Config { get; }

    public Device Device { get; }

    public ScalarType Dtype { get; }

    /// <summary>Name to parameter, in the order of the checkpoint.</summary>
    public IReadOnlyDictionary<string, Parameter> Parameters => _parameters;

    /// <summary>[V, D]</summary>
    public Tensor HeadWeight => _parameters[Config.TieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"];

    internal IReadOnlyList<LayerWeights> Layers { get; }

    internal Tensor Embedding => _parameters["model.embed_tokens.weight"];

    internal Tensor FinalNorm => _parameters["model.norm.weight"];

    /// <exception cref="CheckpointException">The folder is not a usable Llama-family checkpoint.</exception>
    public static Decoder Load(string folder, Device? device = null, ScalarType dtype = ScalarType.Float32)
    {
        var config = DecoderConfig.Load(folder);
        using var weights = config.OpenWeights(folder);
        var decoder = new Decoder(config, device, dtype);
        try
        {
            using var _ = no_grad();
            foreach (var (name, parameter) in decoder._parameters)
            {
                Fill(parameter, weights, weights.Tensors[name]);
            }

            return decoder;
        }
        catch
        {
            decoder.Dispose();
            throw;
        }
    }

    /// <summary>Writes config.json, generation_config.json and model.safetensors (F32 or BF16).</summary>
    public void Save(string folder, ScalarType dtype = ScalarType.Float32)
    {
        Config.Save(folder);
        SafetensorsWriter.Write(
            Path.Join(folder, "model.safetensors"),
            [.. _parameters.Select(p => new SafetensorsTensor(p.Key, dtype == ScalarType.BFloat16 ? "BF16" : "F32", p.Value.shape, ToBytes(p.Value, dtype)))],
            new Dictionary<string, string> { ["format"] = "pt" });
    }

    /// <summary>Normal(0, 0.02), projections into the residual scaled by 1/sqrt(2 layers), norms at one.</summary>
    public void Initialize(long seed)
    {
        using var _ = no_grad();
        using var generator = new Generator((ulong)seed, CPU);
        foreach (var (name, parameter) in _parameters)
        {
            if (parameter.dim() == 1)
            {
                parameter.fill_(1);
                continue;
            }

            var residual = name.EndsWith("o_proj.weight", StringComparison.Ordinal) || name.EndsWith("down_proj.weight", StringComparison.Ordinal);
            using var values = randn(parameter.shape, ScalarType.Float32, CPU, generator: generator);
            values.mul_(residual ? 0.02 / Math.Sqrt(2.0 * Config.NumLayers) : 0.02);
            parameter.copy_(values);
        }
    }

    /// <summary>Makes the parameters leaves of autograd: called once, before training.</summary>
    public Decoder RequireGradients()
    {
        foreach (var parameter in _parameters.Values)
        {
            parameter.requires_grad_(true);
        }

        return this;
    }

    /// <summary>
    /// ids [B, T] (int64) to hidden states [B, T, D] after the final norm; causal, positions 0..T-1. Everything runs in
    /// <paramref name="compute"/> (bfloat16 on CUDA); norms and softmax sum in float32.
    /// </summary>
    public Tensor ForwardHidden(Tensor ids_BT, ScalarType compute = ScalarType.Float32)
    {
        using var scope = NewDisposeScope();
        var length = ids_BT.shape[1];
        var half = Config.HeadSize / 2;
        var rope = Rope(RotaryPositions.IsLong(Config, (int)length));
        var cos = rope.Cos.narrow(0, 0, length).narrow(1, 0, half).to_type(compute);
        var sin = rope.Sin.narrow(0, 0, length).narrow(1, 0, half).to_type(compute);
        var hidden_BTD = ScriptedOperations.Embedding(Embedding, ids_BT).to_type(compute);
        foreach (var layer in Layers)
        {
            hidden_BTD = hidden_BTD + Attend(layer, RmsNorm(hidden_BTD, layer.InputNorm), cos, sin);
            var normed = RmsNorm(hidden_BTD, layer.PostNorm);
            var gated = ScriptedOperations.Gate(nn.functional.linear(normed, Cast(layer.Gate, compute)), nn.functional.linear(normed, Cast(layer.Up, compute)));
            hidden_BTD = hidden_BTD + nn.functional.linear(gated, Cast(layer.Down, compute));
        }

        return RmsNorm(hidden_BTD, FinalNorm).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        foreach (var parameter in _parameters.Values)
        {
            parameter.Dispose();
        }

        _rope.Cos.Dispose();
        _rope.Sin.Dispose();
        _longRope?.Cos.Dispose();
        _longRope?.Sin.Dispose();
    }

    /// <summary>[positions, S] each, float32; see <see cref="RotaryPositions.IsLong"/>.</summary>
    internal (Tensor Cos, Tensor Sin) Rope(bool isLong) => isLong ? _longRope!.Value : _rope;

    internal Tensor RmsNorm(Tensor x, Tensor weight) => ScriptedOperations.RmsNorm(x, weight, Config.RmsNormEpsilon);

    /// <summary>Copies a tensor part by part, so that beside the mapped file and the parameter only one part exists.</summary>
    private static void Fill(Parameter parameter, ISafetensors weights, SafetensorsEntry entry)
    {
        const int PartElements = 1 << 24;
        var (dtype, width) = entry.Dtype switch
        {
            "F32" => (ScalarType.Float32, 4),
            "F16" => (ScalarType.Float16, 2),
            "BF16" => (ScalarType.BFloat16, 2),
            _ => throw new CheckpointException($"Tensor '{entry.Name}' has dtype {entry.Dtype}; weights must be F32, F16 or BF16."),
        };
        using var flat = parameter.view(-1);
        for (long start = 0; start < flat.shape[0]; start += PartElements)
        {
            var count = (int)Math.Min(PartElements, flat.shape[0] - start);
            using var part = empty(count, dtype);
            weights.Bytes(entry.Name, start * width, count * width).CopyTo(part.bytes);
            using var slot = flat.narrow(0, start, count);
            slot.copy_(part);
        }
    }

    private static Tensor Cast(Tensor weight, ScalarType compute) => weight.dtype == compute ? weight : weight.to_type(compute);

    private Tensor Attend(LayerWeights layer, Tensor x_BTD, Tensor cos, Tensor sin)
    {
        var (batch, length) = (x_BTD.shape[0], x_BTD.shape[1]);
        Tensor Heads(Tensor weight, int count) =>
            nn.functional.linear(x_BTD, Cast(weight, x_BTD.dtype)).view(batch, length, count, Config.HeadSize).transpose(1, 2);

        var query = ScriptedOperations.Rotate(Heads(layer.Query, Config.NumHeads), cos, sin);
        var key = ScriptedOperations.Rotate(Heads(layer.Key, Config.NumKeyValueHeads), cos, sin);
        var value = Heads(layer.Value, Config.NumKeyValueHeads);
        var groups = Config.NumHeads / Config.NumKeyValueHeads;
        if (groups > 1)
        {
            key = key.repeat_interleave(groups, 1);
            value = value.repeat_interleave(groups, 1);
        }

        var mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_casual: true);
        return nn.functional.linear(mixed.transpose(1, 2).reshape(batch, length, -1), Cast(layer.Output, x_BTD.dtype));
    }

    private static (Tensor Cos, Tensor Sin) RopeTables(DecoderConfig config, bool isLong, Device device)
    {
        var (cos, sin) = RotaryPositions.Tables(config, isLong);
        return (OfHeads(cos), OfHeads(sin));

        // Both halves of a head have the same angles.
        Tensor OfHeads(float[] values)
        {
            using var scope = NewDisposeScope();
            return tensor(values, [values.Length / (config.HeadSize / 2), config.HeadSize / 2], device: device).repeat(1, 2).DetachFromDisposeScope();
        }
    }

    private static byte[] ToBytes(Tensor parameter, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var values = parameter.detach().to_type(ScalarType.Float32).cpu().contiguous().data<float>().ToArray();
        if (dtype != ScalarType.BFloat16)
        {
            return MemoryMarshal.AsBytes(values.AsSpan()).ToArray();
        }

        var words = new ushort[values.Length];
        for (var i = 0; i < values.Length; i++)
        {
            // Round to nearest, ties to even.
            var bits = BitConverter.SingleToUInt32Bits(values[i]);
            words[i] = (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
        }

        return MemoryMarshal.AsBytes(words.AsSpan()).ToArray();
    }

    internal sealed class LayerWeights(Dictionary<string, Parameter> parameters, string prefix)
    {
        public Tensor InputNorm { get; } = parameters[prefix + "input_layernorm.weight"];

        public Tensor Query { get; } = parameters[prefix + "self_attn.q_proj.weight"];

        public Tensor Key { get; } = parameters[prefix + "self_attn.k_proj.weight"];

        public Tensor Value { get; } = parameters[prefix + "self_attn.v_proj.weight"];

        public Tensor Output { get; } = parameters[prefix + "self_attn.o_proj.weight"];

        public Tensor PostNorm { get; } = parameters[prefix + "post_attention_layernorm.weight"];

        public Tensor Gate { get; } = parameters[prefix + "mlp.gate_proj.weight"];

        public Tensor Up { get; } = parameters[prefix + "mlp.up_proj.weight"];

        public Tensor Down { get; } = parameters[prefix + "mlp.down_proj.weight"];
    }
}
