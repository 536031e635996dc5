using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Modeling.Checkpoints;

namespace FastDraft.Modeling.Models;

/// <summary>Shape of a Llama-family decoder, as its Hugging Face config.json gives it.</summary>
public sealed record DecoderConfig
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

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
    public required int MaxPositions { get; init; }
    public bool TieWordEmbeddings { get; init; }
    public int? BosTokenId { get; init; }
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>Weights, tied ones counted once.</summary>
    public long NumParameters => ((TieWordEmbeddings ? 1L : 2L) * VocabularySize * HiddenSize) + HiddenSize
        + ((long)NumLayers * ((2L * HiddenSize * HeadSize * (NumHeads + NumKeyValueHeads)) + (3L * HiddenSize * IntermediateSize) + (2L * HiddenSize)));

    /// <exception cref="CheckpointException">No config.json, or an architecture this decoder does not compute.</exception>
    public static DecoderConfig Load(string folder)
    {
        var path = Path.Combine(folder, "config.json");
        if (!File.Exists(path))
        {
            throw new CheckpointException($"{path} does not exist", "Check the path of the model folder.");
        }

        try
        {
            var c = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
            var type = (string?)c["model_type"] ?? "";
            var rope = (c["rope_parameters"] ?? c["rope_scaling"]) as JsonObject;
            var ropeType = (string?)(rope?["rope_type"] ?? rope?["type"]) ?? "default";
            var unsupported = type != "llama" ? $"model_type '{type}' (supported: llama)"
                : ropeType != "default" ? $"rope type '{ropeType}' (supported: default)"
                : ((string?)c["hidden_act"] ?? "silu") != "silu" ? $"hidden_act '{c["hidden_act"]}' (supported: silu)"
                : (bool?)c["attention_bias"] == true || (bool?)c["mlp_bias"] == true ? "biases (supported: none)" : null;
            if (unsupported is not null)
            {
                throw new CheckpointException($"{path} has {unsupported}", "Use a Llama model.");
            }

            int Required(string key) => (int?)c[key] is int value and > 0 ? value
                : throw new CheckpointException($"{path} has no positive '{key}'", "Download the configuration again.");
            var hidden = Required("hidden_size");
            var heads = Required("num_attention_heads");
            var config = new DecoderConfig
            {
                ModelType = type,
                VocabularySize = Required("vocab_size"),
                HiddenSize = hidden,
                IntermediateSize = Required("intermediate_size"),
                NumLayers = Required("num_hidden_layers"),
                NumHeads = heads,
                NumKeyValueHeads = (int?)c["num_key_value_heads"] ?? heads,
                HeadSize = (int?)c["head_dim"] ?? (hidden / heads),
                RmsNormEpsilon = (double?)c["rms_norm_eps"] ?? 1e-6,
                RopeTheta = (double?)(c["rope_theta"] ?? rope?["rope_theta"]) ?? 10000,
                MaxPositions = (int?)c["max_position_embeddings"] ?? 2048,
                TieWordEmbeddings = (bool?)c["tie_word_embeddings"] ?? false,
                BosTokenId = (int?)c["bos_token_id"],
                EosTokenIds = c["eos_token_id"] is JsonArray list ? [.. list.Select(e => (int)e!)] : (int?)c["eos_token_id"] is int eos ? [eos] : [],
            };
            return config.NumKeyValueHeads > 0 && heads % config.NumKeyValueHeads == 0 && config.HeadSize % 2 == 0 ? config
                : throw new CheckpointException($"{path} has heads that do not divide into key-value groups, or an odd head size", "Download the configuration again.");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
        {
            throw new CheckpointException($"{path} is malformed: {e.Message}", "Download the configuration again.");
        }
    }

    /// <summary>Writes config.json and generation_config.json of a LlamaForCausalLM.</summary>
    public void Save(string folder)
    {
        Directory.CreateDirectory(folder);
        JsonNode? eos = EosTokenIds.Count switch
        {
            0 => null,
            1 => EosTokenIds[0],
            _ => new JsonArray([.. EosTokenIds.Select(e => (JsonNode)e)]),
        };
        var config = new JsonObject
        {
            ["architectures"] = new JsonArray("LlamaForCausalLM"),
            ["model_type"] = ModelType,
            ["vocab_size"] = VocabularySize,
            ["hidden_size"] = HiddenSize,
            ["intermediate_size"] = IntermediateSize,
            ["num_hidden_layers"] = NumLayers,
            ["num_attention_heads"] = NumHeads,
            ["num_key_value_heads"] = NumKeyValueHeads,
            ["head_dim"] = HeadSize,
            ["hidden_act"] = "silu",
            ["rms_norm_eps"] = RmsNormEpsilon,
            ["rope_theta"] = RopeTheta,
            ["max_position_embeddings"] = MaxPositions,
            ["tie_word_embeddings"] = TieWordEmbeddings,
            ["attention_bias"] = false,
            ["mlp_bias"] = false,
            ["bos_token_id"] = BosTokenId,
            ["eos_token_id"] = eos,
        };
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString(Indented));
        var generation = new JsonObject { ["bos_token_id"] = BosTokenId, ["eos_token_id"] = eos?.DeepClone() };
        File.WriteAllText(Path.Combine(folder, "generation_config.json"), generation.ToJsonString(Indented));
    }
}
