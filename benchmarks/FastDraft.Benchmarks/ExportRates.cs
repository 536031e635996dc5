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
/// with the prompt included, tokens accepted, and whether the text stayed the same; then what each precision of the draft is worth. All
/// engines are loaded at once and take turns at every prompt, so that whatever else the machine does hits them alike. Peers are Python
/// environments named <c>openvino</c> (openvino_genai) and <c>llamacpp</c> (llama-cpp-python) in the folder FASTDRAFT_PEERS; without it
/// they are left out. Writes a page of Markdown, anew after every prompt: a run that is cut short leaves what it has measured.
/// Usage: exports &lt;target folder&gt; &lt;draft folder&gt; &lt;page.md&gt; &lt;prompts a suite&gt; &lt;tokens&gt; &lt;suite=documents.jsonl[.gz]&gt;...
/// </summary>
internal static class ExportRates
{
    private const int DraftLength = 4, PromptTokens = 48, NumThreads = 2, NumLatencyRepeats = 100;

    private const string Genai = "openvino_genai", LlamaCpp = "llama.cpp", OwnOpenVino = "OpenVINO, our runner", OwnOnnx = "ONNX Runtime, our runner", Int8 = ", int8";

    private sealed record Prompt(string Suite, int[] Ids);

    private sealed record Decoded(double Seconds, double CpuSeconds, int[] Ids, long Drafted, long Accepted, long Blocks);

    private sealed record Engine(string Name, bool WithDraft, Func<int[], Decoded> Decode);

    private sealed class Sums
    {
        public double Seconds { get; set; }

        /// <summary>Of all threads of the engine's process: what waiting for other load does not lengthen.</summary>
        public double CpuSeconds { get; set; }

        public long Tokens { get; set; }

        public long Drafted { get; set; }

        public long Accepted { get; set; }

        public long Blocks { get; set; }

        public int Same { get; set; }

        public int Prompts { get; set; }

        /// <summary>Seconds of each prompt, in the order of prompts.</summary>
        public List<double> Each { get; init; } = [];

        public double Rate => Tokens / Seconds;

        public double Acceptance => (double)Accepted / Drafted;

        public void Add(Decoded text, int[] expected)
        {
            (Seconds, CpuSeconds, Tokens) = (Seconds + text.Seconds, CpuSeconds + text.CpuSeconds, Tokens + text.Ids.Length);
            (Drafted, Accepted, Blocks) = (Drafted + text.Drafted, Accepted + text.Accepted, Blocks + text.Blocks);
            (Same, Prompts) = (Same + (text.Ids.SequenceEqual(expected) ? 1 : 0), Prompts + 1);
            Each.Add(text.Seconds);
        }

        /// <summary>How many times as fast as another at the prompt in the middle: bursts of other load hit single prompts.</summary>
        public double MedianRatio(Sums other)
        {
            double[] ratios = [.. other.Each.Zip(Each, (theirs, ours) => theirs / ours).Order()];
            return ratios[ratios.Length / 2];
        }

        public Sums With(Sums other) => new()
        {
            Seconds = Seconds + other.Seconds, CpuSeconds = CpuSeconds + other.CpuSeconds, Tokens = Tokens + other.Tokens, Drafted = Drafted + other.Drafted, Accepted = Accepted + other.Accepted,
            Blocks = Blocks + other.Blocks, Same = Same + other.Same, Prompts = Prompts + other.Prompts, Each = [.. Each, .. other.Each],
        };
    }

    /// <summary>A peer's Python process: a prompt a line in, its text a line out.</summary>
    private sealed class Peer : IDisposable
    {
        private readonly Process _process;
        private readonly string _name;

        public Peer(string python, params string[] arguments)
        {
            var start = new ProcessStartInfo(python) { RedirectStandardInput = true, RedirectStandardOutput = true };
            foreach (var argument in (string[])["-B", Path.Join("benchmarks", "peers", "exports_peer.py"), .. arguments])
            {
                start.ArgumentList.Add(argument);
            }

            _name = $"{python} {string.Join(' ', start.ArgumentList)}";
            _process = Process.Start(start)!;
            Version = Answer()["engine"]!.GetValue<string>();
        }

        public string Version { get; }

        public Decoded Decode(int[] prompt)
        {
            _process.StandardInput.WriteLine(JsonSerializer.Serialize(prompt));
            _process.StandardInput.Flush();
            var row = Answer();
            int[] ids = [.. row["ids"]!.AsArray().Select(i => i!.GetValue<int>())];
            var accepted = row["accepted"]!.GetValue<long>();
            return new(row["seconds"]!.GetValue<double>(), row["cpu"]!.GetValue<double>(), ids, row["drafted"]!.GetValue<long>(), accepted, Math.Max(1, ids.Length - accepted));
        }

