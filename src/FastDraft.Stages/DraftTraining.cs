using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Training;
using FastDraft.Stages.PyTorch;
using TorchSharp;
using TorchSharp.Modules;
using Decoder = FastDraft.Modeling.Models.Decoder;

namespace FastDraft.Stages;

/// <summary>What pre-training and fine-tuning share: a trainer over the decoder, its events, and the model folder at the end.</summary>
internal static class DraftTraining
{
    private const int NumLogPoints = 200;

    private static readonly JsonSerializerOptions MetaJson = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    /// <summary>bfloat16 matrix products on cuda with float32 master weights in the optimizer; float32 throughout on cpu.</summary>
    public static torch.ScalarType ComputeType(torch.Device device) =>
        device.type == DeviceType.CUDA ? torch.ScalarType.BFloat16 : torch.ScalarType.Float32;

    /// <summary>Logits that exist at a time on a card, which wants few large products.</summary>
    public const long MaxCardLogits = 1L << 29;

    /// <summary>A CPU wants what stays near its caches.</summary>
    public static long MaxLogits(StageContext context) => context.Text("accelerator") is "cuda" or "gaudi" ? MaxCardLogits : ChunkedCrossEntropy.DefaultMaxLogits;

    /// <summary>Identifies everything that decides the weights but the step, so that a checkpoint of other settings is not taken up.</summary>
    public static string SettingsDigest(StageContext context, DecoderConfig config)
    {
        var settings = context.Settings.DeepClone().AsObject();
        foreach (var name in TrainerSettings.WithoutEffectOnWeights)
        {
            settings.Remove(name);
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(settings.ToJsonString() + JsonSerializer.Serialize(config))));
    }

    /// <summary>Runs the trainer to its end. <paramref name="atInterval"/> is called about ten times and at the end.</summary>
    /// <exception cref="StageFailureException">The loss or a gradient is no longer finite; the last checkpoint is from before.</exception>
    public static double Run(StageContext context, Trainer trainer, TrainerOptions options, long numParameters, Action<long> atInterval, CancellationToken cancellationToken)
    {
        var logEvery = Math.Max(1, options.NumSteps / NumLogPoints);
        var intervalEvery = Math.Max(1, options.NumSteps / 10);
        var started = Stopwatch.GetTimestamp();
        var firstStep = trainer.NextStep;
        if (firstStep > 0)
        {
            context.Events.Log($"Resumed at step {firstStep} of {options.NumSteps}.");
        }

        try
        {
            trainer.Run(
                step =>
                {
                    if (step.Step % logEvery == 0 || step.Step == options.NumSteps)
                    {
                        var tokensPerSecond = (step.Step - firstStep) * (double)options.BatchSize * options.SequenceLength / Stopwatch.GetElapsedTime(started).TotalSeconds;
                        context.Events.Progress(step.Step, options.NumSteps, "steps");
                        context.Events.Metric("loss", step.Loss, step.Step);
                        context.Events.Metric("learning_rate", step.LearningRate, step.Step);
                        context.Events.Metric("gradient_norm", step.GradientNorm, step.Step);
                        context.Events.Metric("tokens_per_second", tokensPerSecond, step.Step);
                        context.Events.Metric("training_flops", 6.0 * numParameters * tokensPerSecond, step.Step);
                    }

                    if (step.Step % intervalEvery == 0 || step.Step == options.NumSteps)
                    {
                        atInterval(step.Step);
                    }

                    return true;
                },
                cancellationToken, intervalEvery);
        }
        catch (TrainingDivergedException e)
        {
            throw new StageFailureException(FailureKind.Data, e.Message, "a smaller learningRate, or a look at the corpus", e);
        }

        return trainer.LastLoss;
    }

    /// <summary>
    /// Writes what a Hugging Face folder has beside its weights: configuration, tokenizer files, and meta.json with the recipe. Nothing in it
    /// says when, where or by which build it was made, so that the same work has the same digest a year later; that is in the tables.
    /// </summary>
    public static void Describe(DecoderConfig config, string folder, string tokenizerFolder, object meta)
    {
        config.Save(folder);
        foreach (var name in new[] { "tokenizer.json", "tokenizer_config.json" })
        {
            var source = Path.Join(tokenizerFolder, name);
            if (File.Exists(source))
            {
                File.WriteAllBytes(Path.Join(folder, name), File.ReadAllBytes(source));
            }
        }

        File.WriteAllText(Path.Join(folder, "meta.json"), JsonSerializer.Serialize(meta, MetaJson) + "\n");
    }
}
