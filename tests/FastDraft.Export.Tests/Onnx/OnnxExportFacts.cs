using System.Text.Json.Nodes;
using FastDraft.Export.Onnx;
using Microsoft.ML.OnnxRuntimeGenAI;

namespace FastDraft.Export.Tests.Onnx;

public sealed class OnnxExportFacts : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fastdraft-onnx").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("f32")]
    [InlineData("int8")]
    [InlineData("int4")]
    public void Weights_beside_the_graph_are_the_ones_inside_it(string name)
    {
        var precision = ModelExport.Precision(ExportFormat.Onnx, name);
        var (inside, beside) = (Path.Combine(_folder, "inside"), Path.Combine(_folder, "beside"));
        OnnxModelWriter.Write(Exported.Stories260K, inside, precision);
        OnnxModelWriter.Write(Exported.Stories260K, beside, precision, externalBytes: 0);
        Assert.False(File.Exists(Path.Combine(inside, OnnxModelWriter.DataName)));

        // The norms' vectors and constants stay in the graph, each below a kilobyte.
        Assert.InRange(new FileInfo(Path.Combine(beside, OnnxModelWriter.ModelName)).Length, 1, 100_000);
        using var first = OnnxCausalModel.Load(inside, numThreads: 1);
        using var second = OnnxCausalModel.Load(beside, numThreads: 1);
        Assert.Equal(Logits(first), Logits(second));
    }

    [Fact]
    public void OnnxRuntime_GenAI_decodes_every_golden_prompt_from_our_folder()
    {
        OnnxModelWriter.Write(Exported.Stories260K, _folder);
        using var model = new Model(_folder);
        var goldens = Exported.GreedyGoldens("data", "golden", "stories260K_prompts_greedy.jsonl");
        Assert.Equal(20, goldens.Count);
        foreach (var (prompt, greedy) in goldens)
        {
            Assert.Equal(greedy, GenAi(model, prompt, greedy.Length));
        }
    }

    [Theory]
    [InlineData("int8")]
    [InlineData("int4")]
    public void OnnxRuntime_GenAI_decodes_quantized_folders_as_our_runner_does(string precision)
    {
        OnnxModelWriter.Write(Exported.Stories260K, _folder, ModelExport.Precision(ExportFormat.Onnx, precision));
        var prompt = Exported.GreedyGoldens("data", "golden", "stories260K_prompts_greedy.jsonl")[3].Prompt;
        using var own = OnnxCausalModel.Load(_folder, numThreads: 1);
        using var model = new Model(_folder);
        Assert.Equal(Exported.Greedy(own, prompt, 64), GenAi(model, prompt, 64));
    }

    [Fact]
    public void The_config_of_GenAI_says_what_the_model_is()
    {
        OnnxModelWriter.Write(Exported.Stories260K, _folder);
        var model = JsonNode.Parse(File.ReadAllText(Path.Combine(_folder, "genai_config.json")))!["model"]!;
        Assert.Equal(512, model["vocab_size"]!.GetValue<int>());
        Assert.Equal(1, model["bos_token_id"]!.GetValue<int>());
        Assert.Equal(5, model["decoder"]!["num_hidden_layers"]!.GetValue<int>());
        Assert.Equal(4, model["decoder"]!["num_key_value_heads"]!.GetValue<int>());
    }

    // The end of a sequence does not end it: the goldens go on.
    private static int[] GenAi(Model model, int[] prompt, int count)
    {
        using var parameters = new GeneratorParams(model);
        parameters.SetSearchOption("max_length", prompt.Length + count);
        parameters.SetSearchOption("min_length", prompt.Length + count);
        parameters.SetSearchOption("do_sample", false);
        using var generator = new Generator(model, parameters);
        generator.AppendTokens(prompt);
        while (!generator.IsDone())
        {
            generator.GenerateNextToken();
        }

        return [.. generator.GetSequence(0)[prompt.Length..]];
    }

    private static float[] Logits(OnnxCausalModel model)
    {
        int[] ids = [1, 403, 407, 261, 378];
        var logits = new float[ids.Length * model.VocabularySize];
        using var session = model.StartSession();
        session.Forward(ids, logits, ids.Length);
        return logits;
    }
}