        public void Dispose()
        {
            _process.StandardInput.Close();
            _process.WaitForExit();
            _process.Dispose();
        }

        private JsonNode Answer()
        {
            if (_process.StandardOutput.ReadLine() is { } line)
            {
                return JsonNode.Parse(line)!;
            }

            _process.WaitForExit();
            throw new InvalidOperationException($"{_name} ended with {_process.ExitCode}; what it said is above.");
        }
    }

    public static int Run(string[] args)
    {
        var (target, draft, page) = (args[0], args[1], args[2]);
        var (numPrompts, numTokens) = (int.Parse(args[3], CultureInfo.InvariantCulture), int.Parse(args[4], CultureInfo.InvariantCulture));
        var prompts = args[5..].SelectMany(a => Prompts(target, a.Split('=', 2), numPrompts)).ToList();
        string[] suites = [.. prompts.Select(p => p.Suite).Distinct()];
        var began = Stopwatch.GetTimestamp();
        void Say(string what) => Console.Error.WriteLine($"{Stopwatch.GetElapsedTime(began):mm\\:ss} load {Load():F1}  {what}");

        var work = Directory.CreateTempSubdirectory("fastdraft-exports").FullName;
        var loaded = new Stack<IDisposable>();
        T Keep<T>(T opened)
            where T : IDisposable
        {
            loaded.Push(opened);
            return opened;
        }

        try
        {
            var runtime = OpenVinoRuntime.Find() is { } library ? OpenVinoRuntime.Load(library) : null;
            Say("writing folders");
            var bytes = Write(work, target, draft);
            var peers = Environment.GetEnvironmentVariable("FASTDRAFT_PEERS");
            Libtorch.Load();
            TorchSharp.torch.set_num_threads(NumThreads);

            var versions = new HashSet<string> { $"ONNX Runtime {OnnxCausalModel.RuntimeVersion}", runtime is null ? "no OpenVINO" : $"OpenVINO {runtime.Version}" };
            var engines = new List<Engine>();
            void Own(string name, ICausalModel model, ICausalModel? small)
            {
                engines.Add(new(name, false, Decoder(Keep(model), null, numTokens)));
                if (small is not null)
                {
                    engines.Add(new(name, true, Decoder(model, Keep(small), numTokens)));
                }
            }

            void Other(string name, bool withDraft, string environment, params string[] arguments)
            {
                if (Directory.Exists(Path.Join(peers, environment)))
                {
                    Say($"loading {name}");
                    var peer = Keep(new Peer(Path.Join(peers, environment, "bin", "python"), arguments));
                    versions.Add(peer.Version);
                    engines.Add(new(name, withDraft, peer.Decode));
                }
            }

            // Peers stand behind the engine of ours that they are compared with: neighbours in time.
            Own("engine cpu", CpuCausalModel.Load(target, NumThreads), CpuCausalModel.Load(draft, NumThreads));
            Own("TorchSharp", new TorchCausalModel(Modeling.Models.Decoder.Load(target)), new TorchCausalModel(Modeling.Models.Decoder.Load(draft)));
            Own(OwnOnnx, OnnxCausalModel.Load(Path.Join(work, "target-onnx-f32"), NumThreads), OnnxCausalModel.Load(Path.Join(work, "draft-onnx-f32"), NumThreads));
            if (runtime is not null)
            {
                Own(OwnOpenVino, OpenVinoCausalModel.Load(runtime, Path.Join(work, "target-openvino-f32")), OpenVinoCausalModel.Load(runtime, Path.Join(work, "draft-openvino-f32")));
            }

            Other(Genai, false, "openvino", "openvino", Path.Join(work, "target-openvino-f32"), $"{numTokens}");
            Other(Genai, true, "openvino", "openvino", Path.Join(work, "target-openvino-f32"), $"{numTokens}", Path.Join(work, "draft-openvino-f32"), $"{DraftLength}");
            if (runtime is not null)
            {
                Own(OwnOpenVino + Int8, OpenVinoCausalModel.Load(runtime, Path.Join(work, "target-openvino-int8")), null);
            }

            Other(Genai + Int8, false, "openvino", "openvino", Path.Join(work, "target-openvino-int8"), $"{numTokens}");
            Other(LlamaCpp, false, "llamacpp", "llama", Path.Join(work, "target-gguf-f32", "model.gguf"), $"{numTokens}");

            var results = new Dictionary<(string Engine, bool WithDraft, string Suite), Sums>();
            var precisions = new List<(string Draft, long? Bytes, double Seconds, Sums Sums)>();
            var loads = new List<double>();
            Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(page))!);
            void Save(string? state)
            {
                loads.Add(Load());
                File.WriteAllText(page, Page(target, draft, suites, numPrompts, numTokens, results, precisions, versions, Stopwatch.GetElapsedTime(began), loads, state));
            }

