using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Decoding;

namespace FastDraft.Benchmarks;

/// <summary>
/// Greedy decoding of real prompts without and with a draft, alternating, prompts included in the time. Prints tokens/s of each draft length
/// and whether the text stayed the same.
/// Usage: speculate &lt;target folder&gt; &lt;draft folder&gt; &lt;prompts.jsonl&gt; [tokens=128] [repeats=5] [draft lengths=1,2,3,4] [draft in bfloat16=1]
/// </summary>
internal static class SpeculativeRates
{
    public static int Run(string[] args)
    {
        int Option(int index, int fallback) => args.Length > index ? int.Parse(args[index], CultureInfo.InvariantCulture) : fallback;
        var (numTokens, repeats) = (Option(3, 128), Option(4, 5));
        int[] lengths = [0, .. (args.Length > 5 ? args[5] : "1,2,3,4").Split(',').Select(t => int.Parse(t, CultureInfo.InvariantCulture))];
        using var target = CpuCausalModel.Load(args[0]);
        using var draft = CpuCausalModel.Load(args[1], rounded: Option(6, 1) == 1);
        var prompts = File.ReadLines(args[2])
            .Select(line => JsonDocument.Parse(line).RootElement.GetProperty("prompt_ids").EnumerateArray().Select(id => id.GetInt32()).ToArray()).ToList();
        var plain = new PlainDecoder(target);
        var speculative = new SpeculativeDecoder(target, draft);
        var seconds = lengths.ToDictionary(n => n, _ => 0.0);
        var (emitted, blocks) = (lengths.ToDictionary(n => n, _ => 0L), lengths.ToDictionary(n => n, _ => 0L));
        var identical = true;

        // The first repeat warms up and is not counted.
        for (var repeat = -1; repeat < repeats; repeat++)
        {
            foreach (var prompt in prompts)
            {
                IReadOnlyList<int>? expected = null;
                foreach (var length in lengths)
                {
                    var options = new GenerationOptions { MaxNewTokens = numTokens, DraftLength = length };
                    var started = Stopwatch.GetTimestamp();
                    var result = length == 0 ? plain.Generate(prompt, options) : speculative.Generate(prompt, options);
                    var took = Stopwatch.GetElapsedTime(started).TotalSeconds;
                    identical &= (expected ??= result.Ids).SequenceEqual(result.Ids);
                    if (repeat >= 0)
                    {
                        seconds[length] += took;
                        emitted[length] += result.Ids.Length;
                        blocks[length] += result.Blocks.Count;
                    }
                }
            }
        }

        foreach (var length in lengths)
        {
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"draft length {length}: {emitted[length] / seconds[length]:F0} tokens/s, {seconds[0] / seconds[length]:F2}x, {(double)emitted[length] / blocks[length]:F2} tokens a target call, {1e6 * seconds[length] / blocks[length]:F0} us a call"));
        }

        Console.WriteLine($"{prompts.Count} prompts x {numTokens} tokens, {repeats} repeats, {target.NumThreads} threads; the text is {(identical ? "the same at every draft length" : "NOT the same")}");
        return identical ? 0 : 1;
    }
}
