using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using TorchSharp;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Training;

// Shapes: B batch, T positions, N = B x T, D hidden, H heads, K key-value heads, S head size, F intermediate.

/// <summary>
/// The decoder's forward and backward pass for training on a card, written out: matrix products of libtorch, and between them one kernel
/// where operations recorded by autograd would each pass over memory. Only attention is left to autograd. All in bfloat16.
/// </summary>
internal sealed class CudaDecoder(Decoder decoder, CudaKernels kernels)
{
    private readonly DecoderConfig _config = decoder.Config;
    private readonly List<Saved> _saved = [];
    private Tensor _ids = null!;
    private Tensor _last = null!;
    private Tensor _lastScales = null!;

    /// <summary>Null where the decoder is not on a card, not in bfloat16, of a shape that kernels do not take, or kernels cannot be had.</summary>
    public static CudaDecoder? For(Decoder decoder)
    {
        var config = decoder.Config;
        return decoder.Device.type == DeviceType.CUDA && decoder.Dtype == ScalarType.BFloat16
            && config.HeadSize % (2 * CudaKernels.Width) == 0 && config.IntermediateSize % CudaKernels.Width == 0
            && CudaKernels.For(config.HiddenSize) is { } kernels
            ? new CudaDecoder(decoder, kernels)
            : null;
    }

    /// <summary>Hidden states [B, T, D] after the final norm. What <see cref="Backward"/> needs lives in the caller's dispose scope.</summary>
    public Tensor Forward(Tensor ids_BT)
    {
        using var noGrad = no_grad();
        var (batch, length) = (ids_BT.shape[0], ids_BT.shape[1]);
        var (cos, sin) = decoder.Rope(RotaryPositions.IsLong(_config, (int)length));
        _saved.Clear();
        _ids = ids_BT;
        var x_ND = decoder.Embedding.index_select(0, ids_BT.flatten());
        Tensor? delta_ND = null;
        foreach (var layer in decoder.Layers)
        {
            var (input_ND, normed_ND, scales) = kernels.Norm(x_ND, delta_ND, layer.InputNorm, _config.RmsNormEpsilon);
            var query = Project(normed_ND, layer.Query, _config.NumHeads);
            var key = Project(normed_ND, layer.Key, _config.NumKeyValueHeads);
            var value = Project(normed_ND, layer.Value, _config.NumKeyValueHeads);
            kernels.Rotate(query, cos, sin, back: false);
            kernels.Rotate(key, cos, sin, back: false);
            var (attention, mixed_ND) = Attend(ref query, ref key, ref value);
            var (middle_ND, postNormed_ND, postScales) = kernels.Norm(input_ND, mixed_ND.mm(layer.Output.t()), layer.PostNorm, _config.RmsNormEpsilon);
            var (gate, up) = (postNormed_ND.mm(layer.Gate.t()), postNormed_ND.mm(layer.Up.t()));
            var gated_NF = kernels.GateUp(gate, up);
            (x_ND, delta_ND) = (middle_ND, gated_NF.mm(layer.Down.t()));
            _saved.Add(new Saved(input_ND, normed_ND, scales, query, key, value, attention, mixed_ND, middle_ND, postNormed_ND, postScales, gate, up, gated_NF));
        }

        (_last, var hidden_ND, _lastScales) = kernels.Norm(x_ND, delta_ND, decoder.FinalNorm, _config.RmsNormEpsilon);
        return hidden_ND.view(batch, length, _config.HiddenSize);

        Tensor Project(Tensor x, Tensor weight, int heads) => x.mm(weight.t()).view(batch, length, heads, _config.HeadSize);
    }

