using System.Diagnostics;
using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Export;
using FastDraft.Export.Onnx;
using FastDraft.Export.OpenVino;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.Modeling.Tokenization;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Benchmarks;

/// <summary>
/// One target and its draft, exported and decoded greedily by every engine there is here, in one run: without and with the draft, tokens/s
/// with the prompt included, tokens accepted, and whether the text stayed the same; then what each precision of the draft is worth. Engines
/// take turns within a suite. Peers are Python environments named <c>openvino</c> (openvino_genai) and <c>llamacpp</c> (llama-cpp-python)
/// in the folder FASTDRAFT_PEERS; without it they are left out. Writes a page of Markdown.
/// Usage: exports &lt;target folder&gt; &lt;draft folder&gt; &lt;page.md&gt; &lt;prompts a suite&gt; &lt;tokens&gt; &lt;suite=documents.jsonl[.gz]&gt;...
/// </summary>
internal static class ExportRates
{
    private const int DraftLength = 4, PromptTokens = 48, NumThreads = 2, NumLatencyRepeats = 100;

    private const string Genai = "openvino_genai", LlamaCpp = "llama.cpp", OwnOpenVino = "OpenVINO, our runner", OwnOnnx = "ONNX Runtime, our runner";

    private sealed record Prompt(string Suite, int[] Ids);

    private sealed class Sums
    {
        public double Seconds { get; set; }

        public long Tokens { get; set; }

        public long Drafted { get; set; }

        public long Accepted { get; set; }

        public long Blocks { get; set; }

        public int Same { get; set; }

        public int Prompts { get; set; }

        public double Rate => Tokens / Seconds;

        public double Acceptance => (double)Accepted / Drafted;

        public void Add(double seconds, IReadOnlyList<int> ids, long drafted, long accepted, long blocks, int[] expected)
        {
            (Seconds, Tokens, Drafted, Accepted, Blocks) = (Seconds + seconds, Tokens + ids.Count, Drafted + drafted, Accepted + accepted, Blocks + blocks);
            (Same, Prompts) = (Same + (ids.SequenceEqual(expected) ? 1 : 0), Prompts + 1);
        }

        public Sums With(Sums other) => new()
        {
            Seconds = Seconds + other.Seconds, Tokens = Tokens + other.Tokens, Drafted = Drafted + other.Drafted, Accepted = Accepted + other.Accepted,
            Blocks = Blocks + other.Blocks, Same = Same + other.Same, Prompts = Prompts + other.Prompts,
        };
    }

