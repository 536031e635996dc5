using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using FastDraft.Modeling.Checkpoints;

namespace FastDraft.Modeling.Models;

/// <summary>The shape of a Llama-family decoder (model types llama and phi3), as Hugging Face's config.json describes it.</summary>
public sealed record DecoderConfig
{
    /// <summary>
    /// Members of config.json that make a decoder of another architecture, with the test of the value that leaves it as it is. A member that is
    /// null or absent never does. What only concerns training or loading is not here.
    /// </summary>
    private static readonly IReadOnlyList<(string Name, Func<JsonNode, bool> IsNeutral)> OtherArchitectures =
    [
        ("auto_map", _ => false),
        ("quantization_config", _ => false),
        ("attention_bias", IsFalse),
        ("mlp_bias", IsFalse),
        ("use_qk_norm", IsFalse),
        ("qk_norm", IsFalse),
        ("qk_layernorm", IsFalse),
        ("use_sliding_window", IsFalse),
        ("use_bidirectional_attention", IsFalse),
        ("add_cross_attention", IsFalse),
        ("is_encoder_decoder", IsFalse),
        ("parallel_attn", IsFalse),
        ("use_parallel_residual", IsFalse),
        ("alibi", IsFalse),
        ("sliding_window", _ => false),
        ("attn_logit_softcapping", _ => false),
        ("final_logit_softcapping", _ => false),
        ("query_pre_attn_scalar", _ => false),
        ("attention_multiplier", _ => false),
        ("clip_qkv", _ => false),
        ("num_experts", IsZero),
        ("num_local_experts", IsZero),
        ("n_routed_experts", IsZero),
        ("partial_rotary_factor", IsOne),
        ("embedding_multiplier", IsOne),
        ("residual_multiplier", IsOne),
        ("logits_scaling", IsOne),
        ("hidden_act", IsSilu),
        ("hidden_activation", IsSilu),
        ("layer_types", node => node.AsArray().All(t => t!.GetValue<string>() == "full_attention")),
        ("no_rope_layers", node => node.AsArray().All(IsOne!)),
    ];

    public string ModelType { get; init; } = "llama";

    public required int VocabularySize { get; init; }

    public required int HiddenSize { get; init; }

    public required int IntermediateSize { get; init; }

    public required int NumLayers { get; init; }

    public required int NumHeads { get; init; }

    public required int NumKeyValueHeads { get; init; }

    public required int HeadSize { get; init; }

    public double RmsNormEpsilon { get; init; } = 1e-5;

    public double RopeTheta { get; init; } = 10000;

    /// <summary>Null where frequencies are not stretched this way.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public Llama3Rope? Llama3Rope { get; init; }

    /// <summary>Null where frequencies are not stretched this way.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public LongRope? LongRope { get; init; }

    /// <summary>Elements of a head that turn with position; null for all.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? RotarySize { get; init; }

    /// <summary>Positions that are computed as the model defines them. A sliding window ends them: within it attention is the whole one.</summary>
    public int MaxPositions { get; init; } = 2048;

    public bool TieWordEmbeddings { get; init; } = true;

    public int? BosTokenId { get; init; }

    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    public long NumParameters
    {
        get
        {
            long hidden = HiddenSize;
            var attention = hidden * HeadSize * ((2L * NumHeads) + (2L * NumKeyValueHeads));
            var layer = attention + (3 * hidden * IntermediateSize) + (2 * hidden);
            return (NumLayers * layer) + hidden + (hidden * VocabularySize * (TieWordEmbeddings ? 1 : 2));
        }
    }

    /// <summary>The tensors of a checkpoint in its order, under Hugging Face's names.</summary>
    public IEnumerable<(string Name, long[] Shape)> Tensors()
    {
        long hidden = HiddenSize, query = (long)NumHeads * HeadSize, keyValue = (long)NumKeyValueHeads * HeadSize;
        yield return ("model.embed_tokens.weight", [VocabularySize, hidden]);
        for (var i = 0; i < NumLayers; i++)
        {
            var prefix = $"model.layers.{i}.";
            yield return (prefix + "input_layernorm.weight", [hidden]);
            yield return (prefix + "self_attn.q_proj.weight", [query, hidden]);
            yield return (prefix + "self_attn.k_proj.weight", [keyValue, hidden]);
            yield return (prefix + "self_attn.v_proj.weight", [keyValue, hidden]);
            yield return (prefix + "self_attn.o_proj.weight", [hidden, query]);
            yield return (prefix + "post_attention_layernorm.weight", [hidden]);
            yield return (prefix + "mlp.gate_proj.weight", [IntermediateSize, hidden]);
            yield return (prefix + "mlp.up_proj.weight", [IntermediateSize, hidden]);
            yield return (prefix + "mlp.down_proj.weight", [hidden, IntermediateSize]);
        }

        yield return ("model.norm.weight", [hidden]);
        if (!TieWordEmbeddings)
        {
            yield return ("lm_head.weight", [VocabularySize, hidden]);
        }
    }

