using System.Text.Json.Nodes;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.TestKit;

namespace FastDraft.Export.Tests.Peers;

/// <summary>The engines that exported folders are for, as their users install them: OpenVINO GenAI and llama.cpp.</summary>
public sealed class PeerFacts : IDisposable
{
    private const string OpenVino = "openvino", LlamaCpp = "llamacpp";

    private readonly string _folder = Directory.CreateTempSubdirectory("fastdraft-peers").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task OpenVINO_GenAI_decodes_every_golden_prompt_alone_and_with_a_draft(bool withDraft)
    {
        Need(OpenVino);
        ModelExport.Write(Exported.Stories260K, _folder, ExportFormat.OpenVino, WeightPrecision.F32);
        var draft = Path.Combine(_folder, "draft");
        ModelExport.Write(Exported.Stories260K, draft, ExportFormat.OpenVino, WeightPrecision.Int8);
        var rows = await RunAsync(OpenVino, "openvino_peer.py", ["greedy", _folder, Exported.Asset("data", "golden", "stories260K_prompts_greedy.jsonl"), .. withDraft ? new[] { draft } : []]);
        AssertGolden(rows);

        // A draft that is the target in 8 bits says mostly what the target would.
        Assert.All(rows, row => Assert.True(withDraft ? row["accepted"]!.GetValue<int>() > 64 : row["accepted"] is null));
    }

    [Theory]
    [InlineData("f32")]
    [InlineData("f16")]
    [InlineData("bf16")]
    [InlineData("q8_0")]
    public async Task LlamaCpp_decodes_every_golden_prompt_in_whole_floats_and_most_in_less(string name)
    {
        Need(LlamaCpp);
        var precision = ModelExport.Precision(ExportFormat.Gguf, name);
        ModelExport.Write(Exported.Stories260K, _folder, ExportFormat.Gguf, precision);
        var rows = await RunAsync(LlamaCpp, "llama_peer.py", "greedy", Path.Combine(_folder, "model.gguf"), Exported.Asset("data", "golden", "stories260K_prompts_greedy.jsonl"));
        if (precision == WeightPrecision.F32)
        {
            AssertGolden(rows);
            return;
        }

        // Where two paths part they stay apart, so it is the first ids that say whether the weights are right.
        var goldens = Exported.GreedyGoldens("data", "golden", "stories260K_prompts_greedy.jsonl");
        var same = goldens.Zip(rows).Count(p => p.First.Greedy.Take(8).SequenceEqual(Ids(p.Second).Take(8)));
        Assert.InRange(same, 16, 20);
    }

    [Theory]
    [InlineData("gpt2", 340, 340, 337)]
    [InlineData("llama-3.1", 340, 340, 337)]
    [InlineData("qwen2.5", 340, 340, 340)]
    [InlineData("phi-3-mini", 338, 338, 340)]
    [InlineData("stories260K", 338, 338, 340)]
    public async Task Our_tokenizer_IR_is_as_good_as_that_of_OpenVINOs_own_converter(string name, int ids, int idsWithSpecials, int decoded)
    {
        Need(OpenVino);
        ModelExport.Write(ModelWith(name), _folder, ExportFormat.OpenVino, WeightPrecision.Int8);
        var counts = (await RunAsync(OpenVino, "openvino_peer.py", "tokenize", _folder, Exported.Asset("data", "golden", "tokenizers", name + ".jsonl")))[0];
        TestContext.Current.TestOutputHelper!.WriteLine(counts.ToJsonString());
        Assert.Equal(340, counts["total"]!.GetValue<int>());
        Assert.InRange(counts["ids"]!.GetValue<int>(), ids, 340);
        Assert.InRange(counts["idsWithSpecials"]!.GetValue<int>(), idsWithSpecials, 340);
        Assert.InRange(counts["decoded"]!.GetValue<int>(), decoded, 340);
    }

    // llama.cpp knows tokens that swallow the space after them by the model's name alone (Phi-3 has some), does not compose characters
    // (NFC, Qwen) and takes the text </s> for a special token wherever a vocabulary has it.
    [Theory]
    [InlineData("stories260K", 340)]
    [InlineData("phi-3-mini", 338)]
    [InlineData("gpt2", 340)]
    [InlineData("llama-3.1", 340)]
    [InlineData("qwen2.5", 331)]
    public async Task LlamaCpp_reads_our_tokenizer(string name, int ids)
    {
        Need(LlamaCpp);
        ModelExport.Write(ModelWith(name), _folder, ExportFormat.Gguf, WeightPrecision.F16);
        var counts = (await RunAsync(LlamaCpp, "llama_peer.py", "tokenize", Path.Combine(_folder, "model.gguf"), Exported.Asset("data", "golden", "tokenizers", name + ".jsonl")))[0];
        TestContext.Current.TestOutputHelper!.WriteLine(counts.ToJsonString());
        Assert.Equal(340, counts["total"]!.GetValue<int>());
        Assert.InRange(counts["ids"]!.GetValue<int>(), ids, 340);
    }

    private static void Need(string peer)
    {
        var missing = WheelEnvironment.Missing(peer);
        Assert.SkipWhen(missing is not null, missing ?? "");
    }

    private static async Task<List<JsonNode>> RunAsync(string peer, string script, params string[] arguments) =>
        [.. (await WheelEnvironment.RunAsync(peer, Path.Combine(AppContext.BaseDirectory, "Peers", script), arguments)).Select(line => JsonNode.Parse(line)!)];

    private static void AssertGolden(List<JsonNode> rows)
    {
        var goldens = Exported.GreedyGoldens("data", "golden", "stories260K_prompts_greedy.jsonl");
        Assert.Equal(20, goldens.Count);
        Assert.Equal(20, rows.Count);
        foreach (var ((_, greedy), row) in goldens.Zip(rows))
        {
            Assert.Equal(greedy, Ids(row));
        }
    }

    private static int[] Ids(JsonNode row) => [.. row["ids"]!.AsArray().Select(id => id!.GetValue<int>())];

    /// <summary>The smallest model that has this tokenizer.</summary>
    private string ModelWith(string tokenizer)
    {
        if (tokenizer == "stories260K")
        {
            return Exported.Stories260K;
        }

        var source = Exported.Asset("data", "tokenizers", tokenizer);
        var folder = Directory.CreateDirectory(Path.Combine(_folder, "model")).FullName;
        foreach (var file in Directory.EnumerateFiles(source))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }

        var config = new DecoderConfig
        {
            VocabularySize = Modeling.Tokenization.HuggingFaceTokenizer.Load(source).VocabularySize,
            HiddenSize = 32,
            IntermediateSize = 32,
            NumLayers = 1,
            NumHeads = 1,
            NumKeyValueHeads = 1,
            HeadSize = 32,
        };
        config.Save(folder);
        SafetensorsWriter.Write(
            Path.Combine(folder, "model.safetensors"),
            [.. config.Tensors().Select(t => new SafetensorsTensor(t.Name, "F32", t.Shape, new byte[4 * t.Shape.Aggregate(1L, (a, b) => a * b)]))]);
        return folder;
    }
}
