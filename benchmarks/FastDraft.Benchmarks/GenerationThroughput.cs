using System.Diagnostics;
using System.Globalization;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using TorchSharp;

namespace FastDraft.Benchmarks;

/// <summary>Tokens/s of batched sampling by a target on cuda: what the synthetic corpus of a recipe costs.</summary>
internal static class GenerationThroughput
{
    public static int Run(string folder, string[] args)
    {
        int Option(int index, int fallback) => args.Length > index ? int.Parse(args[index], CultureInfo.InvariantCulture) : fallback;
        var (rows, numTokens, promptLength) = (Option(0, 1024), Option(1, 224), Option(2, 32));
        Libtorch.Load();
        foreach (var dtype in new[] { torch.ScalarType.Float32, torch.ScalarType.BFloat16 })
        {
            using var model = new TorchCausalModel(Decoder.Load(folder, torch.CUDA, dtype));
            var best = 0.0;
            for (var run = 0; run < 3; run++)
            {
                using var session = model.StartTorchSession(rows, promptLength + numTokens);
                var random = new Random(run);
                int[] fed = [.. Enumerable.Range(0, rows * promptLength).Select(_ => random.Next(model.VocabularySize))];
                var temperatures = Enumerable.Range(0, rows).Select(r => (r % 4) switch { 0 => 0.0, 1 => 0.6, 2 => 0.8, _ => 1.0 }).ToArray();
                var uniforms = new double[rows];
                var drawn = new int[rows];
                var started = Stopwatch.GetTimestamp();
                for (var step = 0; step < numTokens; step++)
                {
                    for (var row = 0; row < rows; row++)
                    {
                        uniforms[row] = CounterRandom.NextUniform((ulong)row, step, RandomPurpose.TargetDraw);
                    }

                    session.Draw(fed, temperatures, uniforms, drawn);
                    fed = drawn;
                }

                best = Math.Max(best, (double)rows * numTokens / Stopwatch.GetElapsedTime(started).TotalSeconds);
            }

            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"generate {model.NumParameters / 1e6:F1}M {dtype}, {rows} rows x ({promptLength} + {numTokens}): best of 3 {best:F0} tokens/s"));
        }

        return 0;
    }
}
