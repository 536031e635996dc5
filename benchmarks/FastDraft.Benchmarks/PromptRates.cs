using System.Diagnostics;
using System.Text.Json;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;

namespace FastDraft.Benchmarks;

/// <summary>
/// Plain greedy decoding of real prompts, prompt included in the time: what peers/openvino_decode.py measures of openvino_genai.
/// Usage: prompts &lt;model folder&gt; &lt;prompts.jsonl&gt; [tokens=128] [threads=2]
/// </summary>
internal static class PromptRates
{
    public static int Run(string[] args)
    {
        int Option(int index, int fallback) => args.Length > index ? int.Parse(args[index], System.Globalization.CultureInfo.InvariantCulture) : fallback;
        var (numTokens, threads) = (Option(2, 128), Option(3, 2));
        using ICausalModel model = CpuCausalModel.Load(args[0], threads);
        var prompts = File.ReadLines(args[1]).Take(10)
            .Select(line => JsonDocument.Parse(line).RootElement.GetProperty("prompt_ids").EnumerateArray().Select(id => id.GetInt32()).ToArray()).ToList();

        // The first prompt once more in front: its run warms up and is not counted.
        var rates = prompts.Prepend(prompts[0]).Select(prompt =>
        {
            var started = Stopwatch.GetTimestamp();
            using var session = model.StartSession(1, prompt.Length + numTokens);
            var logits = new float[model.VocabularySize];
            session.Forward(prompt, logits, 1);
            for (var i = 1; i < numTokens; i++)
            {
                session.Forward([Sampling.ArgMax(logits)], logits, 1);
            }

            return numTokens / Stopwatch.GetElapsedTime(started).TotalSeconds;
        }).Skip(1).Order().ToList();
        Console.WriteLine($"engine cpu f32: median {rates[rates.Count / 2]:F1}, best {rates[^1]:F1} tokens/s, prompt included, {numTokens} tokens a run, {threads} threads");
        return 0;
    }
}
