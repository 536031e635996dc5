using FastDraft.Modeling.Native;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Training;

/// <summary>
/// AdamW (Loshchilov and Hutter, 1711.05101) over one flat float32 master copy of all parameters, so that a step is a handful of
/// kernels however many parameters there are. Decay acts on matrices only, which lie first. Parameters may be bfloat16.
/// </summary>
public sealed class FlatAdamW : IDisposable
{
    private readonly List<(Parameter Parameter, Tensor Master)> _views = [];
    private readonly long _numDecayed;
    private readonly Tensor _step;
    private readonly Tensor _diverged;

    public FlatAdamW(IReadOnlyList<(string Name, Parameter Parameter)> parameters, double beta1 = 0.9, double beta2 = 0.95, double weightDecay = 0.1, double epsilon = 1e-8)
    {
        (Beta1, Beta2, WeightDecay, Epsilon) = (beta1, beta2, weightDecay, epsilon);
        var ordered = parameters.OrderBy(p => p.Parameter.dim() < 2).ThenBy(p => p.Name, StringComparer.Ordinal).Select(p => p.Parameter).ToList();
        _numDecayed = ordered.Where(p => p.dim() >= 2).Sum(p => p.numel());
        var device = ordered[0].device;
        using var noGrad = no_grad();
        var total = ordered.Sum(p => p.numel());
        Master = zeros(total, ScalarType.Float32, device);
        Moment1 = zeros_like(Master);
        Moment2 = zeros_like(Master);
        Gradient = zeros_like(Master);
        _step = zeros([], ScalarType.Float32, device);
        _diverged = zeros([], ScalarType.Float32, device);
        var offset = 0L;
        foreach (var parameter in ordered)
        {
            var view = Master.narrow(0, offset, parameter.numel()).view(parameter.shape);
            view.copy_(parameter);
            _views.Add((parameter, view));
            offset += parameter.numel();
        }
    }

    public double Beta1 { get; }

    public double Beta2 { get; }

    public double WeightDecay { get; }

    public double Epsilon { get; }

    /// <summary>All parameters, matrices first, each group by ordinal name: [numParameters] float32.</summary>
    public Tensor Master { get; }

    public Tensor Moment1 { get; }

    public Tensor Moment2 { get; }

    public Tensor Gradient { get; }

    /// <summary>
    /// Moves the parameters' gradients into <see cref="Gradient"/>, to which they are added unless they are the first of a step. The sum is
    /// float32 however many micro batches there are; the parameters are left without gradients.
    /// </summary>
    public void TakeGradients(bool first)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var offset = 0L;
        foreach (var (parameter, _) in _views)
        {
            var slot = Gradient.narrow(0, offset, parameter.numel());
            offset += parameter.numel();
            if (parameter.grad is not { } gradient)
            {
                slot.mul_(first ? 0 : 1);
                continue;
            }

            if (first)
            {
                slot.copy_(gradient.reshape(-1));
            }
            else
            {
                slot.add_(gradient.reshape(-1));
            }

            parameter.grad = null;
        }
    }

    /// <summary>One update from <see cref="Gradient"/>; waits for its loss and gradient norm. See <see cref="Queue"/>.</summary>
    public (double Loss, double Norm) Step(long step, double learningRate, Tensor loss, double maxNorm)
    {
        using var scope = NewDisposeScope();
        var read = Queue(step, learningRate, loss, maxNorm).cpu().data<float>();
        return (read[0], read[1]);
    }

    /// <summary>
    /// Queues one update from <see cref="Gradient"/>, clipped to <paramref name="maxNorm"/>; <paramref name="step"/> counts from 1. Nothing changes
    /// when the loss or the gradient's L2 norm is not finite, nor in any later update: that is decided on the device, so that several can be
    /// queued before the first is looked at. Returns [loss, norm] on the device.
    /// </summary>
    public Tensor Queue(long step, double learningRate, Tensor loss, double maxNorm)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var norm = Gradient.norm();
        var scale = norm.div(maxNorm).clamp_min_(1);
        _diverged.copy_(_diverged.maximum(norm.add(loss.sum()).isfinite().logical_not().to(ScalarType.Float32)));
        _step.fill_(step);
        Update(0, _numDecayed, WeightDecay);
        Update(_numDecayed, Master.numel() - _numDecayed, 0);
        WriteParameters();
        return stack([loss.sum(), norm]).MoveToOuterDisposeScope();

        void Update(long start, long length, double decay)
        {
            Tensor Part(Tensor flat) => flat.narrow(0, start, length);
            if (length > 0)
            {
                ScriptedOperations.AdamW(Part(Master), Part(Gradient), Part(Moment1), Part(Moment2), _step, scale, _diverged, learningRate, Beta1, Beta2, decay, Epsilon);
            }
        }
    }

    /// <summary>Copies the master weights into the parameters.</summary>
    public void WriteParameters()
    {
        using var noGrad = no_grad();
        foreach (var (parameter, master) in _views)
        {
            parameter.copy_(master);
        }
    }

    public void Dispose()
    {
        foreach (var (_, master) in _views)
        {
            master.Dispose();
        }

        Master.Dispose();
        Moment1.Dispose();
        Moment2.Dispose();
        Gradient.Dispose();
        _step.Dispose();
        _diverged.Dispose();
    }
}
