// Shapes: T positions, V vocabulary.
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Training;
using FastDraft.Stages.GenerateSynthetic;
using FastDraft.Stages.PyTorch;
using TorchSharp;
using static TorchSharp.torch;

namespace FastDraft.Stages.FinetuneDraft;

/// <summary>
/// Aligns a draft with its target by sequence-level knowledge distillation: cross-entropy on the tokens the target wrote (FastDraft,
/// section 3). Stops when the acceptance on held-out rows no longer rises, and keeps the best weights.
/// </summary>
public sealed class FinetuneDraftStage : IStage
{
    private const int MaxValidationRows = 48;

    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        "FinetuneDraft", 1, "Aligns a draft model with its target on text the target wrote.",
        [
            new("target", SettingType.Path, "Hugging Face folder of the target model, to measure acceptance.", Required: true, Content: PathContent.Model),
            new("numTokens", SettingType.Integer, "Tokens to train on, prompts included; rows are repeated when there are fewer.", 20_000_000, Minimum: 1, Unit: "tokens"),
            new("sequenceLength", SettingType.Integer, "Tokens of a row, at most.", 256, Minimum: 2, Unit: "tokens", Category: "Training"),
            new("batchSize", SettingType.Integer, "Rows of an optimizer step.", 32, Minimum: 1, Unit: "rows", Category: "Training"),
            new("learningRate", SettingType.Number, "Peak learning rate.", 5e-4, Minimum: 0, Category: "Training"),
            new("patience", SettingType.Integer, "Checks without a gain in acceptance before training stops.", 3, Minimum: 1, Category: "Training"),
            new("seed", SettingType.Integer, "Seed of the data order.", 1),
            .. TrainerSettings.All,
        ],
        [new("draft", ArtifactKind.Model, "The draft model to align."), new("synthetic", ArtifactKind.SyntheticCorpus, "What the target wrote.")],
        [new("draft", ArtifactKind.Model, "The aligned draft model.")]);

    public async Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var usesPyTorch = TrainerSettings.UsesPyTorch(context);
        var draft = TensorStages.Reading(() => DecoderConfig.Load(context.Input("draft")));
        var target = TensorStages.Reading(() => DecoderConfig.Load(context.RequiredText("target")));
        if (draft.VocabularySize != target.VocabularySize)
        {
            throw new StageFailureException(FailureKind.Data, $"The draft has a vocabulary of {draft.VocabularySize}, the target of {target.VocabularySize}.", "a draft made for this target");
        }

        var options = Options(context, draft);
        var train = Examples(context, "train", options.SequenceLength);
        if (train.Count < options.BatchSize)
        {
            throw new StageFailureException(FailureKind.Data, $"The synthetic corpus has {train.Count} training rows; a batch needs {options.BatchSize}.", "more numRows, or a smaller batchSize");
        }

        var heldOut = Examples(context, "validation", options.SequenceLength);
        var isChosen = EvenSubset.Of(heldOut.Count, MaxValidationRows);
        var validation = heldOut.Where((_, i) => isChosen(i)).ToList();
        var (steps, before, acceptance) = usesPyTorch
            ? await TrainWithPyTorchAsync(context, draft, options, train, validation, target, cancellationToken)
            : Train(context, options, train, validation, cancellationToken);
        context.Events.Log($"acceptance on {validation.Count} held-out rows: {acceptance:F4}" + (before is null ? string.Empty : $", {before:F4} before"));
        var settings = context.Settings.DeepClone().AsObject();
        settings.Remove("target");
        DraftTraining.Describe(draft, context.Output("draft"), context.Input("draft"), new
        {
            recipe = "sequence-level-distillation",
            steps,
            tokens = steps * options.BatchSize * options.SequenceLength,
            validationAcceptance = acceptance,
            settings,
            before = JsonNode.Parse(File.ReadAllText(Path.Join(context.Input("draft"), "meta.json"))),
        });
    }

    private static async Task<(long Steps, double? Before, double? Acceptance)> TrainWithPyTorchAsync(
        StageContext context, DecoderConfig draft, TrainerOptions options, List<SequenceExample> train, List<SequenceExample> validation, DecoderConfig target, CancellationToken cancellationToken)
    {
        var targetWeights = TensorStages.Reading(() => SafetensorsFolder.WeightFiles(context.RequiredText("target")));
        var trainer = new PyTorchTrainer(context, draft, options, bfloat16: context.Text("accelerator") is "cuda" or "gaudi");
        var result = await trainer.RunAsync(SafetensorsFolder.WeightFiles(context.Input("draft")), train, validation, target, targetWeights, cancellationToken);
        return (result.Steps, result.FirstScore, result.BestScore);
    }

    private static (long Steps, double? Before, double? Acceptance) Train(StageContext context, TrainerOptions options, List<SequenceExample> train, List<SequenceExample> validation, CancellationToken cancellationToken)
    {
        var device = TensorStages.Device(context);
        using var draft = TensorStages.LoadDecoder(context.Input("draft"), device, DraftTraining.ComputeType(device));
        var targetFolder = context.RequiredText("target");
        using var target = TensorStages.LoadDecoder(targetFolder, device, device.type == DeviceType.CUDA ? TensorStages.StoredType(targetFolder) : ScalarType.Float32);
        using var trainer = new Trainer(TrainedModel.Of(draft), new PaddedSequences(train, unchecked((ulong)context.Integer("seed")!.Value)), options, context.ResumeFolder);
        var before = trainer.NextStep == 0 ? Acceptance(draft, target, validation) : double.NaN;
        if (double.IsFinite(before))
        {
            trainer.KeepIfBest(before);
            context.Events.Metric("acceptance", before, 0);
        }

        DraftTraining.Run(context, trainer, options, draft.Config.NumParameters, step =>
        {
            if (validation.Count > 0)
            {
                var acceptance = Acceptance(draft, target, validation);
                trainer.KeepIfBest(acceptance);
                context.Events.Metric("acceptance", acceptance, step);
            }
        }, cancellationToken);

        trainer.RestoreBest();
        draft.Save(context.Output("draft"), draft.Dtype);
        return (trainer.NextStep, Finite(before), Finite(trainer.BestScore));
    }

    private static double? Finite(double value) => double.IsFinite(value) ? value : null;

    /// <summary>Mean of sum_x min(p, q) at T = 1 over response positions of held-out rows, teacher-forced (methods.md 2.1).</summary>
    private static double Acceptance(Decoder draft, Decoder target, IReadOnlyList<SequenceExample> rows)
    {
        using var _ = no_grad();
        double sum = 0;
        long count = 0;
        foreach (var row in rows)
        {
            using var scope = NewDisposeScope();
            var ids_1T = tensor(Array.ConvertAll(row.Ids, id => (long)id), [1, row.Ids.Length], device: draft.Device);
            var positions = row.Ids.Length - row.LossStart;
            Tensor Law(Decoder model) => nn.functional.linear(
                model.ForwardHidden(ids_1T, model.Dtype).narrow(1, row.LossStart - 1, positions).squeeze(0), model.HeadWeight).to_type(ScalarType.Float32).softmax(-1);

            sum += minimum(Law(target), Law(draft)).sum().item<float>();
            count += positions;
        }

        return count == 0 ? double.NaN : sum / count;
    }

    private static List<SequenceExample> Examples(StageContext context, string split, int sequenceLength) =>
        [.. SyntheticCorpus.Read(context.Input("synthetic"), split)
            .Where(row => row.PromptIds.Length is > 0 && row.PromptIds.Length < sequenceLength && row.ResponseIds.Length > 0)
            .Select(row => new SequenceExample([.. row.PromptIds.Concat(row.ResponseIds).Take(sequenceLength + 1)], row.PromptIds.Length))];

    private static TrainerOptions Options(StageContext context, DecoderConfig config)
    {
        var sequenceLength = (int)Math.Min(context.Integer("sequenceLength")!.Value, config.MaxPositions - 1);
        var batchSize = (int)context.Integer("batchSize")!.Value;
        return new TrainerOptions
        {
            NumSteps = Math.Max(1, (context.Integer("numTokens")!.Value + ((long)batchSize * sequenceLength) - 1) / ((long)batchSize * sequenceLength)),
            SequenceLength = sequenceLength,
            BatchSize = batchSize,
            LearningRate = context.Number("learningRate")!.Value,
            Patience = (int)context.Integer("patience")!.Value,
            MaxLogits = DraftTraining.MaxLogits(context),
            SettingsDigest = DraftTraining.SettingsDigest(context, config),
        };
    }
}
