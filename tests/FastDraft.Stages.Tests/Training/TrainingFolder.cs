using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Tokenization;
using FastDraft.Modeling.Training;
using FastDraft.Stages.FinetuneDraft;
using FastDraft.Stages.GenerateSynthetic;
using FastDraft.Stages.PretrainDraft;
using FastDraft.TestKit;

namespace FastDraft.Stages.Tests.Training;

/// <summary>Runs the two training stages on real stories for the 260K-parameter target, whose vocabulary of 512 makes a step milliseconds.</summary>
internal sealed class TrainingFolder : IDisposable, IStageEvents
{
    private readonly string _root = Directory.CreateTempSubdirectory("fastdraft-training").FullName;
    private readonly HuggingFaceTokenizer _tokenizer;

    public TrainingFolder()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        Target = SharedAssets.Path("data", "stories260K");
        _tokenizer = HuggingFaceTokenizer.Load(Target);
        Directory.CreateDirectory(this["tokenizer"]);
        File.Copy(Path.Join(Target, "tokenizer.json"), Path.Join(this["tokenizer"], "tokenizer.json"));
        File.WriteAllText(Path.Join(this["tokenizer"], "manifest.json"), JsonSerializer.Serialize(new { sha256 = _tokenizer.Sha256 }));
    }

    public string Target { get; }

    public List<string> Lines { get; } = [];

    public List<(string Name, double Value, long Step)> Metrics { get; } = [];

    /// <summary>Called with each metric, from whatever thread tells of it.</summary>
    public Action<string, long>? OnMetric { get; set; }

    public string this[string name] => Path.Join(_root, name);

    public IEnumerable<double> Values(string metric) => Metrics.Where(m => m.Name == metric).Select(m => m.Value);

    public void WriteTokens(int numStories, string output = "tokens", int skip = 0)
    {
        using var writer = new TokenShardWriter(this[output], 512, _tokenizer.Sha256);
        foreach (var (ids, i) in Stories().Skip(skip).Take(numStories).Select((ids, i) => (ids, i)))
        {
            writer.Append(i % 8 == 7 ? "validation" : "train", ids);
        }

        writer.Complete();
    }

    /// <summary>Greedy rows that the target wrote, as synthetic corpus.</summary>
    public void WriteRows(int numTrain, int numValidation, int numNewTokens = 40)
    {
        using var target = CpuCausalModel.Load(Target, 1);
        var rows = Stories().Take(numTrain + numValidation).Select((ids, i) =>
        {
            var prompt = new RolloutPrompt(i, ids[..8], 0);
            return new SyntheticRow
            {
                Id = $"{i}",
                PromptIds = prompt.Ids,
                ResponseIds = Rollout.Generate(target, [prompt], numNewTokens, [], 1, default)[0].Ids,
                Generator = new("target", "sha256:0"),
                Sampling = new(0, 1, 0, 1),
                FinishReason = "length",
            };
        }).ToList();
        SyntheticCorpus.Write(this["synthetic"], "train", rows.Take(numTrain));
        SyntheticCorpus.Write(this["synthetic"], "validation", rows.Skip(numTrain));
    }

    public Task PretrainAsync(JsonObject? settings = null, string output = "draft", CancellationToken? cancellationToken = null, params string[] moreInputs) => new PretrainDraftStage().ExecuteAsync(
        Context(Merge(new JsonObject
        {
            ["parameters"] = 60_000,
            ["numLayers"] = 1,
            ["numTokens"] = 30 * 8 * 32,
            ["sequenceLength"] = 32,
            ["batchSize"] = 8,
            ["accumulationSteps"] = 1,
            ["warmupFraction"] = 0.1,
            ["weightDecay"] = 0.1,
            ["replayFraction"] = 0.0,
            ["learningRate"] = 0.01,
        }, settings), output, ["tokens", "tokenizer", .. moreInputs]), cancellationToken ?? TestContext.Current.CancellationToken);

    public Task FinetuneAsync(JsonObject? settings = null, string output = "aligned") => new FinetuneDraftStage().ExecuteAsync(
        Context(Merge(new JsonObject { ["numTokens"] = 60 * 4 * 48, ["sequenceLength"] = 48, ["batchSize"] = 4, ["patience"] = 3, ["learningRate"] = 0.005 }, settings), output, "draft", "synthetic"),
        TestContext.Current.CancellationToken);

    public void Progress(long done, long? total, string unit)
    {
    }

    public void Metric(string name, double value, long step)
    {
        Metrics.Add((name, value, step));
        OnMetric?.Invoke(name, step);
    }

    public void Log(string message, StageLogLevel level = StageLogLevel.Information) => Lines.Add(message);

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private static JsonObject Merge(JsonObject settings, JsonObject? more)
    {
        foreach (var (name, value) in more ?? [])
        {
            settings[name] = value?.DeepClone();
        }

        return settings;
    }

    private IEnumerable<int[]> Stories() => ReadStories().Select(text => (int[])[1, .. _tokenizer.Encode(text), 2]);

    private static IEnumerable<string> ReadStories()
    {
        using var reader = new StreamReader(new System.IO.Compression.GZipStream(
            File.OpenRead(SharedAssets.Path("data", "corpus", "tinystories.validation.jsonl.gz")), System.IO.Compression.CompressionMode.Decompress));
        while (reader.ReadLine() is { } line)
        {
            yield return JsonNode.Parse(line)!["text"]!.GetValue<string>();
        }
    }

    private StageContext Context(JsonObject settings, string output, params string[] inputs)
    {
        settings["target"] = Target;
        settings["seed"] = 1;
        settings["accelerator"] ??= "cpu";
        var scratch = this["scratch-" + output];
        Directory.CreateDirectory(scratch);
        Directory.CreateDirectory(this[output]);
        return new(settings, inputs.ToDictionary(i => i, i => this[i]), new Dictionary<string, string> { ["draft"] = this[output] }, scratch, scratch, "cpu", this);
    }
}
