using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Modeling.Models;

namespace FastDraft.Export.Onnx;

/// <summary>genai_config.json: what ONNX Runtime GenAI has to know of a model.onnx to decode with it.</summary>
internal static class GenAiConfig
{
    public const string FileName = "genai_config.json";

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static void Write(DecoderConfig config, string folder)
    {
        var root = new JsonObject
        {
            ["model"] = new JsonObject
            {
                ["type"] = "llama",
                ["vocab_size"] = config.VocabularySize,
                ["context_length"] = config.MaxPositions,
                ["bos_token_id"] = config.BosTokenId ?? 0,
                ["eos_token_id"] = new JsonArray([.. config.EosTokenIds.Select(id => (JsonNode)id)]),

                // Rows of a batch are filled up with it under a mask of 0, so any id serves.
                ["pad_token_id"] = config.EosTokenIds.Count > 0 ? config.EosTokenIds[0] : 0,
                ["decoder"] = new JsonObject
                {
                    ["filename"] = OnnxModelWriter.ModelName,
                    ["session_options"] = new JsonObject { ["provider_options"] = new JsonArray() },
                    ["hidden_size"] = config.HiddenSize,
                    ["head_size"] = config.HeadSize,
                    ["num_attention_heads"] = config.NumHeads,
                    ["num_key_value_heads"] = config.NumKeyValueHeads,
                    ["num_hidden_layers"] = config.NumLayers,
                    ["inputs"] = new JsonObject
                    {
                        ["input_ids"] = "input_ids",
                        ["attention_mask"] = "attention_mask",
                        ["position_ids"] = "position_ids",
                        ["past_key_names"] = "past_key_values.%d.key",
                        ["past_value_names"] = "past_key_values.%d.value",
                    },
                    ["outputs"] = new JsonObject
                    {
                        ["logits"] = "logits",
                        ["present_key_names"] = "present.%d.key",
                        ["present_value_names"] = "present.%d.value",
                    },
                },
            },
            ["search"] = new JsonObject
            {
                ["do_sample"] = false,
                ["max_length"] = config.MaxPositions,

                // The cache grows by concatenation: its inputs and outputs are not one buffer.
                ["past_present_share_buffer"] = false,
            },
        };
        File.WriteAllText(Path.Combine(folder, FileName), root.ToJsonString(Indented) + "\n");
    }
}
