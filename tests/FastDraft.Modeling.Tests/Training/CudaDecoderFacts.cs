using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.Modeling.Training;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using Decoder = FastDraft.Modeling.Models.Decoder;

namespace FastDraft.Modeling.Tests.Training;

/// <summary>The passes written out for a card, against autograd in float32 on the same card. They need one.</summary>
public sealed class CudaDecoderFacts
{
    public CudaDecoderFacts()
    {
        Assert.SkipUnless(Libtorch.WhyNoCuda() is null, $"no card: {Libtorch.WhyNoCuda()}");
        Libtorch.Load();
    }

    [Theory]
    [InlineData(768, 64, 12, 12, true)]
    [InlineData(768, 64, 12, 6, false)]
    [InlineData(128, 32, 4, 2, true)]
    public void Loss_hidden_states_and_gradients_are_those_of_autograd(int hidden, int headSize, int heads, int keyValueHeads, bool tied)
    {
        const int Vocabulary = 8192, Rows = 4, Length = 128;
        var config = new DecoderConfig
        {
            VocabularySize = Vocabulary, HiddenSize = hidden, IntermediateSize = hidden * 8 / 3 / 32 * 32, NumLayers = 2, NumHeads = heads,
            NumKeyValueHeads = keyValueHeads, HeadSize = headSize, MaxPositions = Length, TieWordEmbeddings = tied,
        };
        using var scope = NewDisposeScope();
        using var wide = new Decoder(config, CUDA);
        wide.Initialize(3);
        using var narrow = new Decoder(config, CUDA, ScalarType.BFloat16);
        using var autograd = new Decoder(config, CUDA, ScalarType.BFloat16);
        using (no_grad())
        {
            // Norms other than one, and all weights as bfloat16 holds them.
            foreach (var (name, parameter) in wide.Parameters)
            {
                parameter.mul_(parameter.dim() == 1 ? rand(parameter.shape, device: CUDA) + 0.5 : full([], 2f, device: CUDA));
                narrow.Parameters[name].copy_(parameter);
                autograd.Parameters[name].copy_(narrow.Parameters[name]);
                parameter.copy_(narrow.Parameters[name]);
            }
        }

        var ids = randint(Vocabulary, [Rows, Length], device: CUDA, dtype: ScalarType.Int64);
        var labels = randint(Vocabulary, [Rows * Length], device: CUDA, dtype: ScalarType.Int64);
        labels.narrow(0, 5, 60).fill_(-1);
        var written = TrainedModel.Of(narrow);
        Assert.NotNull(written.Backward);
        var (expectedLoss, expectedHidden) = Pass(i => wide.ForwardHidden(i), (Parameter)wide.RequireGradients().HeadWeight, null);
        var (loss, states) = Pass(written.ForwardHidden, written.Head, written.Backward);
        var (_, narrowStates) = Pass(i => autograd.ForwardHidden(i, ScalarType.BFloat16), (Parameter)autograd.RequireGradients().HeadWeight, null);
        Assert.Equal(expectedLoss, loss, 2e-3);
        Assert.True(Error(states, expectedHidden) < 1.2 * Error(narrowStates, expectedHidden));
        foreach (var (name, parameter) in wide.Parameters)
        {
            // No further from float32 than the same in bfloat16, operation by operation.
            Assert.True(
                Error(narrow.Parameters[name].grad!, parameter.grad!) < 1.2 * Error(autograd.Parameters[name].grad!, parameter.grad!),
                $"{name}: {Error(narrow.Parameters[name].grad!, parameter.grad!)}");
        }

        (double Loss, Tensor Hidden) Pass(Func<Tensor, Tensor> forward, Parameter head, Action<Tensor>? backward)
        {
            var hidden_ND = forward(ids).view(-1, hidden);
            var headGradient = zeros_like(head);
            var (summed, gradient) = ChunkedCrossEntropy.Backward(hidden_ND, head, labels, 1.0 / (labels.numel() - 60), headGradient, 100 * Vocabulary);
            head.grad = headGradient;
            if (backward is not null)
            {
                backward(gradient);
            }
            else
            {
                hidden_ND.backward([gradient]);
            }

            return (summed.item<float>(), hidden_ND.detach());
        }

        static double Error(Tensor x, Tensor reference) => (x.to(ScalarType.Float32) - reference).norm().item<float>() / reference.norm().item<float>();
    }
}
