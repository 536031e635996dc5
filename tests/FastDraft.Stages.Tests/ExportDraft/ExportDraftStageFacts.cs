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
        await new ExportDraftStage(LoadOnnx).ExecuteAsync(Context(draft), CancellationToken.None);

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
    public async Task An_export_that_differs_from_the_draft_is_a_bug()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var stage = new ExportDraftStage(folder => new Shifted(LoadOnnx(folder)));
        var failure = await Assert.ThrowsAsync<StageFailureException>(
            () => stage.ExecuteAsync(Context(SharedAssets.Path("data", "stories260K")), CancellationToken.None));
        Assert.Equal(FailureKind.Bug, failure.Kind);
    }

    [Fact]
    public async Task A_folder_that_is_no_model_is_a_data_failure()
    {
        var failure = await Assert.ThrowsAsync<StageFailureException>(
            () => new ExportDraftStage(LoadOnnx).ExecuteAsync(Context(Directory.CreateDirectory(Path.Combine(_folder, "empty")).FullName), CancellationToken.None));
        Assert.Equal(FailureKind.Data, failure.Kind);
    }

    private OnnxCausalModel LoadOnnx(string draft)
    {
        var folder = Path.Combine(_folder, "reference");
        OnnxModelWriter.Write(draft, folder);
        return OnnxCausalModel.Load(folder, numThreads: 1);
    }

    private JsonNode Parity(string port) => JsonNode.Parse(File.ReadAllText(Path.Combine(_folder, port, "parity.json")))!;

    private StageContext Context(string draft) => new(
        new JsonObject { ["numParityPrompts"] = 2, ["openVinoLibrary"] = Path.Combine(_folder, "absent.so") },
        new Dictionary<string, string> { ["draft"] = draft },
        new[] { "model", "onnx", "openvino" }.ToDictionary(p => p, p => Path.Combine(_folder, p)),
        _folder,
        _folder,
        "cpu",
        _events);

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
