using TorchSharp;
using TorchSharp.Modules;
using FastDraft.Modeling.Training;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Tests.Training;

/// <summary>Tells whether libtorch loads in this process, and makes the toy model that the training facts share.</summary>
internal static class ToyTraining
{
    public const string NoTorch = "SKIPPED: libtorch does not load in this process.";

    public static bool TorchLoads { get; } = Try();

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

    private static bool Try()
    {
        try
        {
            using var one = ones(1);
            return true;
        }
        catch (Exception e) when (e is DllNotFoundException or TypeInitializationException or NotSupportedException or EntryPointNotFoundException)
        {
            return false;
        }
    }
}
