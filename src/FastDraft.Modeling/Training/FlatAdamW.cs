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

    public void ZeroGradients()
    {
        foreach (var (parameter, _) in _views)
        {
            parameter.grad?.zero_();
        }
    }

    /// <summary>Copies the parameters' gradients into <see cref="Gradient"/> and returns their L2 norm.</summary>
    public double GatherGradients()
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var offset = 0L;
        foreach (var (parameter, _) in _views)
        {
            var slot = Gradient.narrow(0, offset, parameter.numel());
            offset += parameter.numel();
            if (parameter.grad is { } gradient)
            {
                slot.copy_(gradient.reshape(-1));
            }
            else
            {
                slot.zero_();
            }
        }

        return Gradient.norm().item<float>();
    }

    /// <summary>One update from <see cref="Gradient"/>, clipped to <paramref name="maxNorm"/>; <paramref name="step"/> counts from 1.</summary>
    public void Step(long step, double learningRate, double norm, double maxNorm)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        if (norm > maxNorm)
        {
            Gradient.mul_(maxNorm / norm);
        }

        Moment1.mul_(Beta1).add_(Gradient, 1 - Beta1);
        Moment2.mul_(Beta2).addcmul_(Gradient, Gradient, 1 - Beta2);
        var denominator = Moment2.div(1 - Math.Pow(Beta2, step)).sqrt_().add_(Epsilon);
        Master.narrow(0, 0, _numDecayed).mul_(1 - (learningRate * WeightDecay));
        Master.addcdiv_(Moment1, denominator, -learningRate / (1 - Math.Pow(Beta1, step)));
        WriteParameters();
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
    }
}