    /// <summary>The folder's weights under the names of <see cref="Tensors"/>, checked; a matrix that the checkpoint holds fused is cut.</summary>
    /// <exception cref="CheckpointException">No weights, or a tensor is missing, of another shape, or unknown.</exception>
    public ISafetensors OpenWeights(string folder)
    {
        var files = SafetensorsFolder.Open(folder);
        try
        {
            ISafetensors weights = ModelType == "phi3" ? new FusedWeights(files, this, folder) : files;
            Check(weights, folder);
            return weights;
        }
        catch
        {
            files.Dispose();
            throw;
        }
    }

    /// <summary>Refuses weights that lack a tensor or have one that this decoder would pass over: either way another model was meant.</summary>
    /// <exception cref="CheckpointException">A tensor is missing, of another shape, or unknown.</exception>
    private void Check(ISafetensors weights, string folder)
    {
        var expected = Tensors().ToDictionary(t => t.Name, t => t.Shape, StringComparer.Ordinal);
        foreach (var (name, shape) in expected)
        {
            if (!weights.Tensors.TryGetValue(name, out var entry))
            {
                throw new CheckpointException($"'{folder}' has no tensor '{name}', which its config.json calls for.");
            }

            if (!entry.Shape.SequenceEqual(shape))
            {
                throw new CheckpointException($"'{folder}': tensor '{name}' has shape [{string.Join(", ", entry.Shape)}], config.json calls for [{string.Join(", ", shape)}].");
            }
        }

        // Tables that older checkpoints keep, and the copy of a tied head, say nothing new.
        if (weights.Tensors.Keys.FirstOrDefault(name => !expected.ContainsKey(name) && !name.EndsWith("rotary_emb.inv_freq", StringComparison.Ordinal) && name != "lm_head.weight") is { } unknown)
        {
            throw new CheckpointException($"'{folder}' has a tensor '{unknown}' that a decoder of model_type '{ModelType}' has no use for: the weights are those of another architecture.");
        }
    }

    /// <exception cref="CheckpointException">No config.json, not JSON, or a model of another family.</exception>
    public static DecoderConfig Load(string folder)
    {
        var path = Path.Join(folder, "config.json");
        if (!File.Exists(path))
        {
            throw new CheckpointException(
                Directory.Exists(folder) ? $"'{folder}' has no config.json." : $"Model folder '{folder}' does not exist.",
                "a Hugging Face folder with config.json, *.safetensors and tokenizer.json");
        }

        try
        {
            return Parse(path, JsonNode.Parse(File.ReadAllBytes(path), documentOptions: new JsonDocumentOptions { MaxDepth = 32 })!.AsObject());
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or NullReferenceException)
        {
            throw new CheckpointException($"'{path}' is not a model configuration: {e.Message}", inner: e);
        }
    }

