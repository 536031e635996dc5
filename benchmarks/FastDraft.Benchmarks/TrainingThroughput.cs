using System.Diagnostics;
using System.Globalization;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.Modeling.Training;
using TorchSharp;

namespace FastDraft.Benchmarks;

/// <summary>Training tokens/s of a draft on random tokens, beside the matrix-product peak of the same machine in the same run.</summary>
internal static class TrainingThroughput
{
    public static int Run(string[] args)
    {
        long Option(int index, long fallback) => args.Length > index ? long.Parse(args[index], CultureInfo.InvariantCulture) : fallback;
        var (vocabulary, hidden, layers, rows, length, steps) = ((int)Option(0, 8192), (int)Option(1, 128), (int)Option(2, 2), (int)Option(3, 16), (int)Option(4, 256), Option(5, 10));
        Libtorch.Load();
        var device = args is [_, _, _, _, _, _, _, "cuda", ..] ? torch.CUDA : torch.CPU;
        var dtype = device.type == DeviceType.CUDA ? torch.ScalarType.BFloat16 : torch.ScalarType.Float32;
        var config = new DecoderConfig
        {
            VocabularySize = vocabulary,
            HiddenSize = hidden,
            IntermediateSize = (hidden * 8 / 3 + 31) / 32 * 32,
            NumLayers = layers,
            NumHeads = hidden / 64 is 0 ? 1 : hidden / 64,
            NumKeyValueHeads = hidden / 64 is 0 ? 1 : hidden / 64,
            HeadSize = Math.Min(64, hidden),
            MaxPositions = length,
        };
        using var decoder = new Decoder(config, device, dtype);
        decoder.Initialize(1);
        using var trainer = new Trainer(TrainedModel.Of(decoder), new RandomTokens(vocabulary), new TrainerOptions
        {
            NumSteps = steps + 3,
            SequenceLength = length,
            BatchSize = rows,
            MaxLogits = Option(6, ChunkedCrossEntropy.DefaultMaxLogits),
        });
        for (var i = 0; i < 3; i++)
        {
            trainer.Step();
        }

        var started = Stopwatch.GetTimestamp();
        for (var i = 0L; i < steps; i++)
        {
            trainer.Step();
        }

        var rate = steps * rows * length / Stopwatch.GetElapsedTime(started).TotalSeconds;
        var achieved = 6.0 * config.NumParameters * rate / 1e9;
        var peak = Peak(device, dtype);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"train {config.NumParameters / 1e6:F2}M, {rows} x {length}: {rate:F0} tokens/s, {achieved:F1} GFLOP/s (6ND) = {achieved / peak:P1} of the {peak:F0} GFLOP/s of a matrix product"));
        return 0;
    }

    private static double Peak(torch.Device device, torch.ScalarType dtype)
    {
        var size = device.type == DeviceType.CUDA ? 8192 : 1024;
        using var a = torch.randn([size, size], device: device).to_type(dtype);
        var best = double.MaxValue;
        for (var i = 0; i < 10; i++)
        {
            var started = Stopwatch.GetTimestamp();
            using var product = a.mm(a);
            _ = product[0, 0].to_type(torch.ScalarType.Float32).item<float>();
            best = Math.Min(best, Stopwatch.GetElapsedTime(started).TotalSeconds);
        }

        return 2.0 * size * size * size / best / 1e9;
    }

    private sealed class RandomTokens(int vocabulary) : IBatchSource
    {
        public void Fill(long firstRow, int rows, int sequenceLength, Span<long> ids_BT, Span<long> labels_BT)
        {
            var random = new Random((int)firstRow);
            for (var i = 0; i < ids_BT.Length; i++)
            {
                (ids_BT[i], labels_BT[i]) = (random.Next(vocabulary), random.Next(vocabulary));
            }
        }
    }
}
