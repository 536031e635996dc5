using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Training;
using FastDraft.Stages.PyTorch;
using TorchSharp;
using static TorchSharp.torch;

namespace FastDraft.Stages.PretrainDraft;

/// <summary>
/// Trains a draft model on token shards by next-token cross-entropy (FastDraft, section 3): from scratch in a shape derived from the
/// parameter budget, or continuing a given draft on another corpus, mixed with the first one.
/// </summary>
public sealed class PretrainDraftStage : IStage
{
    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        "PretrainDraft", 1, "Trains a draft model with the target's vocabulary on a corpus, or continues one.",
        [
            new("target", SettingType.Path, "Hugging Face folder of the target model: vocabulary, positions and norms are taken from it.", Required: true, Content: PathContent.Model),
            new("parameters", SettingType.Integer, "Parameter budget; the architecture is derived from it.", 50_000_000, Minimum: 1, Unit: "parameters"),
            new("numTokens", SettingType.Integer, "Tokens to train on; the corpus is repeated when it is smaller.", 1_000_000_000, Minimum: 1, Unit: "tokens"),
            new("sequenceLength", SettingType.Integer, "Tokens of a training sequence.", 256, Minimum: 2, Unit: "tokens", Category: "Training"),
            new("batchSize", SettingType.Integer, "Sequences of an optimizer step.", 32, Minimum: 1, Unit: "sequences", Category: "Training"),
            new("accumulationSteps", SettingType.Integer, "Parts a batch is computed in, to fit memory.", 1, Minimum: 1, Category: "Training"),
            new("learningRate", SettingType.Number, "Peak learning rate; when not given 2e-3 below 10M parameters, 1e-3 below 100M, else 6e-4, and half of it to continue a draft.", Minimum: 0, Category: "Training"),
            new("checkpointSeconds", SettingType.Number, "Time between checkpoints, which is what a crash may cost; 60 when not given, and always twenty times what one takes to write.", Minimum: 0, Unit: "seconds", Category: "Machine"),
            new("warmupFraction", SettingType.Number, "Share of the steps with a rising learning rate.", 0.02, Minimum: 0, Maximum: 1, Category: "Training"),
            new("weightDecay", SettingType.Number, "AdamW decay of matrices; when not given 0.1 for every pass over tokens, at least 0.1 and at most 2.", Minimum: 0, Category: "Training"),
            new("replayFraction", SettingType.Number, "Share of sequences from replayTokens.", 0.333, Minimum: 0, Maximum: 1, Category: "Training"),
            new("numLayers", SettingType.Integer, "Layers, instead of the derived number.", Minimum: 1, Category: "Architecture"),
            new("hiddenSize", SettingType.Integer, "Hidden size, instead of the derived one.", Minimum: 2, Category: "Architecture"),
            new("numHeads", SettingType.Integer, "Attention heads, instead of the derived number.", Minimum: 1, Category: "Architecture"),
            new("precision", SettingType.Choice, "Numbers the weights are stored and multiplied in; auto is bfloat16 on cuda and float32 on cpu.", "auto", Choices: ["auto", "float32", "bfloat16"], Category: "Training"),
            new("seed", SettingType.Integer, "Seed of the weights and of the data order.", 1),
            .. TrainerSettings.All,
        ],
        [
            new("tokens", ArtifactKind.TokenShards, "What to train on."),
            new("tokenizer", ArtifactKind.Tokenizer, "The target's tokenizer, put beside the weights."),
            new("draft", ArtifactKind.Model, "A draft model to continue from.", Required: false),
            new("replayTokens", ArtifactKind.TokenShards, "Earlier corpus to mix in, so that it is not forgotten.", Required: false),
        ],
        [new("draft", ArtifactKind.Model, "The trained draft model.")]);

    public async Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var usesPyTorch = TrainerSettings.UsesPyTorch(context);
        var target = TensorStages.Reading(() => DecoderConfig.Load(context.RequiredText("target")));
        using var shards = TokenShards.Open(context.Input("tokens"));
        CheckVocabulary(context, shards, target);
        using var replay = context.HasInput("replayTokens") ? TokenShards.Open(context.Input("replayTokens")) : null;
        if (replay is not null && replay.TokenizerDigest != shards.TokenizerDigest)
        {
            throw new StageFailureException(FailureKind.Data, "tokens and replayTokens were made with different tokenizers.", "align both corpora with the same target");
        }

        var draft = Draft(context, target);
        var replayFraction = replay is null ? 0 : context.Number("replayFraction")!.Value;
        var options = Options(context, draft);
        var numPasses = (1 - replayFraction) * options.NumSteps * options.BatchSize * options.SequenceLength / shards.Split("train").NumTokens;
        options = options with { WeightDecay = context.Number("weightDecay") ?? WeightDecay(numPasses) };
        var needed = Math.Min(options.BatchSize, options.BatchSize - (int)(options.BatchSize * replayFraction));
        var windows = PackedWindows.NumWindows(shards.Split("train"), options.SequenceLength);
        if (windows < needed)
        {
            throw new StageFailureException(
                FailureKind.Data, $"The corpus has {shards.Split("train").NumTokens} training tokens, {windows} sequences of {options.SequenceLength}; a batch needs {needed}.", "a larger corpus, or a smaller batchSize or sequenceLength");
        }

        context.Events.Log($"draft: {draft.NumParameters:N0} parameters, {draft.NumLayers} layers, hidden {draft.HiddenSize}, {draft.NumHeads} heads, {draft.NumKeyValueHeads} key-value heads, intermediate {draft.IntermediateSize}, vocabulary {draft.VocabularySize}; {options.NumSteps} steps of {options.BatchSize} x {options.SequenceLength}, {numPasses:0.0} passes over tokens, weight decay {options.WeightDecay:0.##}");
        var (loss, validation) = usesPyTorch
            ? await TrainWithPyTorchAsync(context, draft, options, cancellationToken)
            : Train(context, draft, options, shards, replay, replayFraction, cancellationToken);
        DraftTraining.Describe(draft, context.Output("draft"), context.Input("tokenizer"), new
        {
            recipe = context.HasInput("draft") ? "continued-pretraining" : "pretraining",
            steps = options.NumSteps,
            tokens = options.NumSteps * options.BatchSize * options.SequenceLength,
            loss,
            validationLoss = validation,
            weightDecay = options.WeightDecay,
            dataPosition = new { row = options.NumSteps * options.BatchSize, seed = context.Integer("seed") },
            settings = WithoutPaths(context),
            accelerator = context.Text("accelerator"),
        });
    }

    private static async Task<(double? Loss, double? Validation)> TrainWithPyTorchAsync(StageContext context, DecoderConfig draft, TrainerOptions options, CancellationToken cancellationToken)
    {
        var trainer = new PyTorchTrainer(context, draft, options, Computes(context) == ScalarType.BFloat16);
        var weights = context.HasInput("draft") ? SafetensorsFolder.WeightFiles(context.Input("draft")) : trainer.WriteInitialWeights();
        var result = await trainer.RunAsync(weights, context.Input("tokens"), context.HasInput("replayTokens") ? context.Input("replayTokens") : null, cancellationToken);
        return (result.Loss, result.ValidationLoss);
    }

    private static (double? Loss, double? Validation) Train(StageContext context, DecoderConfig draft, TrainerOptions options, TokenShards shards, TokenShards? replay, double replayFraction, CancellationToken cancellationToken)
    {
        var device = TensorStages.Device(context);
        using var decoder = Start(context, draft, device);
        using var trainer = new Trainer(
            TrainedModel.Of(decoder),
            new PackedWindows(shards.Split("train"), unchecked((ulong)context.Integer("seed")!.Value), replay?.Split("train"), replayFraction),
            options, context.ResumeFolder);
        var validation = double.NaN;
        var loss = DraftTraining.Run(context, trainer, options, decoder.Config.NumParameters, step =>
        {
            validation = ValidationLoss(decoder, shards, options);
            if (double.IsFinite(validation))
            {
                context.Events.Metric("validation_loss", validation, step);
            }
        }, cancellationToken);
        if (double.IsNaN(validation))
        {
            // A process that died between its last checkpoint and its end leaves no step to look after.
            validation = ValidationLoss(decoder, shards, options);
        }

        decoder.Save(context.Output("draft"), decoder.Dtype);
        return (Finite(loss), Finite(validation));
    }

    private static double? Finite(double value) => double.IsFinite(value) ? value : null;

    /// <summary>Where the target lay is nobody's business a year later, and would change the digest of equal weights.</summary>
    private static JsonObject WithoutPaths(StageContext context)
    {
        var settings = context.Settings.DeepClone().AsObject();
        settings.Remove("target");
        return settings;
    }

    private static void CheckVocabulary(StageContext context, TokenShards shards, DecoderConfig target)
    {
        var manifest = JsonNode.Parse(File.ReadAllText(Path.Join(context.Input("tokenizer"), "manifest.json")))!;
        var digest = manifest["sha256"]!.GetValue<string>();
        if (digest != shards.TokenizerDigest)
        {
            throw new StageFailureException(FailureKind.Data, $"The token shards were made with tokenizer {shards.TokenizerDigest}, the tokenizer input is {digest}.", "take both from the same AlignVocabulary stage");
        }

        if (shards.VocabularySize != target.VocabularySize)
        {
            throw new StageFailureException(FailureKind.Data, $"The token shards have a vocabulary of {shards.VocabularySize}, the target has {target.VocabularySize}.", "align the corpus with this target");
        }
    }

    private static ScalarType Computes(StageContext context) => (context.Text("precision"), context.Text("accelerator")) switch
    {
        ("float32", _) => ScalarType.Float32,
        ("bfloat16", "cpu" or null) => throw new StageFailureException(FailureKind.Config, "precision 'bfloat16' needs accelerator 'cuda' or 'gaudi': on a CPU its products are slower and less exact than float32.", "auto"),
        (_, "cpu" or null) => ScalarType.Float32,
        _ => ScalarType.BFloat16,
    };

    /// <summary>The configuration of the draft that is continued, or of a new one in the shape that the budget allows.</summary>
    private static DecoderConfig Draft(StageContext context, DecoderConfig target)
    {
        if (context.HasInput("draft"))
        {
            var draft = TensorStages.Reading(() => DecoderConfig.Load(context.Input("draft")));
            return draft.VocabularySize == target.VocabularySize
                ? draft
                : throw new StageFailureException(FailureKind.Data, $"The draft has a vocabulary of {draft.VocabularySize}, the target of {target.VocabularySize}.", "a draft made for this target");
        }

        DraftShape shape;
        try
        {
            shape = DraftShape.Derive(
                context.Integer("parameters")!.Value, new TargetShape(target.VocabularySize, target.NumHeads, target.NumKeyValueHeads),
                (int?)context.Integer("numLayers"), (int?)context.Integer("hiddenSize"), (int?)context.Integer("numHeads"));
        }
        catch (ArgumentException e)
        {
            throw new StageFailureException(FailureKind.Config, e.Message, "a larger parameters setting", e);
        }

        // Positions turn plainly, which every runtime reads: a stretched target's frequencies serve lengths that no draft is trained on.
        return target with
        {
            ModelType = "llama",
            Llama3Rope = null,
            LongRope = null,
            RotarySize = null,
            HiddenSize = shape.HiddenSize,
            IntermediateSize = shape.IntermediateSize,
            NumLayers = shape.NumLayers,
            NumHeads = shape.NumHeads,
            NumKeyValueHeads = shape.NumKeyValueHeads,
            HeadSize = shape.HeadSize,
            TieWordEmbeddings = shape.TieWordEmbeddings,
        };
    }

    private static Decoder Start(StageContext context, DecoderConfig config, Device device)
    {
        if (context.HasInput("draft"))
        {
            return TensorStages.LoadDecoder(context.Input("draft"), device, Computes(context));
        }

        var decoder = new Decoder(config, device, Computes(context));
        decoder.Initialize(context.Integer("seed")!.Value);
        return decoder;
    }

    private static TrainerOptions Options(StageContext context, DecoderConfig config)
    {
        var sequenceLength = (int)Math.Min(context.Integer("sequenceLength")!.Value, config.MaxPositions);
        var batchSize = (int)context.Integer("batchSize")!.Value;
        var learningRate = context.Number("learningRate") ?? (context.HasInput("draft") ? 0.5 : 1) * config.NumParameters switch { < 10_000_000 => 2e-3, < 100_000_000 => 1e-3, _ => 6e-4 };
        return new TrainerOptions
        {
            NumSteps = Math.Max(1, (context.Integer("numTokens")!.Value + ((long)batchSize * sequenceLength) - 1) / ((long)batchSize * sequenceLength)),
            SequenceLength = sequenceLength,
            BatchSize = batchSize,
            CheckpointEvery = TimeSpan.FromSeconds(context.Number("checkpointSeconds") ?? 60),
            AccumulationSteps = (int)context.Integer("accumulationSteps")!.Value,
            LearningRate = learningRate,
            WarmupFraction = context.Number("warmupFraction")!.Value,
            MaxLogits = DraftTraining.MaxLogits(context),
            SettingsDigest = DraftTraining.SettingsDigest(context, config),
        };
    }

    /// <summary>
    /// A corpus that is read again and again is learned by heart, and decay of the weights holds that up: after 17 passes over 1.7M tokens a draft
    /// of 3.6M parameters has a held-out loss of 3.80 with 0.1, 3.73 with 0.5, 3.66 with 1 and 3.58 with 2 (benchmarks/results/2026-12-01-reference-recipe.md).
    /// </summary>
    private static double WeightDecay(double numPasses) => Math.Clamp(0.1 * numPasses, 0.1, 2);

    private static double ValidationLoss(Decoder decoder, TokenShards shards, TrainerOptions options)
    {
        if (!shards.HasSplit("validation"))
        {
            return double.NaN;
        }

        var split = shards.Split("validation");
        var rows = (int)Math.Min(16, PackedWindows.NumWindows(split, options.SequenceLength));
        if (rows == 0)
        {
            return double.NaN;
        }

        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var ids = new long[rows * options.SequenceLength];
        var labels = new long[ids.Length];
        new PackedWindows(split, 0).Fill(0, rows, options.SequenceLength, ids, labels);
        var hidden_BTD = decoder.ForwardHidden(tensor(ids, [rows, options.SequenceLength], device: decoder.Device), decoder.Dtype);
        return ChunkedCrossEntropy.Mean(hidden_BTD.view(ids.Length, -1), decoder.HeadWeight, tensor(labels, [labels.Length], device: decoder.Device));
    }
}
