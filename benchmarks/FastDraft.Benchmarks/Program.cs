// Measures what the product's speed rests on. Usage: decode <model folder> [tokens] [runs] [threads] [cpu|torch]
using System.Diagnostics;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;

if (args is ["train", ..])
{
    return FastDraft.Benchmarks.TrainingThroughput.Run(args[1..]);
}

if (args is ["generate", var target, ..])
{
    return FastDraft.Benchmarks.GenerationThroughput.Run(target, args[2..]);
}

if (args is ["prompts", ..])
{
    return FastDraft.Benchmarks.PromptRates.Run(args[1..]);
}

if (args is ["speculate", _, _, _, ..])
{
    return FastDraft.Benchmarks.SpeculativeRates.Run(args[1..]);
}

if (args is ["batch", ..])
{
    return FastDraft.Benchmarks.BatchRates.Run(args[1..]);
}

if (args is ["validate", _, ..])
{
    return FastDraft.Benchmarks.ValidationTime.Run(args[1..]);
}

if (args is ["dispatch", ..])
{
    return await FastDraft.Benchmarks.DispatchLatency.RunAsync(args[1..]);
}

if (args is ["outage", ..])
{
    return await FastDraft.Benchmarks.OutageCost.RunAsync(args[1..]);
}

if (args is ["lineage", ..])
{
    return await FastDraft.Benchmarks.LineageTime.RunAsync(args[1..]);
}

if (args is ["service-host", var data])
{
    return await FastDraft.Benchmarks.ServiceLoad.ServeAsync(data);
}

if (args is ["service-worker", ..])
{
    return await FastDraft.Benchmarks.ServiceLoad.WorkAsync(args[1..]);
}

if (args is ["service", ..])
{
    return await FastDraft.Benchmarks.ServiceLoad.RunAsync(args[1..]);
}

if (args is ["exports", _, _, _, _, _, _, ..])
{
    return FastDraft.Benchmarks.ExportRates.Run(args[1..]);
}

if (args is ["openvino-ir", var source, var destination])
{
    FastDraft.Export.OpenVino.OpenVinoModelWriter.Write(source, destination);
    return 0;
}

if (args is not ["decode", var folder, .. var rest])
{
    Console.Error.WriteLine("usage: FastDraft.Benchmarks train [vocabulary=8192] [hidden=128] [layers=2] [rows=16] [length=256] [steps=10] [maxLogits] [cpu|cuda]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks decode <model folder> [tokens=128] [runs=5] [threads=2] [engine=cpu|torch]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks generate <model folder> [rows=1024] [tokens=224] [prompt=32]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks prompts <model folder> <prompts.jsonl> [tokens=128] [threads=2]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks speculate <target folder> <draft folder> <prompts.jsonl> [tokens=128] [repeats=5] [draft lengths=1,2,3,4]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks batch <model folder> [sequences=64] [positions=128] [threads=2]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks validate <workflow.json> [activities=200] [runs=20]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks dispatch [stages=100]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks lineage [artifacts=100000] [depth=20] [families=5] (FASTDRAFT_DATABASE: PostgreSQL, otherwise SQLite)");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks outage [pairs of each kind=8] [tokens of a run=500000]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks service [seconds of load=60] [clients=200] [MiB of flood=1024]");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks exports <target folder> <draft folder> <page.md> <prompts a suite> <tokens> <suite=documents.jsonl[.gz]>... (FASTDRAFT_PEERS: folder of the peers' Python environments)");
    Console.Error.WriteLine("usage: FastDraft.Benchmarks openvino-ir <model folder> <folder to write>");
    return 64;
}

int Option(int index, int fallback) => rest.Length > index ? int.Parse(rest[index], System.Globalization.CultureInfo.InvariantCulture) : fallback;
var (numTokens, runs, threads) = (Option(0, 128), Option(1, 5), Option(2, 2));
using ICausalModel model = rest is [_, _, _, "torch", ..] ? OnTorch() : CpuCausalModel.Load(folder, threads);
int[] prompt = [1, .. Enumerable.Range(0, 31).Select(i => i * 31 % model.VocabularySize)];

// Single-token greedy decoding: the rate that a draft is to beat. The first run warms up and is not counted.
var rates = new double[runs];
for (var run = -1; run < runs; run++)
{
    using var session = model.StartSession(1, prompt.Length + numTokens);
    var logits = new float[model.VocabularySize];
    session.Forward(prompt, logits, 1);
    var started = Stopwatch.GetTimestamp();
    for (var i = 0; i < numTokens; i++)
    {
        session.Forward([Sampling.ArgMax(logits)], logits, 1);
    }

    var rate = numTokens / Stopwatch.GetElapsedTime(started).TotalSeconds;
    if (run >= 0)
    {
        rates[run] = rate;
        Console.WriteLine($"decode run {run + 1}: {rate:F1} tokens/s");
    }
}

Array.Sort(rates);
Console.WriteLine($"decode: median {rates[runs / 2]:F1}, best {rates[^1]:F1} tokens/s ({threads} threads, {numTokens} tokens a run)");

// A verification block of gamma + 1 tokens, rolled back every time: its price relative to one token bounds the speedup.
foreach (var count in new[] { 1, 2, 3, 4, 5, 8 })
{
    using var session = model.StartSession(1, 256);
    session.Forward([.. prompt, .. prompt], new float[model.VocabularySize], 1);
    var logits = new float[count * model.VocabularySize];
    var times = new double[400];
    for (var i = 0; i < times.Length; i++)
    {
        var started = Stopwatch.GetTimestamp();
        session.Forward(prompt.AsSpan(0, count), logits, count);
        times[i] = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        session.Rollback(64);
    }

    Array.Sort(times);
    Console.WriteLine($"forward of {count} tokens: best {times[0]:F3}, median {times[times.Length / 2]:F3} ms");
}

return 0;

TorchCausalModel OnTorch()
{
    Libtorch.Load();
    TorchSharp.torch.set_num_threads(threads);
    return new TorchCausalModel(Decoder.Load(folder));
}