    /// <summary>Writes config.json and generation_config.json of a LlamaForCausalLM.</summary>
    /// <exception cref="CheckpointException">Only a part of each head turns with position, which a LlamaForCausalLM cannot say.</exception>
    public void Save(string folder)
    {
        if (RotarySize is { } turning)
        {
            throw new CheckpointException($"A model of which {turning} of {HeadSize} elements of a head turn with position cannot be written to '{folder}' as a LlamaForCausalLM.", "a draft of the llama family");
        }

        Directory.CreateDirectory(folder);
        JsonNode? eos = EosTokenIds.Count switch
        {
            0 => null,
            1 => EosTokenIds[0],
            _ => new JsonArray([.. EosTokenIds.Select(id => (JsonNode)id)]),
        };
        var config = new JsonObject
        {
            ["architectures"] = new JsonArray("LlamaForCausalLM"),
            ["attention_bias"] = false,
            ["attention_dropout"] = 0.0,
            ["bos_token_id"] = BosTokenId,
            ["eos_token_id"] = eos?.DeepClone(),
            ["head_dim"] = HeadSize,
            ["hidden_act"] = "silu",
            ["hidden_size"] = HiddenSize,
            ["initializer_range"] = 0.02,
            ["intermediate_size"] = IntermediateSize,
            ["max_position_embeddings"] = MaxPositions,
            ["mlp_bias"] = false,
            ["model_type"] = "llama",
            ["num_attention_heads"] = NumHeads,
            ["num_hidden_layers"] = NumLayers,
            ["num_key_value_heads"] = NumKeyValueHeads,
            ["rms_norm_eps"] = RmsNormEpsilon,
            ["rope_theta"] = RopeTheta,
            ["tie_word_embeddings"] = TieWordEmbeddings,
            ["vocab_size"] = VocabularySize,
        };
        if (Llama3Rope is { } llama3)
        {
            config["rope_scaling"] = new JsonObject
            {
                ["rope_type"] = "llama3",
                ["factor"] = llama3.Factor,
                ["low_freq_factor"] = llama3.LowFrequencyFactor,
                ["high_freq_factor"] = llama3.HighFrequencyFactor,
                ["original_max_position_embeddings"] = llama3.OriginalPositions,
            };
        }

        if (LongRope is { } longRope)
        {
            config["original_max_position_embeddings"] = longRope.OriginalPositions;
            config["rope_scaling"] = new JsonObject
            {
                ["rope_type"] = "longrope",
                ["short_factor"] = new JsonArray([.. longRope.ShortFactors.Select(f => (JsonNode)f)]),
                ["long_factor"] = new JsonArray([.. longRope.LongFactors.Select(f => (JsonNode)f)]),
                ["attention_factor"] = longRope.Magnitude,
                ["original_max_position_embeddings"] = longRope.OriginalPositions,
            };
        }

        var generation = new JsonObject { ["bos_token_id"] = BosTokenId, ["eos_token_id"] = eos?.DeepClone() };
        var options = new JsonSerializerOptions { WriteIndented = true };
        File.WriteAllText(Path.Join(folder, "config.json"), config.ToJsonString(options) + "\n");
        File.WriteAllText(Path.Join(folder, "generation_config.json"), generation.ToJsonString(options) + "\n");
    }

    private static bool IsFalse(JsonNode node) => !node.GetValue<bool>();

    private static bool IsZero(JsonNode node) => node.GetValue<double>() == 0;

    private static bool IsOne(JsonNode node) => node.GetValue<double>() == 1;

    private static bool IsSilu(JsonNode node) => node.GetValue<string>() is "silu" or "swish";

    /// <summary>Whether remote code that the checkpoint names is the one that became the architecture phi3: then nothing of it is needed.</summary>
    private static bool IsPhi3(JsonNode? autoMap) =>
        autoMap is JsonObject map && map.All(m => m.Value!.GetValue<string>() is "configuration_phi3.Phi3Config" or "modeling_phi3.Phi3ForCausalLM");

