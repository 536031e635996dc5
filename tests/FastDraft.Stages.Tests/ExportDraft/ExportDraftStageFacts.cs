using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Export.Onnx;
using FastDraft.Modeling.Models;
using FastDraft.Stages.ExportDraft;
using FastDraft.TestKit;

namespace FastDraft.Stages.Tests.ExportDraft;

public sealed class ExportDraftStageFacts : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fastdraft-export-stage").FullName;
    private readonly Recorder _events = new();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Every_format_is_written_and_the_one_that_cannot_run_says_so()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var draft = SharedAssets.Path("data", "stories260K");
        await new ExportDraftStage(LoadOnnx, TimeProvider.System).ExecuteAsync(Context(draft), CancellationToken.None);

        Assert.Equal(
            File.ReadAllBytes(Path.Combine(draft, "model.safetensors")), File.ReadAllBytes(Path.Combine(_folder, "model", "model.safetensors")));
        Assert.True(File.Exists(Path.Combine(_folder, "openvino", "openvino_model.xml")));
        var onnx = Parity("onnx");
        Assert.True(onnx["ran"]!.GetValue<bool>());
        Assert.True(onnx["greedyIdsEqual"]!.GetValue<bool>());
        Assert.Equal(2, onnx["numPrompts"]!.GetValue<int>());
        Assert.InRange(_events.Metrics["export_onnx_max_abs_logit_difference"], 0, 1e-3);
        var openVino = Parity("openvino");
        Assert.False(openVino["ran"]!.GetValue<bool>());
        Assert.Contains("openVinoLibrary", openVino["reason"]!.GetValue<string>(), StringComparison.Ordinal);
        Assert.Contains(_events.Warnings, w => w.Contains("not compared", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Formats_and_precisions_are_the_ones_asked_for_each_measured_as_a_draft_where_it_runs()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var draft = SharedAssets.Path("data", "stories260K");
        var prompts = Path.Combine(_folder, "prompts.jsonl");
        File.WriteAllLines(prompts, ["{\"text\":\"Once upon a time\"}", "{\"text\":\"Lily saw a big dog\"}"]);
        var context = Context(draft, new JsonObject
        {
            ["formats"] = new JsonArray("onnx", "gguf"),
            ["precisions"] = new JsonArray("f32", "int8", "q8_0"),
            ["target"] = draft,
            ["prompts"] = new JsonArray(prompts),
            ["maxNewTokens"] = 40,
        });
        await new ExportDraftStage(LoadOnnx, TimeProvider.System).ExecuteAsync(context, CancellationToken.None);

        Assert.False(Directory.Exists(Path.Combine(_folder, "openvino")));
        Assert.True(File.Exists(Path.Combine(_folder, "gguf", "q8_0", "model.gguf")));
        Assert.Contains("llama.cpp", Parity("gguf/q8_0")["reason"]!.GetValue<string>(), StringComparison.Ordinal);

        // The target is the draft itself: in float32 everything is accepted.
        var whole = Parity("onnx/f32");
        Assert.Equal(1, whole["acceptanceRate"]!.GetValue<double>());
        var less = Parity("onnx/int8");
        Assert.InRange(less["acceptanceRate"]!.GetValue<double>(), 0.9, 1);
        Assert.InRange(less["blockEfficiency"]!.GetValue<double>(), 4, 5);
        Assert.InRange(less["draftSeconds"]!.GetValue<double>(), 1e-7, 1);
        Assert.Equal(less["acceptanceRate"]!.GetValue<double>(), _events.Metrics["export_onnx_int8_acceptance_rate"]);

        var card = File.ReadAllText(Path.Combine(_folder, "onnx", "int8", "README.md"));
        Assert.Contains("As the draft of its target", card, StringComparison.Ordinal);
        Assert.Contains("t_draft", card, StringComparison.Ordinal);
        Assert.Contains("assistant_model", card, StringComparison.Ordinal);
        Assert.Contains("vllm serve", card, StringComparison.Ordinal);
        Assert.Contains("--model-draft", File.ReadAllText(Path.Combine(_folder, "gguf", "q8_0", "README.md")), StringComparison.Ordinal);
        Assert.Contains("| [int8](int8/README.md)", File.ReadAllText(Path.Combine(_folder, "onnx", "README.md")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{ "formats": ["tflite"] }""", "tflite")]
    [InlineData("""{ "precisions": ["int3"] }""", "f32")]
    [InlineData("""{ "formats": ["onnx"], "precisions": ["f32", "q8_0"] }""", "q8_0")]
    [InlineData("""{ "formats": ["onnx"], "precisions": ["f16"] }""", "f32, int8, int4")]
    [InlineData("""{ "prompts": ["absent.jsonl"] }""", "target")]
    [InlineData("""{ "target": "absent" }""", "prompts")]
    public async Task What_no_format_has_is_a_config_failure_before_anything_is_written(string settings, string named)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => new ExportDraftStage(LoadOnnx, TimeProvider.System).ExecuteAsync(
            Context(SharedAssets.Path("data", "stories260K"), JsonNode.Parse(settings)!.AsObject()), CancellationToken.None));
        Assert.Equal(FailureKind.Config, failure.Kind);
        Assert.Contains(named, failure.Message + failure.Hint, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(_folder, "onnx")));
    }

    [Fact]
    public async Task A_draft_of_another_vocabulary_than_the_target_is_a_data_failure()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var prompts = Path.Combine(_folder, "prompts.jsonl");
        File.WriteAllText(prompts, "{\"text\":\"Once upon a time\"}");
        var settings = new JsonObject { ["target"] = SharedAssets.Path("models", "target-28m"), ["prompts"] = new JsonArray(prompts) };
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => new ExportDraftStage(LoadOnnx, TimeProvider.System).ExecuteAsync(
            Context(SharedAssets.Path("data", "stories260K"), settings), CancellationToken.None));
        Assert.Equal(FailureKind.Data, failure.Kind);
        Assert.Contains("512", failure.Message, StringComparison.Ordinal);
        Assert.Contains("8192", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_export_that_differs_from_the_draft_is_a_bug()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var stage = new ExportDraftStage(folder => new Shifted(LoadOnnx(folder)), TimeProvider.System);
        var failure = await Assert.ThrowsAsync<StageFailureException>(
            () => stage.ExecuteAsync(Context(SharedAssets.Path("data", "stories260K")), CancellationToken.None));
        Assert.Equal(FailureKind.Bug, failure.Kind);
    }

    [Fact]
    public async Task A_folder_that_is_no_model_is_a_data_failure()
    {
        var failure = await Assert.ThrowsAsync<StageFailureException>(
            () => new ExportDraftStage(LoadOnnx, TimeProvider.System).ExecuteAsync(Context(Directory.CreateDirectory(Path.Combine(_folder, "empty")).FullName), CancellationToken.None));
        Assert.Equal(FailureKind.Data, failure.Kind);
    }

    private OnnxCausalModel LoadOnnx(string draft)
    {
        var folder = Path.Combine(_folder, "reference");
        OnnxModelWriter.Write(draft, folder);
        return OnnxCausalModel.Load(folder, numThreads: 1);
    }

    private JsonNode Parity(string port) => JsonNode.Parse(File.ReadAllText(Path.Combine(_folder, port, "parity.json")))!;

    private StageContext Context(string draft, JsonObject? more = null)
    {
        var settings = new JsonObject { ["numParityPrompts"] = 2, ["openVinoLibrary"] = Path.Combine(_folder, "absent.so") };
        foreach (var (name, value) in more ?? [])
        {
            settings[name] = value?.DeepClone();
        }

        return new(
            settings,
            new Dictionary<string, string> { ["draft"] = draft },
            new[] { "model", "onnx", "openvino", "gguf" }.ToDictionary(p => p, p => Path.Combine(_folder, p)),
            _folder,
            _folder,
            "cpu",
            _events);
    }

    private sealed class Recorder : IStageEvents
    {
        public Dictionary<string, double> Metrics { get; } = [];

        public List<string> Warnings { get; } = [];

        public void Progress(long done, long? total, string unit)
        {
        }

        public void Metric(string name, double value, long step) => Metrics[name] = value;

        public void Log(string message, StageLogLevel level = StageLogLevel.Information)
        {
            if (level == StageLogLevel.Warning)
            {
                Warnings.Add(message);
            }
        }
    }

    /// <summary>A model whose first logit is off by 0.01.</summary>
    private sealed class Shifted(ICausalModel inner) : ICausalModel
    {
        public int VocabularySize => inner.VocabularySize;

        public int ContextLength => inner.ContextLength;

        public long NumParameters => inner.NumParameters;

        public ICausalSession StartSession(int batch = 1, int? capacity = null) => new Session(inner.StartSession(batch, capacity));

        public void Dispose() => inner.Dispose();

        private sealed class Session(ICausalSession inner) : ICausalSession
        {
            public int Length => inner.Length;

            public int Capacity => inner.Capacity;

            public void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
            {
                inner.Forward(tokens, logits, numLogitRows);
                logits[0] += 0.01f;
            }

            public void Rollback(int length) => inner.Rollback(length);

            public void Dispose() => inner.Dispose();
        }
    }
}
