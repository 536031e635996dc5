using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Export;

namespace FastDraft.Stages.ExportDraft;

/// <summary>
/// README.md of an exported folder: what it is, how it was trained, how to use it and what it is not good for. It is a function of the
/// draft alone, as the other files are, so that an export of the same draft has the same digest. What depends on runs (evaluation, data,
/// who and when) is added when somebody asks: <c>fastdraft artifacts card</c>.
/// </summary>
internal static class ExportCard
{
    public const string FileName = "README.md";

    private const string ParityFile = "parity.json";

    private const string HuggingFaceLines = """
        With vLLM:

        ```sh
        vllm serve TARGET --speculative-config '{"model": "THIS_FOLDER", "num_speculative_tokens": 4}'
        ```

        With Transformers:

        ```python
        from transformers import AutoModelForCausalLM
        draft = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")
        target.generate(**inputs, assistant_model=draft, num_assistant_tokens=4)
        ```

        As a folder for OpenVINO GenAI, llama.cpp or ONNX Runtime: `fastdraft export THIS_FOLDER --format openvino|gguf|onnx --out DIR`.

        """;

    private static readonly string OfTheSource = "The Hugging Face folder that this was made from, `MODEL` below, is for the others:\n\n" + HuggingFaceLines.Replace("THIS_FOLDER", "MODEL", StringComparison.Ordinal);

    /// <param name="folder">The written export.</param>
    /// <param name="format"><c>model</c>, or the name of an <see cref="ExportFormat"/>.</param>
    /// <param name="precision">What its weights are stored in; null where they are the draft's own.</param>
    /// <param name="draft">The draft's folder: config.json and, where this pipeline trained it, meta.json.</param>
    public static void Write(string folder, string format, string? precision, string draft, long numParameters)
    {
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(draft, "config.json")))!.AsObject();
        var text = new StringBuilder();
        text.Append("---\npipeline_tag: text-generation\nlibrary_name: ").Append(format switch { "onnx" => "onnxruntime", "openvino" => "openvino", "gguf" => "gguf", _ => "transformers" })
            .Append("\ntags:\n- speculative-decoding\n- draft-model\n- fastdraft\n---\n\n# Draft model for speculative decoding\n\n");
        text.Append(CultureInfo.InvariantCulture, $"A small model that proposes tokens to one target model, which checks them: the answers are the target's own, sooner. ");
        text.Append("Without its target it is of little use.\n\n## What it is\n\n| | |\n|---|---|\n");
        Row(text, "parameters", numParameters.ToString("N0", CultureInfo.InvariantCulture));
        foreach (var name in new[] { "model_type", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size", "max_position_embeddings" })
        {
            Row(text, name, config[name]?.ToJsonString().Trim('"'));
        }

        Row(text, "weights", precision);
        foreach (var file in Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal))
        {
            Row(text, Path.GetFileName(file), new FileInfo(file).Length.ToString("N0", CultureInfo.InvariantCulture) + " bytes");
        }

        Recipe(text, draft);
        Parity(text, folder);
        text.Append("\n## How to use it\n\n").Append(Use(format));
        text.Append("""

            ## Limits

            It fits the tokenizer and the vocabulary of its target and of no other model. Text unlike its training data is accepted less often, which costs
            speed and never changes an answer where the verifier is lossless. It was not made to be read by people.

            """);
        File.WriteAllText(Path.Combine(folder, FileName), text.Replace("\r\n", "\n").ToString());
    }

    private static void Recipe(StringBuilder text, string draft)
    {
        var file = Path.Combine(draft, "meta.json");
        if (!File.Exists(file))
        {
            return;
        }

        // The last training first, as meta.json keeps it; what was before it is inside.
        text.Append("\n## How it was trained\n");
        for (var meta = JsonNode.Parse(File.ReadAllText(file)) as JsonObject; meta is not null; meta = meta["before"] as JsonObject)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n### {Text(meta["recipe"]) ?? "training"}\n\n| setting | value |\n|---|---|\n");
            foreach (var (name, value) in meta.Where(m => m.Value is JsonValue && m.Key is not "recipe"))
            {
                Row(text, name, Text(value));
            }

            foreach (var (name, value) in (meta["settings"] as JsonObject ?? []).OrderBy(s => s.Key, StringComparer.Ordinal))
            {
                Row(text, name, Text(value));
            }
        }
    }

    private static void Parity(StringBuilder text, string folder)
    {
        var file = Path.Combine(folder, ParityFile);
        if (!File.Exists(file) || JsonNode.Parse(File.ReadAllText(file)) is not JsonObject parity)
        {
            return;
        }

        text.Append("\n## Compared with the draft in float32\n\n");
        if (parity["ran"]?.GetValue<bool>() != true)
        {
            text.Append("Not compared: ").Append(Text(parity["reason"]) ?? "the engine was not there").Append('\n');
            return;
        }

        text.Append("| | |\n|---|---|\n");
        foreach (var (name, value) in parity)
        {
            Row(text, name, Text(value));
        }
    }

    private static string Use(string format) => format switch
    {
        "onnx" => """
            `model.onnx` takes `input_ids`, `attention_mask`, `position_ids` and the key-value cache and gives logits and the new cache; its inputs and
            outputs name their shapes, and `genai_config.json` names them for ONNX Runtime GenAI:

            ```python
            import onnxruntime_genai as og
            model = og.Model("THIS_FOLDER")
            ```

            """ + OfTheSource,
        "openvino" => """
            With OpenVINO GenAI:

            ```python
            import openvino_genai as genai
            pipeline = genai.LLMPipeline("TARGET", "CPU", draft_model=genai.draft_model("THIS_FOLDER", "CPU"))
            pipeline.generate("...", max_new_tokens=128, num_assistant_tokens=4)
            ```

            `TARGET` is an OpenVINO folder of the target. The CPU plugin computes in bfloat16 and keeps a compressed cache where the processor can;
            `INFERENCE_PRECISION_HINT="f32", KV_CACHE_PRECISION="f32"` beside `"CPU"` give the figures of float32.

            """ + OfTheSource,
        "gguf" => """
            With llama.cpp:

            ```sh
            llama-server --model TARGET.gguf --model-draft THIS_FOLDER/model.gguf --draft-max 4
            ```

            """ + OfTheSource,
        _ => HuggingFaceLines,
    };

    private static void Row(StringBuilder text, string name, string? value)
    {
        if (value is not null)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {name} | {value.Replace("|", "\\|", StringComparison.Ordinal).ReplaceLineEndings(" ")} |\n");
        }
    }

    private static string? Text(JsonNode? value) => value is null ? null : value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : value.ToJsonString();
}
