using System.Globalization;
using FastDraft.Modeling.Native;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Training;

// Shapes: B rows of a micro batch, T positions, N = B x T, D hidden, V vocabulary.

/// <summary>The parts of a model that training touches: its parameters, the hidden states after the final norm, and the output head (one of the parameters).</summary>
public sealed record TrainedModel(
    IReadOnlyList<(string Name, Parameter Parameter)> Parameters, Func<Tensor, Tensor> ForwardHidden, Parameter Head)
{
    /// <summary>Takes d loss / d hidden [N, D] of the last forward pass and leaves gradients in the parameters, added to the head's that is there; null where autograd does that.</summary>
    public Action<Tensor>? Backward { get; init; }

    /// <summary>A decoder, by the passes that are written out for a card where it lies on one, otherwise by autograd.</summary>
    public static TrainedModel Of(Models.Decoder decoder)
    {
        IReadOnlyList<(string Name, Parameter Parameter)> parameters = [.. decoder.Parameters.Select(p => (p.Key, p.Value))];
        if (CudaDecoder.For(decoder) is { } onCard)
        {
            return new TrainedModel(parameters, onCard.Forward, (Parameter)decoder.HeadWeight) { Backward = onCard.Backward };
        }

        decoder.RequireGradients();
        return new TrainedModel(parameters, ids => decoder.ForwardHidden(ids, decoder.Dtype), (Parameter)decoder.HeadWeight);
    }
}

/// <summary>
/// Runs optimizer steps. Everything that decides the next step (weights, moments, step number) is in the checkpoint, and a batch is a pure
/// function of the step, so a run killed at any moment and resumed ends, on cpu, with the same bits.
/// </summary>
public sealed class Trainer : IDisposable
{
    private static readonly string NoScore = double.NegativeInfinity.ToString("R", CultureInfo.InvariantCulture);

    private readonly TrainedModel _model;
    private readonly IBatchSource _batches;
    private readonly TrainerOptions _options;
    private readonly string? _resumeFolder;
    private readonly TimeProvider _time;
    private readonly FlatAdamW _optimizer;
    private readonly Device _device;
    private readonly Queue<(long Step, double LearningRate, long Began, DeviceNumbers Numbers)> _pending = new();
    private readonly BatchUpload _upload;
    private long _settled;
    private Tensor? _best;

    /// <param name="resumeFolder">Where checkpoints are written and found; null keeps none.</param>
    /// <exception cref="ArgumentException">The batch does not divide into the accumulation steps.</exception>
    public Trainer(TrainedModel model, IBatchSource batches, TrainerOptions options, string? resumeFolder = null, TimeProvider? time = null)
    {
        if (options.BatchSize % options.AccumulationSteps != 0)
        {
            throw new ArgumentException($"A batch of {options.BatchSize} rows does not divide into {options.AccumulationSteps} micro batches.", nameof(options));
        }

        (_model, _batches, _options, _resumeFolder, _time) = (model, batches, options, resumeFolder, time ?? TimeProvider.System);
        _optimizer = new FlatAdamW(model.Parameters, weightDecay: options.WeightDecay);
        _device = model.Head.device;
        _upload = new BatchUpload(_device);
        if (_resumeFolder is not null && TrainingCheckpoint.Read(_resumeFolder, options.SettingsDigest, m => StateTensors(m["bestScore"] != NoScore)) is { } metadata)
        {
            NextStep = long.Parse(metadata["step"], CultureInfo.InvariantCulture);
            BestScore = double.Parse(metadata["bestScore"], CultureInfo.InvariantCulture);
            NumChecksWithoutGain = int.Parse(metadata["checksWithoutGain"], CultureInfo.InvariantCulture);
            LastLoss = metadata.TryGetValue("loss", out var loss) ? double.Parse(loss, CultureInfo.InvariantCulture) : double.NaN;
            _optimizer.WriteParameters();
        }
    }

