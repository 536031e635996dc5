using System.IO.Compression;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Stages.EvaluateDraft;
using FastDraft.TestKit;

namespace FastDraft.Stages.Tests.EvaluateDraft;

public sealed class EvaluateDraftStageFacts : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-evaluate-stage").FullName;
    private readonly Recorder events = new();

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public async Task A_target_that_drafts_for_itself_is_always_right()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var model = SharedAssets.Path("data", "stories260K");
        WriteSplit("train", []);
        WriteSplit("validation",
        [
            ("Once upon a time, there was a little girl named Lily. She loved to play outside in the park.", "girls.txt"),
            ("One day, a small dog ran to the big red house and saw a cat. The cat was very happy.", "animals.txt"),
            ("Short.", "animals.txt"),
        ]);
        await new EvaluateDraftStage().ExecuteAsync(Context(model), TestContext.Current.CancellationToken);

        var report = EvaluationReport.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "evaluation", "report.json"), TestContext.Current.CancellationToken));
        Assert.Equal(0, report.Summary.Temperature);
        Assert.Equal(1.0, report.Summary.AcceptanceRate);
        Assert.Equal((2, 2), (report.Summary.IdenticalPrompts, report.Summary.NumPrompts));
        Assert.Equal(1.0, report.CostRatio);
        Assert.Equal(["animals.txt", "girls.txt"], report.Prompts.Suites.Select(s => s.Name));
        Assert.Equal(1.0, events.Metrics["eval_acceptance_rate"]);
        Assert.Equal(5, events.Metrics.Count);
        Assert.Contains(ReportPage.Answer(report), events.Lines);
        TestContext.Current.TestOutputHelper?.WriteLine(ReportPage.Answer(report));
        Assert.StartsWith("<!DOCTYPE html>", await File.ReadAllTextAsync(Path.Combine(folder, "evaluation", "report.html"), TestContext.Current.CancellationToken), StringComparison.Ordinal);

        using var blocks = new StreamReader(new GZipStream(File.OpenRead(Path.Combine(folder, "evaluation", "blocks.jsonl.gz")), CompressionMode.Decompress));
        var rows = (await blocks.ReadToEndAsync(TestContext.Current.CancellationToken)).TrimEnd('\n').Split('\n');
        Assert.Equal(report.Results.Where(r => r.Suite == ReportPage.AllSuites).Sum(r => r.NumBlocks), rows.Length);
    }

    private void WriteSplit(string split, IReadOnlyList<(string Text, string Source)> documents)
    {
        using var writer = new StreamWriter(new GZipStream(File.Create(Path.Combine(folder, split + "-00000.jsonl.gz")), CompressionLevel.Fastest));
        foreach (var (text, source) in documents)
        {
            writer.WriteLine(JsonSerializer.Serialize(new { text, source }));
        }
    }

    private StageContext Context(string model) => new(
        new JsonObject
        {
            ["target"] = model,
            ["numPrompts"] = 2,
            ["promptTokens"] = 8,
            ["maxNewTokens"] = 12,
            ["draftLengths"] = new JsonArray("1", "3"),
            ["temperatures"] = new JsonArray("0.6", "0"),
            ["repeats"] = 1,
            ["sweepBudgetSeconds"] = 0,
            ["seed"] = 1,
            ["accelerator"] = "cpu",
        },
        new Dictionary<string, string> { ["draft"] = model, ["corpus"] = folder },
        new Dictionary<string, string> { ["evaluation"] = Path.Combine(folder, "evaluation") },
        folder,
        folder,
        "cpu",
        events);

    private sealed class Recorder : IStageEvents
    {
        public Dictionary<string, double> Metrics { get; } = [];

        public List<string> Lines { get; } = [];

        public void Progress(long done, long? total, string unit)
        {
        }

        public void Metric(string name, double value, long step) => Metrics[name] = value;

        public void Log(string message, StageLogLevel level = StageLogLevel.Information) => Lines.Add(message);
    }
}
