using FastDraft.Modeling.Native;
using TorchSharp;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Training;

// Shapes: N rows (batch x time), C rows of one chunk, D hidden, V vocabulary.

/// <summary>
/// Cross-entropy through a tied or untied head without ever holding [N, V] logits. The gradient with respect to logits is written out
/// (softmax minus one-hot), so each chunk costs three matrix products, a softmax and a sum over its logits.
/// </summary>
public static class ChunkedCrossEntropy
{
    /// <summary>Logits of at most this many elements exist at a time (16 MiB of float32): near the caches of a CPU.</summary>
    public const long DefaultMaxLogits = 1L << 22;

    /// <summary>A label's probability counts as at least this (the smallest normal float32), so that a token costs at most 87.3 nats and never infinity.</summary>
    private const double SmallestLikelihood = 1.17549435e-38;

    /// <summary>
    /// Loss summed over labelled rows times <paramref name="scale"/>, as a scalar tensor; returns also d loss / d hidden, and adds
    /// d loss / d head into <paramref name="headGradient_VD"/>. Labels below 0 carry no loss. In bfloat16 on a card loss and slope of a chunk are one kernel.
    /// </summary>
    public static (Tensor Loss, Tensor HiddenGradient_ND) Backward(
        Tensor hidden_ND, Tensor head_VD, Tensor labels_N, double scale, Tensor headGradient_VD, long maxLogits = DefaultMaxLogits)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var hidden = hidden_ND.detach();
        var gradient_ND = empty_like(hidden);
        var loss = zeros(1, ScalarType.Float32, hidden.device);
        var (n, chunk) = (hidden.shape[0], Math.Max(1, maxLogits / head_VD.shape[0]));
        if (hidden.device_type == DeviceType.CUDA && hidden.dtype == ScalarType.BFloat16 && head_VD.shape[0] % CudaKernels.Width == 0 && CudaKernels.For((int)hidden.shape[1]) is { } kernels)
        {
            // Chunks of one size: a short last one would run its products at a lower rate.
            chunk = (n + ((n + chunk - 1) / chunk) - 1) / ((n + chunk - 1) / chunk);
            for (long start = 0; start < n; start += chunk)
            {
                using var chunkScope = NewDisposeScope();
                var length = Math.Min(chunk, n - start);
                var h_CD = hidden.narrow(0, start, length);
                var slope_CV = h_CD.mm(head_VD.t());
                loss.add_(kernels.Slope(slope_CV, labels_N.narrow(0, start, length), scale).sum());
                gradient_ND.narrow(0, start, length).addmm_(slope_CV, head_VD, 0, 1);
                headGradient_VD.addmm_(slope_CV.t(), h_CD, 1, 1);
            }

            return (loss.MoveToOuterDisposeScope(), gradient_ND.MoveToOuterDisposeScope());
        }

        for (long start = 0; start < n; start += chunk)
        {
            using var chunkScope = NewDisposeScope();
            var length = Math.Min(chunk, n - start);
            var h_CD = hidden.narrow(0, start, length);
            var labels_C1 = labels_N.narrow(0, start, length).unsqueeze(1);
            var mask_C1 = labels_C1.ge(0).to(hidden.dtype);
            var index_C1 = labels_C1.clamp_min(0);

            // The slope of a row is its probabilities with the label's lowered by 1. That one entry is written as minus the sum of the others: near
            // certainty 1 - p would lose all its bits in bfloat16. The mask goes into the narrow side of each product, not into the wide one.
            var slope_CV = matmul(h_CD, head_VD.t()).softmax(1);
            var likelihood_C1 = slope_CV.gather(1, index_C1).to(ScalarType.Float32).clamp_min_(SmallestLikelihood);
            loss.sub_(likelihood_C1.log_().mul_(mask_C1).sum().mul_(scale));
            slope_CV.scatter_(1, index_C1, zeros_like(mask_C1));
            slope_CV.scatter_(1, index_C1, slope_CV.sum(1, keepdim: true, type: ScalarType.Float32).neg_().to(slope_CV.dtype));
            gradient_ND.narrow(0, start, length).copy_(matmul(slope_CV, head_VD).mul_(mask_C1).mul_(scale));
            headGradient_VD.addmm_(slope_CV.t(), h_CD * mask_C1, 1, (float)scale);
        }

        return (loss.MoveToOuterDisposeScope(), gradient_ND.MoveToOuterDisposeScope());
    }

    /// <summary>Mean loss over labelled rows, without gradients.</summary>
    public static double Mean(Tensor hidden_ND, Tensor head_VD, Tensor labels_N, long maxLogits = DefaultMaxLogits)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var (n, chunk, sum) = (hidden_ND.shape[0], Math.Max(1, maxLogits / head_VD.shape[0]), 0.0);
        for (long start = 0; start < n; start += chunk)
        {
            using var chunkScope = NewDisposeScope();
            var length = Math.Min(chunk, n - start);
            var logits_CV = matmul(hidden_ND.narrow(0, start, length), head_VD.t()).to(ScalarType.Float32);
            sum += nn.functional.cross_entropy(logits_CV, labels_N.narrow(0, start, length), ignore_index: -1, reduction: nn.Reduction.Sum).item<float>();
        }

        return sum / Math.Max(1, labels_N.ge(0).sum().item<long>());
    }
}
