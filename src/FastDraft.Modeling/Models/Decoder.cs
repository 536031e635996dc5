using System.Runtime.InteropServices;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Native;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Models;

/// <summary>A Llama decoder: RMSNorm, half-split rotary positions, grouped-query attention, SwiGLU. Parameters carry Hugging Face names.</summary>
public sealed class Decoder : nn.Module
{
    private readonly Dictionary<string, Parameter> weights = new(StringComparer.Ordinal);

    public Decoder(DecoderConfig config, Device? device = null, ScalarType dtype = ScalarType.Float32)
        : base(Loaded())
    {
        Config = config;
        var d = config.HiddenSize;
        Add("model.embed_tokens.weight", config.VocabularySize, d);
        for (var i = 0; i < config.NumLayers; i++)
        {
            var layer = $"model.layers.{i}.";
            Add(layer + "input_layernorm.weight", d);
            Add(layer + "self_attn.q_proj.weight", config.NumHeads * config.HeadSize, d);
            Add(layer + "self_attn.k_proj.weight", config.NumKeyValueHeads * config.HeadSize, d);
            Add(layer + "self_attn.v_proj.weight", config.NumKeyValueHeads * config.HeadSize, d);
            Add(layer + "self_attn.o_proj.weight", d, config.NumHeads * config.HeadSize);
            Add(layer + "post_attention_layernorm.weight", d);
            Add(layer + "mlp.gate_proj.weight", config.IntermediateSize, d);
            Add(layer + "mlp.up_proj.weight", config.IntermediateSize, d);
            Add(layer + "mlp.down_proj.weight", d, config.IntermediateSize);
        }

        Add("model.norm.weight", d);
        if (!config.TieWordEmbeddings)
        {
            Add("lm_head.weight", config.VocabularySize, d);
        }

        void Add(string name, params long[] shape)
        {
            var weight = new Parameter(ones(shape, dtype, device));
            weights.Add(name, weight);
        }
    }

    public DecoderConfig Config { get; }

    /// <summary>Output embedding [V,D]; the input embedding itself where tied.</summary>
    public Tensor HeadWeight => Config.TieWordEmbeddings ? weights["model.embed_tokens.weight"] : weights["lm_head.weight"];

    /// <summary>Parameters under their Hugging Face names, which contain dots and so cannot be registered with TorchSharp as they are.</summary>
    public override IEnumerable<(string name, Parameter parameter)> named_parameters(bool recurse = true) => weights.Select(w => (w.Key, w.Value));

    public override IEnumerable<Parameter> parameters(bool recurse = true) => weights.Values;

    /// <exception cref="CheckpointException">A weight is missing or has another shape than config.json says.</exception>
    public static Decoder Load(string folder, Device? device = null, ScalarType dtype = ScalarType.Float32)
    {
        var decoder = new Decoder(DecoderConfig.Load(folder), device, dtype);
        try
        {
            using var file = SafetensorsFolder.Open(folder);
            var tensors = file.Tensors;
            using var _ = no_grad();
            foreach (var (name, weight) in decoder.weights)
            {
                if (!tensors.TryGetValue(name, out var entry) || !entry.Shape.AsSpan().SequenceEqual(weight.shape))
                {
                    throw new CheckpointException($"{folder}: tensor '{name}' is missing or not of shape [{string.Join(',', weight.shape)}]", "Check that the weights belong to config.json.");
                }

                var values = new float[weight.numel()];
                file.ReadFloat32(name, values);
                using var source = tensor(values, weight.shape);
                weight.copy_(source).Dispose();
            }

            return decoder;
        }
        catch
        {
            decoder.Dispose();
            throw;
        }
    }

    /// <summary>Writes config.json, generation_config.json and model.safetensors (Float32, Float16 or BFloat16).</summary>
    public void Save(string folder, ScalarType dtype = ScalarType.Float32)
    {
        var name = dtype switch
        {
            ScalarType.Float32 => "F32",
            ScalarType.Float16 => "F16",
            ScalarType.BFloat16 => "BF16",
            _ => throw new ArgumentException($"Weights cannot be saved as {dtype}.", nameof(dtype)),
        };
        Config.Save(folder);
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var tensors = weights.Select(w => new SafetensorsTensor(w.Key, name, w.Value.shape,
            w.Value.detach().to(dtype).cpu().contiguous().bytes.ToArray())).ToList();
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"), tensors, new Dictionary<string, string> { ["format"] = "pt" });
    }

