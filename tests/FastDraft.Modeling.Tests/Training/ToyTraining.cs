using FastDraft.Modeling.Native;
using FastDraft.Modeling.Training;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Tests.Training;

/// <summary>Loads libtorch and makes the toy model that the training facts share.</summary>
internal static class ToyTraining
{
    static ToyTraining() => Libtorch.Load();

    /// <summary>A tied bigram model: hidden = tanh(embedding[id] W) * gain.</summary>
    public static TrainedModel Model(int vocabulary = 16, int hidden = 8, double scale = 0.3)
    {
        using var noGrad = no_grad();
        Tensor Values(int seed, params long[] shape)
        {
            var random = new Random(seed);
            return tensor(Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(_ => (float)((random.NextDouble() - 0.5) * 2 * scale)).ToArray(), shape);
        }

        var embedding = new Parameter(Values(1, vocabulary, hidden));
        var weight = new Parameter(Values(2, hidden, hidden));
        var gain = new Parameter(ones(hidden));
        return new([("embedding", embedding), ("weight", weight), ("gain", gain)],
            ids => embedding.index_select(0, ids.reshape(-1)).view(ids.shape[0], ids.shape[1], hidden).matmul(weight).tanh().mul(gain), embedding);
    }
}
