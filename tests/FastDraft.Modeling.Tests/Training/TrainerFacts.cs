using FastDraft.Modeling.Native;
using FastDraft.Modeling.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Tests.Training;

public sealed class TrainerFacts : IDisposable
{
    private static readonly SequenceExample Sample = new([1, 5, 2, 9, 3, 7, 4, 11, 6], LossStart: 1);
    private readonly string _folder = Directory.CreateTempSubdirectory("trainer-").FullName;

    static TrainerFacts() => Libtorch.Load();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(1L << 20)]
    [InlineData(48)]
    public void Chunked_cross_entropy_equals_the_plain_one_in_loss_and_gradients(long maxLogits)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(1);
        var hidden = randn([7, 8], generator: generator).requires_grad_();
        var head = randn([16, 8], generator: generator).requires_grad_();
        var labels = tensor(new long[] { 3, -1, 15, 0, 7, -1, 7 });
        var plain = nn.functional.cross_entropy(hidden.matmul(head.t()), labels, ignore_index: -1);
        plain.backward();
        var headGradient = zeros_like(head);
        var (loss, hiddenGradient) = ChunkedCrossEntropy.Backward(hidden, head, labels, 1.0 / 5, headGradient, maxLogits);
        Assert.Equal(plain.item<float>(), loss.item<float>(), 1e-5f);
        Assert.Equal(plain.item<float>(), ChunkedCrossEntropy.Mean(hidden, head, labels, maxLogits), 1e-5);
        Assert.True(allclose(hidden.grad!, hiddenGradient, 1e-5, 1e-6));
        Assert.True(allclose(head.grad!, headGradient, 1e-5, 1e-6));
    }

    [Fact]
    public void AdamW_step_equals_the_hand_computed_one_and_decays_matrices_only()
    {
        using var scope = NewDisposeScope();
        var matrix = new TorchSharp.Modules.Parameter(full([1, 1], 2f));
        var vector = new TorchSharp.Modules.Parameter(full([1], 2f));
        using var optimizer = new FlatAdamW([("v", vector), ("m", matrix)]);
        float[] gradients = [0.5f, -0.25f];
        var (m, v, w, u) = (0.0, 0.0, 2.0, 2.0);
        for (var step = 1; step <= 2; step++)
        {
            var g = gradients[step - 1];
            using (no_grad())
            {
                optimizer.Gradient.fill_(g);
            }

            optimizer.Step(step, 0.1, zeros(1), maxNorm: 1);
            (m, v) = ((0.9 * m) + (0.1 * g), (0.95 * v) + (0.05 * g * g));
            var update = 0.1 * (m / (1 - Math.Pow(0.9, step))) / (Math.Sqrt(v / (1 - Math.Pow(0.95, step))) + 1e-8);
            (w, u) = ((w * (1 - (0.1 * 0.1))) - update, u - update);
        }

        Assert.Equal(w, matrix.item<float>(), 1e-5);
        Assert.Equal(u, vector.item<float>(), 1e-5);
    }

    [Fact]
    public void Updates_queued_after_a_loss_that_is_not_finite_change_nothing()
    {
        using var scope = NewDisposeScope();
        var matrix = new TorchSharp.Modules.Parameter(full([2, 2], 2f));
        using var optimizer = new FlatAdamW([("m", matrix)]);
        using (no_grad())
        {
            optimizer.Gradient.fill_(0.5f);
        }

        optimizer.Queue(1, 0.1, zeros(1), maxNorm: 1);
        var kept = matrix.data<float>().ToArray();
        Assert.NotEqual([2f, 2f, 2f, 2f], kept);
        optimizer.Queue(2, 0.1, full([1], float.NaN), maxNorm: 1);
        optimizer.Queue(3, 0.1, zeros(1), maxNorm: 1);
        Assert.Equal(kept, matrix.data<float>().ToArray());
    }

    [Fact]
    public void One_sample_is_learnt_by_heart_also_with_accumulation()
    {
        using var trainer = new Trainer(ToyTraining.Model(), new PaddedSequences([Sample], 1), Options(200) with { AccumulationSteps = 2, LearningRate = 0.05 });
        var losses = new List<double>();
        trainer.Run(s => Add(losses, s.Loss), TestContext.Current.CancellationToken);
        Assert.True(losses[0] > 2, $"{losses[0]}");
        Assert.True(losses[^1] < 0.1, $"{losses[^1]}");
    }

    [Fact]
    public void A_run_killed_after_any_step_and_resumed_ends_with_the_same_bits()
    {
        // FASTDRAFT_FULL=1 runs the full count.
        var numSteps = Environment.GetEnvironmentVariable("FASTDRAFT_FULL") == "1" ? 50 : 16;
        var expected = Weights(null, numSteps, killAfter: numSteps);
        for (var k = 1; k <= numSteps; k++)
        {
            var folder = Path.Combine(_folder, $"{k}");
            Weights(folder, numSteps, killAfter: k);
            Assert.Equal(expected, Weights(folder, numSteps, killAfter: numSteps));
        }
    }

    [Fact]
    public void One_that_died_behind_its_last_step_still_knows_its_loss()
    {
        using var trainer = new Trainer(ToyTraining.Model(), new PaddedSequences([Sample], 1), Options(12), _folder);
        Assert.Equal(double.NaN, trainer.LastLoss);
        trainer.Run(_ => true, TestContext.Current.CancellationToken);
        using var resumed = new Trainer(ToyTraining.Model(), new PaddedSequences([Sample], 1), Options(12), _folder);
        Assert.Equal((12, trainer.LastLoss), (resumed.NextStep, resumed.LastLoss));
        Assert.True(double.IsFinite(resumed.LastLoss));
    }

    [Fact]
    public void One_that_died_after_it_stopped_for_lack_of_gain_stays_stopped()
    {
        var options = Options(12) with { Patience = 2 };
        using var trainer = new Trainer(ToyTraining.Model(), new PaddedSequences([Sample], 1), options, _folder);
        trainer.Run(
            s =>
            {
                trainer.KeepIfBest(s.Step is 1 or 3 ? s.Step : 0);
                return true;
            },
            TestContext.Current.CancellationToken);
        Assert.Equal((5, 3, 2), (trainer.NextStep, trainer.BestScore, trainer.NumChecksWithoutGain));
        using var resumed = new Trainer(ToyTraining.Model(), new PaddedSequences([Sample], 1), options, _folder);
        resumed.Run(_ => throw new InvalidOperationException("No step is left."), TestContext.Current.CancellationToken);
        Assert.Equal((5, 3), (resumed.NextStep, resumed.BestScore));
    }

    [Fact]
    public void A_checkpoint_of_other_settings_is_not_resumed()
    {
        Weights(_folder, 12, killAfter: 3);
        using var other = new Trainer(ToyTraining.Model(), new PaddedSequences([Sample], 1), Options(12) with { SettingsDigest = "other" }, _folder);
        Assert.Equal(0, other.NextStep);
    }

    [Fact]
    public void A_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint()
    {
        var model = ToyTraining.Model();
        using var trainer = new Trainer(model, new PaddedSequences([Sample], 1), Options(12), _folder);
        var error = Assert.Throws<TrainingDivergedException>(() => trainer.Run(
            s =>
            {
                if (s.Step == 3)
                {
                    using var noGrad = no_grad();
                    model.Parameters[1].Parameter.fill_(float.NaN);
                }

                return true;
            },
            TestContext.Current.CancellationToken));
        Assert.Equal(3, error.Step);
        using var resumed = new Trainer(ToyTraining.Model(), new PaddedSequences([Sample], 1), Options(12), _folder);
        Assert.Equal(3, resumed.NextStep);
        Assert.True(double.IsFinite(resumed.Step().Loss));
    }

    [Fact]
    public void Best_weights_come_back()
    {
        var model = ToyTraining.Model();
        using var trainer = new Trainer(model, new PaddedSequences([Sample], 1), Options(12));
        trainer.Step();
        Assert.True(trainer.KeepIfBest(0.5));
        var kept = model.Head.data<float>().ToArray();
        trainer.Step();
        Assert.False(trainer.KeepIfBest(0.4));
        Assert.NotEqual(kept, model.Head.data<float>().ToArray());
        trainer.RestoreBest();
        Assert.Equal(kept, model.Head.data<float>().ToArray());
        Assert.Equal(1, trainer.NumChecksWithoutGain);
    }

    [Fact]
    public void Learning_rate_rises_linearly_and_falls_to_a_tenth()
    {
        var options = Options(100) with { LearningRate = 1, WarmupFraction = 0.1 };
        Assert.Equal(0.1, options.LearningRateAt(0), 1e-12);
        Assert.Equal(1, options.LearningRateAt(10), 1e-12);
        Assert.Equal(0.55, options.LearningRateAt(55), 1e-12);
        Assert.Equal(0.1, options.LearningRateAt(100), 1e-12);
    }

    private static TrainerOptions Options(long steps) =>
        new() { NumSteps = steps, SequenceLength = 8, BatchSize = 2, LearningRate = 0.01, CheckpointEverySteps = 1, SettingsDigest = "s" };

    private static bool Add(List<double> losses, double loss)
    {
        losses.Add(loss);
        return true;
    }

    private static float[] Weights(string? folder, long numSteps, long killAfter)
    {
        var model = ToyTraining.Model();
        using var trainer = new Trainer(model, new PaddedSequences([Sample, new([3, 1, 4, 1, 5], 2), new([9, 2, 6], 1)], 1), Options(numSteps) with { CheckpointEverySteps = long.MaxValue }, folder);
        trainer.Run(s => s.Step < killAfter, TestContext.Current.CancellationToken);
        return [.. model.Parameters.SelectMany(p => p.Parameter.data<float>().ToArray())];
    }
}