    public static int Run(string[] args)
    {
        var (target, draft, page) = (args[0], args[1], args[2]);
        var (numPrompts, numTokens) = (int.Parse(args[3], CultureInfo.InvariantCulture), int.Parse(args[4], CultureInfo.InvariantCulture));
        var prompts = args[5..].SelectMany(a => Prompts(target, a.Split('=', 2), numPrompts)).ToList();
        string[] suites = [.. prompts.Select(p => p.Suite).Distinct()];
        var work = Directory.CreateTempSubdirectory("fastdraft-exports").FullName;
        try
        {
            var began = Stopwatch.GetTimestamp();
            var runtime = OpenVinoRuntime.Find() is { } library ? OpenVinoRuntime.Load(library) : null;
            var bytes = Write(work, target, draft);
            var peers = Environment.GetEnvironmentVariable("FASTDRAFT_PEERS");
            string Python(string environment) => Path.Join(peers, environment, "bin", "python");
            Libtorch.Load();
            TorchSharp.torch.set_num_threads(NumThreads);

            // Engines of this process: how they load a folder of a model, by its name in the work folder.
            var own = new List<(string Name, Func<string, ICausalModel> Load)>
            {
                ("engine cpu", name => CpuCausalModel.Load(name == "target" ? target : draft, NumThreads)),
                ("TorchSharp", name => new TorchCausalModel(Modeling.Models.Decoder.Load(name == "target" ? target : draft))),
                (OwnOnnx, name => OnnxCausalModel.Load(Path.Join(work, $"{name}-onnx-f32"), NumThreads)),
            };
            if (runtime is not null)
            {
                own.Add((OwnOpenVino, name => OpenVinoCausalModel.Load(runtime, Path.Join(work, $"{name}-openvino-f32"))));
            }

            var results = new Dictionary<(string Engine, bool WithDraft, string Suite), Sums>();
            Sums Of(string engine, bool withDraft, string suite)
            {
                if (!results.TryGetValue((engine, withDraft, suite), out var sums))
                {
                    results.Add((engine, withDraft, suite), sums = new());
                }

                return sums;
            }

            var expected = new Dictionary<Prompt, int[]>();
            var versions = new List<string>();
            foreach (var suite in suites)
            {
                var rows = prompts.Where(p => p.Suite == suite).ToList();
                var file = Path.Join(work, "prompts.jsonl");
                File.WriteAllLines(file, rows.Select(r => new JsonObject { ["prompt_ids"] = new JsonArray([.. r.Ids.Select(i => (JsonNode)i)]) }.ToJsonString()));
                foreach (var (name, load) in own)
                {
                    Console.Error.WriteLine($"{suite}: {name}");
                    using var model = load("target");
                    using var small = load("draft");
                    Own(model, null, rows, numTokens, expected, Of(name, false, suite));
                    Own(model, small, rows, numTokens, expected, Of(name, true, suite));
                }

                if (Directory.Exists(Path.Join(peers, "openvino")))
                {
                    Console.Error.WriteLine($"{suite}: {Genai}");
                    string[] plain = ["openvino", Path.Join(work, "target-openvino-f32"), file, $"{numTokens}"];
                    versions.Add(Peer(Python("openvino"), plain, rows, expected, Of(Genai, false, suite)));
                    Peer(Python("openvino"), [.. plain, Path.Join(work, "draft-openvino-f32"), $"{DraftLength}"], rows, expected, Of(Genai, true, suite));
                    if (runtime is not null)
                    {
                        using var model = OpenVinoCausalModel.Load(runtime, Path.Join(work, "target-openvino-int8"));
                        Own(model, null, rows, numTokens, expected, Of(OwnOpenVino + ", int8", false, suite));
                        Peer(Python("openvino"), ["openvino", Path.Join(work, "target-openvino-int8"), file, $"{numTokens}"], rows, expected, Of(Genai + ", int8", false, suite));
                    }
                }

                if (Directory.Exists(Path.Join(peers, "llamacpp")))
                {
                    Console.Error.WriteLine($"{suite}: {LlamaCpp}");
                    versions.Add(Peer(Python("llamacpp"), ["llama", Path.Join(work, "target-gguf-f32", "model.gguf"), file, $"{numTokens}"], rows, expected, Of(LlamaCpp, false, suite)));
                }
            }

            // The target decides in the fastest engine, the draft proposes in the one and at the precision it is deployed in.
            var precisions = new List<(string Draft, long? Bytes, double Seconds, Sums Sums)>();
            using (var model = CpuCausalModel.Load(target, NumThreads))
            {
                void Add(string name, long? size, Func<ICausalModel> load)
                {
                    Console.Error.WriteLine($"draft: {name}");
                    using var small = load();
                    var sums = new Sums();
                    Own(model, small, prompts, numTokens, expected, sums);
                    precisions.Add((name, size, LatencyProbe.Measure(small, prompts[0].Ids, 1, NumLatencyRepeats, TimeProvider.System)[0], sums));
                }

                Add("engine cpu, f32", null, () => CpuCausalModel.Load(draft, NumThreads));
                Add("engine cpu, bf16", null, () => CpuCausalModel.Load(draft, NumThreads, rounded: true));
                foreach (var precision in Precisions(ExportFormat.Onnx))
                {
                    Add($"ONNX Runtime, {precision}", bytes[$"draft-onnx-{precision}"], () => OnnxCausalModel.Load(Path.Join(work, $"draft-onnx-{precision}"), NumThreads));
                }

                foreach (var precision in Precisions(ExportFormat.OpenVino).Where(_ => runtime is not null))
                {
                    Add($"OpenVINO, {precision}", bytes[$"draft-openvino-{precision}"], () => OpenVinoCausalModel.Load(runtime!, Path.Join(work, $"draft-openvino-{precision}")));
                }
            }

            versions.AddRange([$"ONNX Runtime {OnnxCausalModel.RuntimeVersion}", runtime is null ? "no OpenVINO" : $"OpenVINO {runtime.Version}"]);
            Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(page))!);
            File.WriteAllText(page, Page(target, draft, suites, numPrompts, numTokens, results, precisions, versions, Stopwatch.GetElapsedTime(began)));
            Console.WriteLine(File.ReadAllText(page));
            return 0;
        }
        finally
        {
            Directory.Delete(work, recursive: true);
        }
    }

    private static IEnumerable<string> Precisions(ExportFormat format) => ModelExport.Precisions(format).Select(ModelExport.NameOf);

    /// <summary>Writes every folder that is decoded with, and gives the bytes of each one's model files.</summary>
    private static Dictionary<string, long> Write(string work, string target, string draft)
    {
        var wanted = new List<(string Name, ExportFormat Format, string Precision)>
        {
            ("target", ExportFormat.Onnx, "f32"), ("target", ExportFormat.OpenVino, "f32"), ("target", ExportFormat.OpenVino, "int8"), ("target", ExportFormat.Gguf, "f32"),
        };
        foreach (var format in new[] { ExportFormat.Onnx, ExportFormat.OpenVino })
        {
            wanted.AddRange(Precisions(format).Select(p => ("draft", format, p)));
        }

        var bytes = new Dictionary<string, long>();
        foreach (var (name, format, precision) in wanted)
        {
            var key = $"{name}-{ModelExport.NameOf(format)}-{precision}";
            var folder = Directory.CreateDirectory(Path.Join(work, key)).FullName;
            ModelExport.Write(name == "target" ? target : draft, folder, format, ModelExport.Precision(format, precision));
            bytes[key] = new DirectoryInfo(folder).EnumerateFiles().Where(f => f.Name.StartsWith("model.", StringComparison.Ordinal) || f.Name.StartsWith("openvino_model.", StringComparison.Ordinal)).Sum(f => f.Length);
        }

        return bytes;
    }

    /// <summary>The heads of the first documents that are long enough, behind what the model's texts begin with.</summary>
    private static IEnumerable<Prompt> Prompts(string target, string[] suiteAndFile, int count)
    {
        var tokenizer = HuggingFaceTokenizer.Load(target);
        int[] begin = tokenizer.TemplatePrefix.Count > 0 ? [.. tokenizer.TemplatePrefix] : DecoderConfig.Load(target).BosTokenId is { } bos ? [bos] : [];
        using var file = File.OpenRead(suiteAndFile[1]);
        using var reader = new StreamReader(suiteAndFile[1].EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(file, CompressionMode.Decompress) : file);
        var prompts = new List<Prompt>();
        while (prompts.Count < count && reader.ReadLine() is { } line)
        {
            // Whole books would be tokenized for their first words otherwise.
            var text = JsonNode.Parse(line)!["text"]!.GetValue<string>();
            var ids = tokenizer.Encode(text.Length > PromptTokens * 32 ? text[..(PromptTokens * 32)] : text);
            if (ids.Length >= PromptTokens)
            {
                prompts.Add(new(suiteAndFile[0], [.. begin, .. ids.Take(PromptTokens)]));
            }
        }

        return prompts;
    }

    private static void Own(ICausalModel target, ICausalModel? draft, List<Prompt> prompts, int numTokens, Dictionary<Prompt, int[]> expected, Sums sums)
    {
        var options = new GenerationOptions { MaxNewTokens = numTokens, DraftLength = draft is null ? 0 : DraftLength, IgnoreEos = true };
        Func<int[], GenerationResult> generate = draft is null
            ? ids => new PlainDecoder(target).Generate(ids, options)
            : ids => new SpeculativeDecoder(target, draft).Generate(ids, options);
        generate(prompts[0].Ids);
        foreach (var prompt in prompts)
        {
            var started = Stopwatch.GetTimestamp();
            var result = generate(prompt.Ids);
            var seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;

            // The first engine's text without a draft is what all others are held against.
            expected.TryAdd(prompt, result.Ids);
            sums.Add(seconds, result.Ids, result.Blocks.Sum(b => b.Drafted), result.Blocks.Sum(b => b.Accepted), result.Blocks.Count, expected[prompt]);
        }
    }

    /// <summary>Has a peer decode the prompts.</summary>
    /// <returns>Its name and version.</returns>
    private static string Peer(string python, string[] arguments, List<Prompt> prompts, Dictionary<Prompt, int[]> expected, Sums sums)
    {
        var start = new ProcessStartInfo(python) { RedirectStandardOutput = true };
        foreach (var argument in (string[])["-B", Path.Join("benchmarks", "peers", "exports_peer.py"), .. arguments])
        {
            start.ArgumentList.Add(argument);
        }

        using var process = Process.Start(start)!;
        var lines = process.StandardOutput.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        process.WaitForExit();
        if (process.ExitCode != 0 || lines.Length != prompts.Count + 1)
        {
            throw new InvalidOperationException($"{python} {string.Join(' ', start.ArgumentList)} ended with {process.ExitCode} after {lines.Length} lines.");
        }

        foreach (var (prompt, line) in prompts.Zip(lines.Skip(1)))
        {
            var row = JsonNode.Parse(line)!;
            int[] ids = [.. row["ids"]!.AsArray().Select(i => i!.GetValue<int>())];
            var accepted = row["accepted"]!.GetValue<long>();
            sums.Add(row["seconds"]!.GetValue<double>(), ids, row["drafted"]!.GetValue<long>(), accepted, Math.Max(1, ids.Length - accepted), expected[prompt]);
        }

        return JsonNode.Parse(lines[0])!["engine"]!.GetValue<string>();
    }

    private static string Page(
        string target, string draft, string[] suites, int numPrompts, int numTokens, Dictionary<(string Engine, bool WithDraft, string Suite), Sums> results,
        List<(string Draft, long? Bytes, double Seconds, Sums Sums)> precisions, List<string> versions, TimeSpan took)
    {
        var text = new StringBuilder();
        var engines = results.Keys.Select(k => k.Engine).Distinct().ToList();
        Sums? All(string engine, bool withDraft) => suites.Select(s => results.GetValueOrDefault((engine, withDraft, s))).Aggregate((a, b) => a is null ? b : b is null ? a : a.With(b));
        void Line(FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');

        Line($"# Exported engines beside their peers, {TimeProvider.System.GetUtcNow():yyyy-MM-dd}\n");
        Line($"{Name(target)} ({DecoderConfig.Load(target).NumParameters / 1e6:F2}M) and {Name(draft)} ({DecoderConfig.Load(draft).NumParameters / 1e6:F2}M), {numPrompts} prompts a suite of {PromptTokens} tokens and {numTokens} greedy tokens each, prompt included, draft length {DraftLength}, {NumThreads} threads of {Processor()}; one run, {took.TotalMinutes:F0} minutes, load {Load()} at its end.");
        Line($"All compute and cache in float32; weights are float32 unless it says otherwise (engine cpu reads those of the checkpoint as they are). {string.Join("; ", versions.Distinct())}.\n");

        Line($"## Without a draft, tokens/s\n");
        Line($"| engine | {string.Join(" | ", suites)} | all | of openvino_genai | same text |");
        Line($"|---|{string.Concat(suites.Select(_ => "---|"))}---|---|---|");
        foreach (var engine in engines.Where(e => All(e, false) is not null))
        {
            var all = All(engine, false)!;
            var peer = All(engine.EndsWith(", int8", StringComparison.Ordinal) ? Genai + ", int8" : Genai, false);
            Line($"| {engine} | {string.Join(" | ", suites.Select(s => results[(engine, false, s)].Rate.ToString("F0", CultureInfo.InvariantCulture)))} | {all.Rate:F0} | {(peer is null ? "-" : (all.Rate / peer.Rate).ToString("F2", CultureInfo.InvariantCulture))} | {all.Same} of {all.Prompts} |");
        }

        Line($"\n## With the draft, tokens/s (times the same engine without)\n");
        Line($"| engine | {string.Join(" | ", suites)} | all | of openvino_genai | acceptance | tokens accepted | same text |");
        Line($"|---|{string.Concat(suites.Select(_ => "---|"))}---|---|---|---|---|");
        foreach (var engine in engines.Where(e => All(e, true) is not null))
        {
            var (all, plain, peer) = (All(engine, true)!, All(engine, false)!, All(Genai, true));
            Line($"| {engine} | {string.Join(" | ", suites.Select(s => string.Create(CultureInfo.InvariantCulture, $"{results[(engine, true, s)].Rate:F0} ({results[(engine, true, s)].Rate / results[(engine, false, s)].Rate:F2}x)")))} | {all.Rate:F0} ({all.Rate / plain.Rate:F2}x) | {(peer is null ? "-" : (all.Rate / peer.Rate).ToString("F2", CultureInfo.InvariantCulture))} | {all.Acceptance:P2} | {all.Accepted} of {all.Drafted} | {all.Same} of {all.Prompts} |");
        }

        Line($"\nAcceptance by suite: {string.Join("; ", engines.Where(e => All(e, true) is not null).Select(e => $"{e} {string.Join(", ", suites.Select(s => results[(e, true, s)].Acceptance.ToString("P1", CultureInfo.InvariantCulture)))}"))}.\n");

        Line($"## The draft at each precision, proposing to the target in engine cpu\n");
        Line($"| draft | model files, bytes | t_draft, ms | acceptance | points from f32 | tokens a call of the target | tokens/s | same text |");
        Line($"|---|---|---|---|---|---|---|---|");
        var whole = precisions[0].Sums.Acceptance;
        foreach (var (name, size, seconds, sums) in precisions)
        {
            Line($"| {name} | {size?.ToString("N0", CultureInfo.InvariantCulture) ?? "-"} | {1e3 * seconds:F3} | {sums.Acceptance:P2} | {100 * (sums.Acceptance - whole):+0.00;-0.00;0.00} | {(double)sums.Tokens / sums.Blocks:F2} | {sums.Rate:F0} | {sums.Same} of {sums.Prompts} |");
        }

        return text.ToString();
    }

    private static string Name(string folder) => Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)));

    private static string Load() => File.Exists("/proc/loadavg") ? File.ReadAllText("/proc/loadavg").Split(' ')[0] : "unknown";

    private static string Processor() => File.Exists("/proc/cpuinfo")
        ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[^1].Trim() ?? "an unknown processor"
        : "an unknown processor";
}