            // Warms up with a prompt that no other begins like: a peer keeps the caches of those it has seen.
            Say($"warming up {engines.Count} engines");
            int[] warmUp = [.. prompts[0].Ids.Reverse()];
            engines.ForEach(e => e.Decode(warmUp));

            // The first engine's text without a draft is what all others are held against.
            var expected = new Dictionary<Prompt, int[]>();
            for (var i = 0; i < prompts.Count; i++)
            {
                Say($"{prompts[i].Suite}: prompt {i + 1} of {prompts.Count}");
                foreach (var engine in engines)
                {
                    var text = engine.Decode(prompts[i].Ids);
                    expected.TryAdd(prompts[i], text.Ids);
                    SumsOf(results, (engine.Name, engine.WithDraft, prompts[i].Suite)).Add(text, expected[prompts[i]]);
                }

                Save($"Unfinished: {i + 1} of {prompts.Count} prompts");
            }

            Release(loaded);

            // The target decides in the fastest engine, the draft proposes in the one and at the precision it is deployed in.
            using var model = CpuCausalModel.Load(target, NumThreads);
            void Add(string name, long? size, Func<ICausalModel> load)
            {
                Say($"draft: {name}");
                using var small = load();
                var (decode, sums) = (Decoder(model, small, numTokens), new Sums());
                decode(warmUp);
                prompts.ForEach(p => sums.Add(decode(p.Ids), expected[p]));
                precisions.Add((name, size, LatencyProbe.Measure(small, prompts[0].Ids, 1, NumLatencyRepeats, TimeProvider.System)[0], sums));
                Save("Unfinished: drafts are missing");
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

            Save(null);
            Console.WriteLine(File.ReadAllText(page));
            return 0;
        }
        finally
        {
            Release(loaded);
            Directory.Delete(work, recursive: true);
        }
    }

    private static void Release(Stack<IDisposable> loaded)
    {
        while (loaded.TryPop(out var one))
        {
            one.Dispose();
        }
    }

    private static Sums SumsOf(Dictionary<(string Engine, bool WithDraft, string Suite), Sums> results, (string Engine, bool WithDraft, string Suite) key)
    {
        if (!results.TryGetValue(key, out var sums))
        {
            results.Add(key, sums = new());
        }

        return sums;
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

    private static Func<int[], Decoded> Decoder(ICausalModel target, ICausalModel? draft, int numTokens)
    {
        var options = new GenerationOptions { MaxNewTokens = numTokens, DraftLength = draft is null ? 0 : DraftLength, IgnoreEos = true };
        return ids =>
        {
            var (started, used) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
            var result = draft is null ? new PlainDecoder(target).Generate(ids, options) : new SpeculativeDecoder(target, draft).Generate(ids, options);
            var seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
            return new(seconds, (Environment.CpuUsage.TotalTime - used).TotalSeconds, result.Ids, result.Blocks.Sum(b => b.Drafted), result.Blocks.Sum(b => b.Accepted), result.Blocks.Count);
        };
    }

    private static string Page(
        string target, string draft, string[] suites, int numPrompts, int numTokens, Dictionary<(string Engine, bool WithDraft, string Suite), Sums> results,
        List<(string Draft, long? Bytes, double Seconds, Sums Sums)> precisions, IEnumerable<string> versions, TimeSpan took, List<double> loads, string? state)
    {
        var text = new StringBuilder();
        var engines = results.Keys.Select(k => k.Engine).Distinct().ToList();
        Sums? All(string engine, bool withDraft) => suites.Select(s => results.GetValueOrDefault((engine, withDraft, s))).Aggregate((a, b) => a is null ? b : b is null ? a : a.With(b));
        string Cell(string engine, bool withDraft, string suite, Func<Sums, FormattableString> show) =>
            results.GetValueOrDefault((engine, withDraft, suite)) is { } sums ? show(sums).ToString(CultureInfo.InvariantCulture) : "-";
        void Line(FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
        static FormattableString Against(Sums all, Sums? peer) => peer is null ? $"- | -" : (FormattableString)$"{all.Rate / peer.Rate:F2} | {all.MedianRatio(peer):F2}";

        Line($"# Exported engines beside their peers, {TimeProvider.System.GetUtcNow():yyyy-MM-dd}\n");
        if (state is not null)
        {
            Line($"**{state}.**\n");
        }

        Line($"{Name(target)} ({DecoderConfig.Load(target).NumParameters / 1e6:F2}M) and {Name(draft)} ({DecoderConfig.Load(draft).NumParameters / 1e6:F2}M), {numPrompts} prompts a suite of {PromptTokens} tokens and {numTokens} greedy tokens each, prompt included, draft length {DraftLength}, {NumThreads} threads of {Processor()}; one run, {took.TotalMinutes:F0} minutes, load {loads.Min():F1} to {loads.Max():F1}, its own included. Engines take turns at every prompt.");
        Line($"All compute and cache in float32; weights are float32 unless it says otherwise (engine cpu reads those of the checkpoint as they are). {string.Join("; ", versions)}.\n");

        Line($"## Without a draft, tokens/s\n");
        Line($"| engine | {string.Join(" | ", suites)} | all | of openvino_genai | at the median prompt | CPU ms a token | same text |");
        Line($"|---|{string.Concat(suites.Select(_ => "---|"))}---|---|---|---|---|");
        foreach (var engine in engines)
        {
            var all = All(engine, false)!;
            var peer = All(engine.EndsWith(Int8, StringComparison.Ordinal) ? Genai + Int8 : Genai, false);
            Line($"| {engine} | {string.Join(" | ", suites.Select(s => Cell(engine, false, s, sums => $"{sums.Rate:F0}")))} | {all.Rate:F0} | {Against(all, peer)} | {1e3 * all.CpuSeconds / all.Tokens:F2} | {all.Same} of {all.Prompts} |");
        }

        Line($"\n## With the draft, tokens/s (times the same engine without)\n");
        Line($"| engine | {string.Join(" | ", suites)} | all | of openvino_genai | at the median prompt | CPU ms a token | acceptance | tokens accepted | same text |");
        Line($"|---|{string.Concat(suites.Select(_ => "---|"))}---|---|---|---|---|---|---|");
        foreach (var engine in engines.Where(e => All(e, true) is not null))
        {
            var (all, plain, peer) = (All(engine, true)!, All(engine, false)!, All(Genai, true));
            Line($"| {engine} | {string.Join(" | ", suites.Select(s => Cell(engine, true, s, sums => $"{sums.Rate:F0} ({sums.Rate / results[(engine, false, s)].Rate:F2}x)")))} | {all.Rate:F0} ({all.Rate / plain.Rate:F2}x) | {Against(all, peer)} | {1e3 * all.CpuSeconds / all.Tokens:F2} | {all.Acceptance:P2} | {all.Accepted} of {all.Drafted} | {all.Same} of {all.Prompts} |");
        }

        Line($"\nAcceptance by suite: {string.Join("; ", engines.Where(e => All(e, true) is not null).Select(e => $"{e} {string.Join(", ", suites.Select(s => Cell(e, true, s, sums => $"{sums.Acceptance:P1}")))}"))}.\n");

        Line($"## The draft at each precision, proposing to the target in engine cpu\n");
        Line($"| draft | model files, bytes | t_draft, ms | acceptance | points from f32 | tokens a call of the target | tokens/s | same text |");
        Line($"|---|---|---|---|---|---|---|---|");
        foreach (var (name, size, seconds, sums) in precisions)
        {
            var points = 100 * (sums.Acceptance - precisions[0].Sums.Acceptance);
            Line($"| {name} | {size?.ToString("N0", CultureInfo.InvariantCulture) ?? "-"} | {1e3 * seconds:F3} | {sums.Acceptance:P2} | {points:+0.00;-0.00;0.00} | {(double)sums.Tokens / sums.Blocks:F2} | {sums.Rate:F0} | {sums.Same} of {sums.Prompts} |");
        }

        return text.ToString();
    }

    private static string Name(string folder) => Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)));

    private static double Load() =>
        File.Exists("/proc/loadavg") ? double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture) : double.NaN;

    private static string Processor() => File.Exists("/proc/cpuinfo")
        ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[^1].Trim() ?? "an unknown processor"
        : "an unknown processor";
}