    /// <summary>The step to run next, counted from 0; above 0 after a resume.</summary>
    public long NextStep { get; private set; }

    /// <summary>Highest score given to <see cref="KeepIfBest"/>; negative infinity before the first.</summary>
    public double BestScore { get; private set; } = double.NegativeInfinity;

    /// <summary>Scores since the best one; at the patience of the options the run has ended.</summary>
    public int NumChecksWithoutGain { get; private set; }

    /// <summary>Loss of the last step, also where a resume finds nothing left to do; NaN before the first.</summary>
    public double LastLoss { get; private set; } = double.NaN;

    /// <summary>Runs one optimizer step and waits for it.</summary>
    /// <exception cref="TrainingDivergedException">Loss or gradient norm is not finite; weights are those of the step before.</exception>
    public TrainingStep Step()
    {
        Queue();
        return Settle();
    }

    /// <summary>Runs the remaining steps while patience lasts, with a checkpoint every so many steps or seconds and one at the end.</summary>
    /// <param name="afterStep">Called after each step; false ends the run early.</param>
    /// <param name="lookEvery">
    /// At multiples of this, and at the end, the weights that <paramref name="afterStep"/> sees are those of its step. On a card the others are
    /// told while the next step is already computed, so that it never waits for this process.
    /// </param>
    public void Run(Func<TrainingStep, bool> afterStep, CancellationToken cancellationToken, long lookEvery = 1)
    {
        var saved = _time.GetTimestamp();
        var interval = _options.CheckpointEvery;
        while (NextStep < _options.NumSteps && NumChecksWithoutGain < _options.Patience)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Queue();
            var toSave = NextStep == _options.NumSteps || NextStep % _options.CheckpointEverySteps == 0 || _time.GetElapsedTime(saved) >= interval;
            var toLook = toSave || NextStep % lookEvery == 0 || _device.type != DeviceType.CUDA;
            var goOn = true;
            while (goOn && _pending.Count > (toLook ? 0 : 1))
            {
                goOn = afterStep(Settle()) && NumChecksWithoutGain < _options.Patience;
            }

            if (!goOn || toSave)
            {
                // Where a run is ended early, the step that was queued meanwhile counts.
                while (_pending.Count > 0)
                {
                    Settle();
                }

                var began = _time.GetTimestamp();
                Save();
                saved = _time.GetTimestamp();

                // The state of a large draft is gigabytes: what writing it takes is at most a twentieth of the time.
                var patient = 20 * _time.GetElapsedTime(began, saved);
                interval = patient > _options.CheckpointEvery ? patient : _options.CheckpointEvery;
            }

            if (!goOn)
            {
                return;
            }
        }
    }

    /// <summary>Remembers the weights as the best where the score is the highest so far.</summary>
    public bool KeepIfBest(double score)
    {
        if (score <= BestScore)
        {
            NumChecksWithoutGain++;
            return false;
        }

        (BestScore, NumChecksWithoutGain) = (score, 0);
        using var noGrad = no_grad();
        Best().copy_(_optimizer.Master);
        return true;
    }

    /// <summary>Puts the best weights back into the model; nothing happens where none was kept.</summary>
    public void RestoreBest()
    {
        if (!double.IsNegativeInfinity(BestScore))
        {
            using var noGrad = no_grad();
            _optimizer.Master.copy_(Best());
            _optimizer.WriteParameters();
        }
    }

    public void Save()
    {
        if (_resumeFolder is not null)
        {
            var metadata = new Dictionary<string, string>
            {
                ["format"] = "fastdraft-training/1",
                ["settings"] = _options.SettingsDigest,
                ["step"] = NextStep.ToString(CultureInfo.InvariantCulture),
                ["bestScore"] = BestScore.ToString("R", CultureInfo.InvariantCulture),
                ["checksWithoutGain"] = NumChecksWithoutGain.ToString(CultureInfo.InvariantCulture),
                ["loss"] = LastLoss.ToString("R", CultureInfo.InvariantCulture),
            };
            TrainingCheckpoint.Write(_resumeFolder, metadata, StateTensors(!double.IsNegativeInfinity(BestScore)));
        }
    }

    public void Dispose()
    {
        foreach (var pending in _pending)
        {
            pending.Numbers.Dispose();
        }

        _optimizer.Dispose();
        _upload.Dispose();
        _best?.Dispose();
    }

    /// <summary>Queues one optimizer step; on a card nothing here waits for it.</summary>
    private void Queue()
    {
        using var scope = NewDisposeScope();
        var began = _time.GetTimestamp();
        var (rows, length) = (_options.BatchSize / _options.AccumulationSteps, _options.SequenceLength);
        var ids = new long[_options.BatchSize * length];
        var labels = new long[ids.Length];
        _batches.Fill(NextStep * _options.BatchSize, _options.BatchSize, length, ids, labels);
        var scale = 1.0 / Math.Max(1, labels.Count(l => l >= 0));
        var (ids_BT, labels_BT) = _upload.ToDevice(ids, labels, length);
        var losses = zeros(1, ScalarType.Float32, _device);
        for (var micro = 0; micro < _options.AccumulationSteps; micro++)
        {
            losses.add_(Accumulate(ids_BT.narrow(0, micro * rows, rows), labels_BT.narrow(0, micro * rows, rows).flatten(), scale));
            _optimizer.TakeGradients(first: micro == 0);
        }

        var learningRate = _options.LearningRateAt(NextStep);
        var numbers = new DeviceNumbers(_optimizer.Queue(NextStep + 1, learningRate, losses, _options.MaxGradientNorm));
        _pending.Enqueue((NextStep, learningRate, began, numbers));
        NextStep++;
    }

    /// <summary>Waits for the oldest queued step.</summary>
    private TrainingStep Settle()
    {
        var (step, learningRate, began, pending) = _pending.Dequeue();
        using var numbers = pending;
        var values = numbers.Read();
        var (loss, norm) = (values[0], values[1]);
        if (!float.IsFinite(loss) || !float.IsFinite(norm))
        {
            NextStep = step;
            throw new TrainingDivergedException(step, loss, norm);
        }

        LastLoss = loss;
        var now = _time.GetTimestamp();
        var elapsed = _time.GetElapsedTime(Math.Max(began, _settled), now);
        _settled = now;
        return new TrainingStep(step + 1, loss, learningRate, norm, _options.BatchSize * _options.SequenceLength / elapsed.TotalSeconds);
    }

    private Tensor Best() => _best ??= _optimizer.Master.clone().DetachFromDisposeScope();

    /// <summary>Weights and moments, and the best weights where some were kept.</summary>
    private List<(string Name, Tensor Values)> StateTensors(bool withBest)
    {
        List<(string, Tensor)> tensors = [("weights", _optimizer.Master), ("moment1", _optimizer.Moment1), ("moment2", _optimizer.Moment2)];
        if (withBest)
        {
            tensors.Add(("best", Best()));
        }

        return tensors;
    }

    /// <summary>Forward and backward of one micro batch; its loss stays on the device.</summary>
    private Tensor Accumulate(Tensor ids_BT, Tensor labels_N, double scale)
    {
        using var scope = NewDisposeScope();
        var hidden_BTD = _model.ForwardHidden(ids_BT);
        var hidden_ND = hidden_BTD.view(-1, hidden_BTD.shape[2]);
        var headGradient = zeros_like(_model.Head);
        var (loss, gradient_ND) = ChunkedCrossEntropy.Backward(hidden_ND, _model.Head, labels_N, scale, headGradient, _options.MaxLogits);

        // Set before the backward pass, which adds the embedding's part where the head is tied to it.
        _model.Head.grad = headGradient;
        if (_model.Backward is { } backward)
        {
            backward(gradient_ND);
        }
        else
        {
            hidden_ND.backward([gradient_ND]);
        }

        return loss.MoveToOuterDisposeScope();
    }
}
