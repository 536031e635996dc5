using System.Diagnostics;
using FastDraft.Modeling.Cpu;

namespace FastDraft.Benchmarks;

/// <summary>Steps of many sequences at once, as synthetic generation runs them. Usage: batch &lt;model folder&gt; [sequences=64] [positions=128] [threads=2]</summary>
internal static class BatchRates
{
    public static int Run(string[] args)
    {
        int Option(int index, int fallback) => args.Length > index ? int.Parse(args[index], System.Globalization.CultureInfo.InvariantCulture) : fallback;
        var (sequences, positions, threads) = (Option(1, 64), Option(2, 128), Option(3, 2));
        using var model = CpuCausalModel.Load(args[0], threads);
        using var session = model.StartSession(sequences, positions);
        var logits = new float[sequences * model.VocabularySize];
        var tokens = new int[sequences];
        var started = Stopwatch.GetTimestamp();
        for (var position = 0; position < positions; position++)
        {
            if (position == 8)
            {
                started = Stopwatch.GetTimestamp();
            }

            session.Forward(tokens, logits, 1);
        }

        Console.WriteLine($"{sequences} sequences: {(positions - 8) * sequences / Stopwatch.GetElapsedTime(started).TotalSeconds:F0} tokens/s, positions 8 to {positions}, {threads} threads");
        return 0;
    }
}
