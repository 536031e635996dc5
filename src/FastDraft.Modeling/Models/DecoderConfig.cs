using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Modeling.Checkpoints;

namespace FastDraft.Modeling.Models;

/// <summary>The shape of a Llama-family decoder, as Hugging Face's config.json describes it.</summary>
public sealed record DecoderConfig
{
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
    public void Save(string folder)
    {
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
        var generation = new JsonObject { ["bos_token_id"] = BosTokenId, ["eos_token_id"] = eos?.DeepClone() };
        var options = new JsonSerializerOptions { WriteIndented = true };
        File.WriteAllText(Path.Join(folder, "config.json"), config.ToJsonString(options) + "\n");
        File.WriteAllText(Path.Join(folder, "generation_config.json"), generation.ToJsonString(options) + "\n");
    }

    private static DecoderConfig Parse(string path, JsonObject json)
    {
        var modelType = Text("model_type") ?? throw Bad("it has no model_type");
        if (modelType != "llama")
        {
            throw Bad($"model_type is '{modelType}'; supported: llama");
        }

        if (Flag("attention_bias") || Flag("mlp_bias"))
        {
            throw Bad("attention_bias and mlp_bias are not supported");
        }

        if (Text("hidden_act") is { } activation && activation != "silu")
        {
            throw Bad($"hidden_act is '{activation}'; supported: silu");
        }

        var rope = json["rope_parameters"] as JsonObject ?? json["rope_scaling"] as JsonObject;
        var ropeType = (rope?["rope_type"] ?? rope?["type"])?.GetValue<string>() ?? "default";
        if (ropeType != "default")
        {
            throw Bad($"rope type is '{ropeType}'; supported: default");
        }

        var hidden = Positive("hidden_size");
        var heads = Positive("num_attention_heads");
        var config = new DecoderConfig
        {
            ModelType = modelType,
            VocabularySize = Positive("vocab_size"),
            HiddenSize = hidden,
            IntermediateSize = Positive("intermediate_size"),
            NumLayers = Positive("num_hidden_layers"),
            NumHeads = heads,
            NumKeyValueHeads = json["num_key_value_heads"] is null ? heads : Positive("num_key_value_heads"),
            HeadSize = json["head_dim"] is null ? hidden / heads : Positive("head_dim"),
            RmsNormEpsilon = json["rms_norm_eps"]?.GetValue<double>() ?? 1e-6,
            RopeTheta = (rope?["rope_theta"] ?? json["rope_theta"])?.GetValue<double>() ?? 10000,
            MaxPositions = json["max_position_embeddings"]?.GetValue<int>() ?? 2048,
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

        bool Flag(string name) => json[name]?.GetValue<bool>() ?? false;

        int Positive(string name) => json[name]?.GetValue<int>() is { } value and > 0 ? value : throw Bad($"{name} is missing or not positive");

        CheckpointException Bad(string why) => new($"'{path}' cannot be used: {why}.");
    }
}
