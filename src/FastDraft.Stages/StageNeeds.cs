using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Training;
using FastDraft.Stages.PyTorch;

namespace FastDraft.Stages;

/// <summary>What a stage is going to need, as far as its settings tell; null is not known.</summary>
/// <param name="NumTokens">Tokens to train on or to write, at most.</param>
/// <param name="NumSteps">Optimizer steps.</param>
/// <param name="MemoryBytes">Peak of the worker on cpu, about; of one card where <paramref name="NumCards"/> is known.</param>
/// <param name="DiskBytes">What it leaves and what it keeps meanwhile, about.</param>
/// <param name="NumCards">Cards that share the work: those of this machine, else eight.</param>
/// <param name="Seconds">What it would take at <see cref="NeedsEstimate.AssumedGaudiFlops"/> a card; nothing was measured.</param>
public sealed record StageNeeds(long? NumTokens = null, long? NumSteps = null, long? MemoryBytes = null, long? DiskBytes = null, int? NumCards = null, double? Seconds = null);

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

    // On a card: master weights, gradients and two moments in float32, and the bfloat16 copy a step multiplies with.
    private const long CardBytesPerParameter = 18, CardBytesPerLogit = 8, NarrowBytes = 2;

    // What torch and the libraries of a card hold before the first tensor.
    private const long CardProcessBytes = 2L << 30;

    private const int CardsOfAServer = 8;

    /// <summary>Training work of one Gaudi 2 card a second that a plan assumes: a tenth of its 432 TFLOP/s in bfloat16. By 6 operations for each parameter and token.</summary>
    public const double AssumedGaudiFlops = 43e12;

    private DraftShape? _draft;

    /// <summary>Why no draft of these sizes can be made for the target; null where one can, or where there is no target to ask.</summary>
    public static string? ShapeProblem(JsonObject settings)
    {
        settings = JsonNode.Parse(settings.ToJsonString())!.AsObject();
        try
        {
            if (Target(settings) is { } target && Integer(settings, "parameters") is { } parameters)
            {
                Derive(settings, target, parameters);
            }

            return null;
        }
        catch (ArgumentException e)
        {
            return e.Message;
        }
    }

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

        needs = needs with { DiskBytes = draft.NumParameters * (WeightBytes + CheckpointBytesPerParameter) };
        var accelerator = Text(settings, "accelerator") ?? "cpu";
        var activations = batch * length / (Integer(settings, "accumulationSteps") ?? 1) * draft.NumLayers
            * ((ActivationsPerHidden * draft.HiddenSize) + (ActivationsPerIntermediate * draft.IntermediateSize));
        if (accelerator == "cpu")
        {
            return needs with { MemoryBytes = TrainingProcessBytes + (draft.NumParameters * TrainingBytesPerParameter) + (activations * WeightBytes) };
        }

        if (!TrainerSettings.UsesPyTorch(accelerator, Text(settings, "trainer") ?? TrainerSettings.Auto))
        {
            return needs;
        }

        var cards = (int)(Integer(settings, "numProcesses") ?? (TrainerSettings.NumCards(accelerator) is var here and > 0 ? here : CardsOfAServer));
        return needs with
        {
            NumCards = cards,
            MemoryBytes = CardProcessBytes + (draft.NumParameters * CardBytesPerParameter) + (activations / cards * NarrowBytes) + (DraftTraining.MaxCardLogits * CardBytesPerLogit),
            Seconds = accelerator == "gaudi" ? 6.0 * draft.NumParameters * tokens / (AssumedGaudiFlops * cards) : null,
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
            return Derive(settings, target, parameters);
        }
        catch (ArgumentException)
        {
            // SettingChecks says so.
            return null;
        }
    }

    private static DraftShape Derive(JsonObject settings, DecoderConfig target, long parameters) => DraftShape.Derive(
        parameters, new TargetShape(target.VocabularySize, target.NumHeads, target.NumKeyValueHeads),
        (int?)Integer(settings, "numLayers"), (int?)Integer(settings, "hiddenSize"), (int?)Integer(settings, "numHeads"));

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

    private static bool OnCuda(JsonObject settings) => Text(settings, "accelerator") == "cuda";

    private static string? Text(JsonObject settings, string name) => settings[name]?.GetValue<string>();

    private static long? Integer(JsonObject settings, string name) => settings[name]?.GetValue<long>();
}
