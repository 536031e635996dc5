using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Training;

namespace FastDraft.Stages.PyTorch;

/// <summary>What a finished training tells; null is what was not measured. Scores are acceptances, the first one before the first step.</summary>
internal sealed record PyTorchResult(long Steps, double? Loss, double? ValidationLoss, double? FirstScore, double? BestScore);

/// <summary>
/// A training by src/trainer-pytorch: everything is resolved here and written as a job file, initial weights included, so that there is one
/// random generator and one derivation of a draft's shape. The file stays in the resume folder: with it, torchrun can start the same
/// training on other machines that share the disk, and the stage takes up what they left.
/// </summary>
internal sealed class PyTorchTrainer(StageContext context, DecoderConfig draft, TrainerOptions options, bool bfloat16)
{
    public const string JobFile = "trainer-job.json";

    private const string Format = "fastdraft-trainer-job/1";

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    private readonly string _accelerator = context.Text("accelerator") ?? "cpu";

    /// <summary>Trains on packed windows of token shards.</summary>
    public Task<PyTorchResult> RunAsync(IReadOnlyList<string> weights, string tokens, string? replayTokens, CancellationToken cancellationToken) => RunAsync(
        weights,
        job => job["windows"] = new JsonObject
        {
            ["tokens"] = tokens,
            ["seed"] = context.Integer("seed"),
            ["replay"] = replayTokens,
            ["replayFraction"] = replayTokens is null ? 0 : context.Number("replayFraction"),
        },
        cancellationToken);

    /// <summary>Trains on padded rows, and stops when the acceptance of held-out rows by the target no longer rises.</summary>
    public Task<PyTorchResult> RunAsync(
        IReadOnlyList<string> weights, IReadOnlyList<SequenceExample> train, IReadOnlyList<SequenceExample> validation, DecoderConfig target, IReadOnlyList<string> targetWeights, CancellationToken cancellationToken) => RunAsync(
        weights,
        job =>
        {
            job["rows"] = new JsonObject { ["file"] = WriteRows("train-rows.safetensors", train), ["seed"] = context.Integer("seed") };
            job["acceptance"] = new JsonObject
            {
                ["rows"] = WriteRows("validation-rows.safetensors", validation),
                ["target"] = Shape(target, options.SequenceLength + 1),
                ["targetWeights"] = List(targetWeights),
                ["patience"] = options.Patience,
            };
        },
        cancellationToken);

    /// <summary>The weights that a new draft begins with, as C# draws them from the seed.</summary>
    public IReadOnlyList<string> WriteInitialWeights()
    {
        using var decoder = new Decoder(draft);
        decoder.Initialize(context.Integer("seed")!.Value);
        var folder = Path.Join(context.ResumeFolder, "initial");
        decoder.Save(folder);
        return SafetensorsFolder.WeightFiles(folder);
    }

    private async Task<PyTorchResult> RunAsync(IReadOnlyList<string> weights, Action<JsonObject> addData, CancellationToken cancellationToken)
    {
        var result = Path.Join(context.ScratchFolder, "trainer-result.json");
        var job = new JsonObject
        {
            ["format"] = Format,
            ["device"] = _accelerator == "gaudi" ? "hpu" : _accelerator,
            ["bfloat16"] = bfloat16,
            ["compile"] = TrainerSettings.Compiles(context),
            ["model"] = Shape(draft, options.SequenceLength),
            ["weights"] = List(weights),
            ["windows"] = null,
            ["rows"] = null,
            ["acceptance"] = null,
            ["numSteps"] = options.NumSteps,
            ["sequenceLength"] = options.SequenceLength,
            ["batchSize"] = options.BatchSize,
            ["accumulationSteps"] = options.AccumulationSteps,
            ["learningRate"] = options.LearningRate,
            ["warmupFraction"] = options.WarmupFraction,
            ["finalFraction"] = options.FinalFraction,
            ["weightDecay"] = options.WeightDecay,
            ["maxGradientNorm"] = options.MaxGradientNorm,
            // Compiled, softmax and gradient of a chunk are one pass and hold less: the larger products are worth 4 % there.
            ["maxLogits"] = TrainerSettings.Compiles(context) ? 2 * options.MaxLogits : options.MaxLogits,
            ["checkpointSeconds"] = options.CheckpointEvery.TotalSeconds,
            ["settingsDigest"] = options.SettingsDigest,
            ["resumeFolder"] = context.ResumeFolder,
            ["output"] = Path.Join(context.Output("draft"), "model.safetensors"),
            ["result"] = result,
        };
        addData(job);
        Directory.CreateDirectory(context.ResumeFolder);
        var file = Path.Join(context.ResumeFolder, JobFile);
        await File.WriteAllTextAsync(file, job.ToJsonString(Json) + "\n", cancellationToken);
        var count = TrainerSettings.NumProcesses(context);
        context.Events.Log($"trainer: pytorch on {_accelerator}, {count} process(es), '{PythonInstallation.Executable}'");
        await TrainerProcesses.RunAsync(file, _accelerator, count, context.Events, cancellationToken);
        return JsonSerializer.Deserialize<PyTorchResult>(await File.ReadAllTextAsync(result, cancellationToken), Json)!;
    }

    private string WriteRows(string name, IReadOnlyList<SequenceExample> rows)
    {
        Directory.CreateDirectory(context.ResumeFolder);
        var path = Path.Join(context.ResumeFolder, name);
        var offsets = new long[rows.Count + 1];
        for (var i = 0; i < rows.Count; i++)
        {
            offsets[i + 1] = offsets[i] + rows[i].Ids.Length;
        }

        int[] ids = [.. rows.SelectMany(r => r.Ids)], starts = [.. rows.Select(r => r.LossStart)];
        SafetensorsWriter.Write(path,
        [
            new("ids", "I32", [ids.Length], MemoryMarshal.AsBytes(ids.AsSpan()).ToArray()),
            new("offsets", "I64", [offsets.Length], MemoryMarshal.AsBytes(offsets.AsSpan()).ToArray()),
            new("lossStarts", "I32", [starts.Length], MemoryMarshal.AsBytes(starts.AsSpan()).ToArray()),
        ]);
        return path;
    }

    private static JsonArray List(IEnumerable<string> paths) => [.. paths.Select(p => (JsonNode)p)];

    /// <exception cref="StageFailureException">Positions of this many turn in a way that the Python decoder does not compute.</exception>
    private static JsonObject Shape(DecoderConfig config, int length)
    {
        if (config.RotarySize is not null || RotaryPositions.IsLong(config, length))
        {
            throw new StageFailureException(
                FailureKind.Config, $"trainer 'pytorch' does not compute models that turn only a part of each head, nor sequences of {length} tokens where rotary positions change with the length.",
                "trainer=torchsharp, or a smaller sequenceLength");
        }

        return new JsonObject
        {
            ["vocabularySize"] = config.VocabularySize,
            ["hiddenSize"] = config.HiddenSize,
            ["intermediateSize"] = config.IntermediateSize,
            ["numLayers"] = config.NumLayers,
            ["numHeads"] = config.NumHeads,
            ["numKeyValueHeads"] = config.NumKeyValueHeads,
            ["headSize"] = config.HeadSize,
            ["rmsNormEpsilon"] = config.RmsNormEpsilon,
            ["ropeFrequencies"] = new JsonArray([.. RotaryPositions.Frequencies(config, isLong: false).Select(f => (JsonNode)f)]),
            ["ropeMagnitude"] = config.LongRope?.Magnitude ?? 1,
            ["tieWordEmbeddings"] = config.TieWordEmbeddings,
        };
    }
}