    /// <summary>d loss / d hidden of the last <see cref="Forward"/> to gradients of the parameters; the head's own, which is there already, is added to where it is tied.</summary>
    public void Backward(Tensor gradient_ND)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var length = (int)_ids.shape[1];
        var (cos, sin) = decoder.Rope(RotaryPositions.IsLong(_config, length));
        var (gradient, weight) = kernels.NormBackward(gradient_ND, _last, _lastScales, decoder.FinalNorm, null);
        decoder.FinalNorm.grad = weight;
        for (var i = _saved.Count - 1; i >= 0; i--)
        {
            using var ofLayer = NewDisposeScope();
            var (layer, saved, above) = (decoder.Layers[i], _saved[i], gradient);
            var gated_NF = above.mm(layer.Down);
            layer.Down.grad = above.t().mm(saved.Gated);
            kernels.GateUpBackward(gated_NF, saved.Gate, saved.Up);
            layer.Gate.grad = saved.Gate.t().mm(saved.PostNormed);
            layer.Up.grad = saved.Up.t().mm(saved.PostNormed);
            var (middle_ND, postWeight) = kernels.NormBackward(saved.Gate.mm(layer.Gate).addmm_(saved.Up, layer.Up, 1, 1), saved.Middle, saved.PostScales, layer.PostNorm, above);
            layer.PostNorm.grad = postWeight;
            layer.Output.grad = middle_ND.t().mm(saved.Mixed);
            var mixed_BHTS = middle_ND.mm(layer.Output).view(-1, length, _config.NumHeads, _config.HeadSize).transpose(1, 2);
            var parts = autograd.grad([saved.Attention], [saved.Query, saved.Key, saved.Value], [mixed_BHTS]);
            var (query, key, value) = (Together(parts[0]), Together(parts[1]), Together(parts[2]));
            kernels.Rotate(query, cos, sin, back: true);
            kernels.Rotate(key, cos, sin, back: true);
            var (query_ND, key_ND, value_ND) = (Flat(query), Flat(key), Flat(value));
            layer.Query.grad = query_ND.t().mm(saved.Normed);
            layer.Key.grad = key_ND.t().mm(saved.Normed);
            layer.Value.grad = value_ND.t().mm(saved.Normed);
            var normed_ND = query_ND.mm(layer.Query).addmm_(key_ND, layer.Key, 1, 1).addmm_(value_ND, layer.Value, 1, 1);
            (gradient, var inputWeight) = kernels.NormBackward(normed_ND, saved.Input, saved.Scales, layer.InputNorm, middle_ND);
            layer.InputNorm.grad = inputWeight;
            gradient.MoveToOuterDisposeScope();
            saved.Dispose();
        }

        _saved.Clear();
        var embedding_VD = ScriptedOperations.EmbeddingBackward(gradient, _ids.flatten(), _config.VocabularySize);
        if (decoder.Embedding.grad is { } others)
        {
            others.add_(embedding_VD);
        }
        else
        {
            decoder.Embedding.grad = embedding_VD;
        }

        static Tensor Together(Tensor x_BHTS) => x_BHTS.transpose(1, 2).contiguous();

        static Tensor Flat(Tensor x_BTHS) => x_BTHS.flatten(2).flatten(0, 1);
    }

    /// <summary>Leaves of a small graph of their own, and what comes of them: [B, H, T, S] and [N, H x S].</summary>
    private (Tensor Attention, Tensor Mixed) Attend(ref Tensor query, ref Tensor key, ref Tensor value)
    {
        using var gradients = enable_grad();
        (query, key, value) = (Leaf(query), Leaf(key), Leaf(value));
        var groups = _config.NumHeads / _config.NumKeyValueHeads;
        var (keys, values) = groups > 1 ? (key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)) : (key, value);
        var attention = nn.functional.scaled_dot_product_attention(query, keys, values, is_casual: true);
        return (attention, attention.detach().transpose(1, 2).flatten(2).flatten(0, 1));

        static Tensor Leaf(Tensor x_BTHS) => x_BTHS.transpose(1, 2).detach().requires_grad_(true);
    }

    private sealed record Saved(
        Tensor Input, Tensor Normed, Tensor Scales, Tensor Query, Tensor Key, Tensor Value, Tensor Attention, Tensor Mixed,
        Tensor Middle, Tensor PostNormed, Tensor PostScales, Tensor Gate, Tensor Up, Tensor Gated) : IDisposable
    {
        public void Dispose()
        {
            foreach (var tensor in new[] { Input, Normed, Scales, Query, Key, Value, Attention, Mixed, Middle, PostNormed, PostScales, Gate, Up, Gated })
            {
                tensor.Dispose();
            }
        }
    }
}
