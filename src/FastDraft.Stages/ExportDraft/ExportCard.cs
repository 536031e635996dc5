using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Export;

namespace FastDraft.Stages.ExportDraft;

/// <summary>
/// README.md of an exported folder: what it is, how it was trained, how to use it and what it is not good for. It is a function of the
/// draft alone, as the other files are, so that an export of the same draft has the same digest; only figures of a target that was given
/// hold times. What depends on runs (evaluation, data, who and when) is added when somebody asks: <c>fastdraft artifacts card</c>.
/// </summary>
internal static class ExportCard
{
    public const string FileName = "README.md";

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
        var file = Path.Combine(folder, ExportComparison.FileName);
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
        foreach (var (name, value) in parity.Where(p => !IsDeployed(p.Key)))
        {
            Row(text, name, Text(value));
        }

        if (parity["draftSeconds"] is not null)
        {
            text.Append("\n## As the draft of its target\n\nMeasured with this folder in this engine, greedily.\n\n| | |\n|---|---|\n");
            Row(text, "acceptance rate", Number(parity["acceptanceRate"], "P1"));
            Row(text, "block efficiency", Number(parity["blockEfficiency"], "F2") is { } efficiency ? efficiency + " tokens a call of the target" : null);
            Row(text, "time of a call (t_draft)", Milliseconds(parity["draftSeconds"]));
            Row(text, "draft length", Text(parity["draftLength"]));
            Row(text, "prompts", Text(parity["numAcceptancePrompts"]));
        }
    }

    /// <summary>README.md over folders of several precisions: what each is worth and takes.</summary>
    public static void WriteIndex(string folder, string format, IReadOnlyList<string> precisions)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# Draft model for speculative decoding: {format}\n\nEach folder is whole and says how to use it.\n\n");
        text.Append("| folder | bytes | identical greedy ids | acceptance rate | block efficiency | time of a call (t_draft) |\n|---|---|---|---|---|---|\n");
        foreach (var precision in precisions)
        {
            var part = Path.Join(folder, precision);
            var parity = JsonNode.Parse(File.ReadAllText(Path.Join(part, ExportComparison.FileName)))!;
            var bytes = Directory.EnumerateFiles(part).Sum(f => new FileInfo(f).Length).ToString("N0", CultureInfo.InvariantCulture);
            text.Append(CultureInfo.InvariantCulture, $"| [{precision}]({precision}/{FileName}) | {bytes} | {Number(parity["greedyAgreement"], "P1") ?? "-"} | {Number(parity["acceptanceRate"], "P1") ?? "-"} | {Number(parity["blockEfficiency"], "F2") ?? "-"} | {Milliseconds(parity["draftSeconds"]) ?? "-"} |\n");
        }

        File.WriteAllText(Path.Join(folder, FileName), text.ToString());
    }

    private static bool IsDeployed(string name) => name is "acceptanceRate" or "blockEfficiency" or "draftSeconds" or "draftLength" or "numAcceptancePrompts";

    private static string? Number(JsonNode? value, string format) => value?.GetValue<double>().ToString(format, CultureInfo.InvariantCulture);

    private static string? Milliseconds(JsonNode? seconds) => seconds is null ? null : string.Create(CultureInfo.InvariantCulture, $"{1e3 * seconds.GetValue<double>():F3} ms");

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