    /// <summary>Normal(0, 0.02) weights, norms 1, and residual projections scaled by 1/sqrt(2 x layers).</summary>
    public void Initialize(long seed)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        using var generator = new Generator((ulong)seed, CPU);
        foreach (var (name, weight) in weights.Where(w => !w.Key.EndsWith("norm.weight", StringComparison.Ordinal)))
        {
            var residual = name.EndsWith("o_proj.weight", StringComparison.Ordinal) || name.EndsWith("down_proj.weight", StringComparison.Ordinal);
            var scale = 0.02 / (residual ? Math.Sqrt(2.0 * Config.NumLayers) : 1);
            weight.copy_(randn(weight.shape, ScalarType.Float32, CPU, generator: generator).mul(scale));
        }
    }

    /// <summary>ids [B,T] (int64) to hidden states [B,T,D] after the final norm.</summary>
    public Tensor ForwardHidden(Tensor ids) => Run(ids, null, 0);

    internal Tensor Run(Tensor ids, (Tensor Keys, Tensor Values)[]? cache, long position)
    {
        using var scope = NewDisposeScope();
        var (b, t) = (ids.shape[0], ids.shape[1]);
        var size = Config.HeadSize;
        var x = weights["model.embed_tokens.weight"].index_select(0, ids.reshape(-1)).view(b, t, Config.HiddenSize);
        var inverse = pow(Config.RopeTheta, arange(0, size, 2, ScalarType.Float32, ids.device).div(-size));
        var angles = arange(position, position + t, 1, ScalarType.Float32, ids.device).unsqueeze(1) * inverse.unsqueeze(0);
        var cosine = angles.cos().to(x.dtype);
        var sine = angles.sin().to(x.dtype);
        var mask = t > 1 && cache is not null ? ones(t, position + t, ScalarType.Bool, ids.device).tril(position) : null;
        for (var i = 0; i < Config.NumLayers; i++)
        {
            var layer = $"model.layers.{i}.";
            Tensor Linear(Tensor input, string name) => nn.functional.linear(input, weights[layer + name + ".weight"]);
            Tensor Split(Tensor input, string name, long heads) => Linear(input, name).view(b, t, heads, size).transpose(1, 2);
            var h = Norm(x, layer + "input_layernorm.weight");
            var q = Rotate(Split(h, "self_attn.q_proj", Config.NumHeads), cosine, sine);
            var k = Rotate(Split(h, "self_attn.k_proj", Config.NumKeyValueHeads), cosine, sine);
            var v = Split(h, "self_attn.v_proj", Config.NumKeyValueHeads);
            if (cache is not null)
            {
                cache[i].Keys.narrow(2, position, t).copy_(k);
                cache[i].Values.narrow(2, position, t).copy_(v);
                k = cache[i].Keys.narrow(2, 0, position + t);
                v = cache[i].Values.narrow(2, 0, position + t);
            }

            var attended = nn.functional.scaled_dot_product_attention(q, Group(k), Group(v), mask, 0, cache is null && t > 1);
            x = x + Linear(attended.transpose(1, 2).reshape(b, t, (long)Config.NumHeads * size), "self_attn.o_proj");
            h = Norm(x, layer + "post_attention_layernorm.weight");
            x = x + Linear(nn.functional.silu(Linear(h, "mlp.gate_proj")) * Linear(h, "mlp.up_proj"), "mlp.down_proj");
        }

        return Norm(x, "model.norm.weight").MoveToOuterDisposeScope();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            foreach (var weight in weights.Values)
            {
                weight.Dispose();
            }
        }

        base.Dispose(disposing);
    }

    private static string Loaded()
    {
        Libtorch.Load();
        return nameof(Decoder);
    }

    private static Tensor Rotate(Tensor x, Tensor cosine, Tensor sine)
    {
        var half = x.chunk(2, -1);
        return cat([(half[0] * cosine) - (half[1] * sine), (half[1] * cosine) + (half[0] * sine)], -1);
    }

    private Tensor Group(Tensor x)
    {
        var groups = Config.NumHeads / Config.NumKeyValueHeads;
        return groups == 1 ? x : x.unsqueeze(2).expand(x.shape[0], x.shape[1], groups, x.shape[2], x.shape[3])
            .reshape(x.shape[0], Config.NumHeads, x.shape[2], x.shape[3]);
    }

    private Tensor Norm(Tensor x, string name)
    {
        var wide = x.to(ScalarType.Float32);
        return (wide * rsqrt(wide.pow(2).mean([-1], true) + Config.RmsNormEpsilon)).to(x.dtype) * weights[name];
    }
}
