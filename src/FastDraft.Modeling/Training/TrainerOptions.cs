namespace FastDraft.Modeling.Training;

/// <summary>What shapes a training run. Defaults are methods.md 3.9.</summary>
public sealed record TrainerOptions
{
    /// <summary>Optimizer steps.</summary>
    public required long NumSteps { get; init; }

    public required int SequenceLength { get; init; }

    /// <summary>Rows an optimizer step sees; each micro batch sees <c>BatchSize / AccumulationSteps</c> of them.</summary>
    public required int BatchSize { get; init; }

    public int AccumulationSteps { get; init; } = 1;

    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Part of the steps with a linearly rising learning rate.</summary>
    public double WarmupFraction { get; init; } = 0.02;

    /// <summary>The cosine ends at this part of the peak.</summary>
    public double FinalFraction { get; init; } = 0.1;

    public double WeightDecay { get; init; } = 0.1;

    public double MaxGradientNorm { get; init; } = 1.0;

    /// <summary>Scores in a row without a gain (see <see cref="Trainer.KeepIfBest"/>) after which a run ends, and a resumed one does not go on.</summary>
    public int Patience { get; init; } = int.MaxValue;

    public long MaxLogits { get; init; } = ChunkedCrossEntropy.DefaultMaxLogits;

    /// <summary>A checkpoint is written at multiples of this, besides those of <see cref="CheckpointEvery"/>.</summary>
    public long CheckpointEverySteps { get; init; } = long.MaxValue;

    /// <summary>Time between checkpoints, longer where writing one takes more than a twentieth of it.</summary>
    public TimeSpan CheckpointEvery { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Identifies settings and inputs: a checkpoint with another digest is not resumed.</summary>
    public string SettingsDigest { get; init; } = "";

    /// <summary>Learning rate of a step counted from 0: linear warm-up, then a cosine to <see cref="FinalFraction"/>.</summary>
    public double LearningRateAt(long step)
    {
        var warmup = Math.Max(1, (long)Math.Ceiling(NumSteps * WarmupFraction));
        if (step < warmup)
        {
            return LearningRate * (step + 1) / warmup;
        }

        var progress = (double)(step - warmup) / Math.Max(1, NumSteps - warmup);
        return LearningRate * (FinalFraction + ((1 - FinalFraction) * 0.5 * (1 + Math.Cos(Math.PI * progress))));
    }
}

/// <summary>What one optimizer step did. <see cref="TokensPerSecond"/> counts positions, with loss or not.</summary>
public sealed record TrainingStep(long Step, double Loss, double LearningRate, double GradientNorm, double TokensPerSecond);

/// <summary>Loss or gradient norm stopped being finite; the last checkpoint is from before.</summary>
public sealed class TrainingDivergedException(long step, double loss, double gradientNorm)
    : Exception($"Training stopped at step {step}: loss {loss}, gradient norm {gradientNorm} is not finite.")
{
    public long Step { get; } = step;
}
