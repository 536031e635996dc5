using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Training;

namespace FastDraft.Stages;

/// <summary>What a stage is going to need, as far as its settings tell; null is not known.</summary>
/// <param name="NumTokens">Tokens to train on or to write, at most.</param>
/// <param name="NumSteps">Optimizer steps.</param>
/// <param name="MemoryBytes">Peak of the worker on cpu, about.</param>
/// <param name="DiskBytes">What it leaves and what it keeps meanwhile, about.</param>
public sealed record StageNeeds(long? NumTokens = null, long? NumSteps = null, long? MemoryBytes = null, long? DiskBytes = null);

/// <summary>Estimates the stages of a plan in their order: a later one works on the draft that an earlier one makes.</summary>
public sealed class NeedsEstimate
{
    // A worker that has loaded libtorch, and one that has not.
    private const long TrainingProcessBytes = 350L << 20, DecodingProcessBytes = 150L << 20;

    // Weights, gradients and two moments in float32 are 16; what copies of them a step and a checkpoint make, measured, 12 more.
    private const long TrainingBytesPerParameter = 28, CheckpointBytesPerParameter = 12, WeightBytes = 4;

    // Float32 numbers that one token leaves in one layer for the backward pass, per hidden and per intermediate unit; measured.
    private const long ActivationsPerHidden = 15, ActivationsPerIntermediate = 5;

    // The exported folders: Hugging Face, ONNX, OpenVINO.
    private const long NumExports = 3;

    private DraftShape? _draft;

    public StageNeeds Of(StageDescriptor stage, JsonObject settings)
    {
        // As the worker gets them: numbers of one kind, whatever the workflow made them of.
        settings = JsonNode.Parse(settings.ToJsonString())!.AsObject();
        var target = Target(settings);
        switch (stage.Name)
        {
            case "PretrainDraft":
                _draft = Shape(settings, target) ?? _draft;
                return Training(settings, target);
            case "FinetuneDraft":
                return Training(settings, target);
            case "GenerateSynthetic":
                var (rows, prompt, written) = (Integer(settings, "numRows"), Integer(settings, "promptTokens"), Integer(settings, "maxNewTokens"));
                var batch = Math.Min(rows ?? long.MaxValue, Integer(settings, "batchSize") ?? 64);
                return new(
                    rows * written,
                    MemoryBytes: target is null || OnCuda(settings) ? null
                        : DecodingProcessBytes + (target.NumParameters * WeightBytes) + (batch * (prompt + written) * target.NumLayers * target.NumKeyValueHeads * target.HeadSize * 2 * WeightBytes));
            case "ExportDraft":
                return new(DiskBytes: _draft?.NumParameters * WeightBytes * NumExports);
            default:
                return new();
        }
    }

    private StageNeeds Training(JsonObject settings, DecoderConfig? target)
    {
        if (Integer(settings, "numTokens") is not { } tokens || Integer(settings, "batchSize") is not { } batch || Integer(settings, "sequenceLength") is not { } length)
        {
            return new();
        }

        length = Math.Min(length, target?.MaxPositions ?? length);
        var needs = new StageNeeds(tokens, Math.Max(1, (tokens + (batch * length) - 1) / (batch * length)));
        if (_draft is not { } draft)
        {
            return needs;
        }

        var activations = batch * length / (Integer(settings, "accumulationSteps") ?? 1) * draft.NumLayers
            * ((ActivationsPerHidden * draft.HiddenSize) + (ActivationsPerIntermediate * draft.IntermediateSize)) * WeightBytes;
        return needs with
        {
            MemoryBytes = OnCuda(settings) ? null : TrainingProcessBytes + (draft.NumParameters * TrainingBytesPerParameter) + activations,
            DiskBytes = draft.NumParameters * (WeightBytes + CheckpointBytesPerParameter),
        };
    }

    private static DraftShape? Shape(JsonObject settings, DecoderConfig? target)
    {
        if (target is null || Integer(settings, "parameters") is not { } parameters)
        {
            return null;
        }

        try
        {
            return DraftShape.Derive(
                parameters, new TargetShape(target.VocabularySize, target.NumHeads, target.NumKeyValueHeads),
                (int?)Integer(settings, "numLayers"), (int?)Integer(settings, "hiddenSize"), (int?)Integer(settings, "numHeads"));
        }
        catch (ArgumentException)
        {
            // The stage says so.
            return null;
        }
    }

    private static DecoderConfig? Target(JsonObject settings)
    {
        try
        {
            return settings["target"]?.GetValue<string>() is { Length: > 0 } folder ? DecoderConfig.Load(folder) : null;
        }
        catch (Exception e) when (e is CheckpointException or IOException or UnauthorizedAccessException)
        {
            // The stage says so.
            return null;
        }
    }

    private static bool OnCuda(JsonObject settings) => settings["accelerator"]?.GetValue<string>() == "cuda";

    private static long? Integer(JsonObject settings, string name) => settings[name]?.GetValue<long>();
}