    private static DecoderConfig Parse(string path, JsonObject json)
    {
        var modelType = Text("model_type") ?? throw Bad("it has no model_type");
        var isPhi3 = modelType == "phi3";
        if (modelType != "llama" && !isPhi3)
        {
            throw Bad($"model_type is '{modelType}'; supported: llama, phi3");
        }

        var architecture = isPhi3 ? "Phi3ForCausalLM" : "LlamaForCausalLM";
        if (json["architectures"] is JsonArray { Count: > 0 } architectures && !architectures.Any(a => a!.GetValue<string>() == architecture))
        {
            throw Bad($"architectures is {architectures.ToJsonString()}; supported: {architecture}");
        }

        var rope = json["rope_parameters"] as JsonObject ?? json["rope_scaling"] as JsonObject;
        foreach (var (name, neutral) in OtherArchitectures)
        {
            if (isPhi3 && (name is "partial_rotary_factor" or "sliding_window" || (name == "auto_map" && IsPhi3(json["auto_map"]))))
            {
                continue;
            }

            foreach (var (place, holder) in new[] { ("", json), ("rope_parameters.", rope) })
            {
                if (holder?[name] is { } value && !neutral(value))
                {
                    throw Bad($"{place}{name} is {value.ToJsonString()}, which changes what the model computes and is not supported");
                }
            }
        }

        var ropeType = (rope?["rope_type"] ?? rope?["type"])?.GetValue<string>() ?? "default";
        if (ropeType is not ("default" or "llama3" or "longrope" or "su"))
        {
            throw Bad($"rope type is '{ropeType}'; supported: default, llama3, longrope");
        }

        var hidden = Positive("hidden_size");
        var heads = Positive("num_attention_heads");
        var headSize = json["head_dim"] is null ? hidden / heads : Positive("head_dim");
        var maxPositions = json["max_position_embeddings"]?.GetValue<int>() ?? 2048;
        var rotarySize = isPhi3 ? (int)(headSize * ((rope?["partial_rotary_factor"] ?? json["partial_rotary_factor"])?.GetValue<double>() ?? 1)) : headSize;
        if (rotarySize <= 0 || rotarySize > headSize || rotarySize % 2 != 0)
        {
            throw Bad($"partial_rotary_factor leaves {rotarySize} of {headSize} elements of a head to turn");
        }

        var config = new DecoderConfig
        {
            ModelType = modelType,
            VocabularySize = Positive("vocab_size"),
            HiddenSize = hidden,
            IntermediateSize = Positive("intermediate_size"),
            NumLayers = Positive("num_hidden_layers"),
            NumHeads = heads,
            NumKeyValueHeads = json["num_key_value_heads"] is null ? heads : Positive("num_key_value_heads"),
            HeadSize = headSize,
            RmsNormEpsilon = json["rms_norm_eps"]?.GetValue<double>() ?? 1e-6,
            RopeTheta = (rope?["rope_theta"] ?? json["rope_theta"])?.GetValue<double>() ?? 10000,
            Llama3Rope = ropeType == "llama3" ? Llama3() : null,
            LongRope = ropeType is "longrope" or "su" ? Long() : null,
            RotarySize = rotarySize == headSize ? null : rotarySize,
            MaxPositions = isPhi3 && json["sliding_window"] is not null ? Math.Min(maxPositions, Positive("sliding_window")) : maxPositions,
            TieWordEmbeddings = json["tie_word_embeddings"]?.GetValue<bool>() ?? false,
            BosTokenId = json["bos_token_id"]?.GetValue<int>(),
            EosTokenIds = json["eos_token_id"] switch
            {
                null => [],
                JsonArray array => [.. array.Select(n => n!.GetValue<int>())],
                var single => [single.GetValue<int>()],
            },
        };
        return config.NumHeads % config.NumKeyValueHeads == 0 && config.HeadSize % 2 == 0
            ? config
            : throw Bad($"{config.NumHeads} heads do not divide into {config.NumKeyValueHeads} key-value heads, or head size {config.HeadSize} is odd");

        string? Text(string name) => json[name]?.GetValue<string>();

        int Positive(string name) => json[name]?.GetValue<int>() is { } value and > 0 ? value : throw Bad($"{name} is missing or not positive");

        Llama3Rope Llama3()
        {
            var scaling = new Llama3Rope(Above("factor"), Above("low_freq_factor"), Above("high_freq_factor"), (int)Above("original_max_position_embeddings"));
            return scaling.HighFrequencyFactor > scaling.LowFrequencyFactor ? scaling : throw Bad($"high_freq_factor {scaling.HighFrequencyFactor} is not above low_freq_factor {scaling.LowFrequencyFactor}");
        }

        LongRope Long()
        {
            var original = (rope!["original_max_position_embeddings"] ?? json["original_max_position_embeddings"])?.GetValue<int>() is { } value and > 1
                ? value
                : throw Bad("original_max_position_embeddings is missing or below 2, which rope type 'longrope' needs");
            var factor = rope["factor"]?.GetValue<double>() ?? (double)maxPositions / original;
            return new LongRope(
                Factors("short_factor"), Factors("long_factor"), original,
                rope["attention_factor"]?.GetValue<double>() ?? (factor <= 1 ? 1 : Math.Sqrt(1 + (Math.Log(factor) / Math.Log(original)))));
        }

        double Above(string name) => rope![name]?.GetValue<double>() is { } value and > 0 ? value : throw Bad($"{name} is missing or not positive, which rope type '{ropeType}' needs");

        double[] Factors(string name)
        {
            double[] factors = [.. rope![name]?.AsArray().Select(n => n!.GetValue<double>()) ?? []];
            return factors.Length == rotarySize / 2 && factors.All(f => f > 0) ? factors : throw Bad($"{name} has {factors.Length} factors, or one that is not positive; {rotarySize / 2} frequencies need one each");
        }

        CheckpointException Bad(string why) => new($"'{path}' cannot be used: {why}.");
    }
}
