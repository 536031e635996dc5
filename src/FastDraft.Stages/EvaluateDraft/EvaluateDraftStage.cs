using System.Globalization;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Evaluation;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Tokenization;
using FastDraft.Stages.IngestCorpus;
using TorchSharp;

namespace FastDraft.Stages.EvaluateDraft;

/// <summary>Measures what the draft is worth to its target on this machine: acceptance, speed-up, and that outputs stay the target's own (methods.md 2.4).</summary>
public sealed class EvaluateDraftStage(TimeProvider clock) : IStage
{
    private const int NumLatencyRepeats = 20;

    /// <summary>Above this margin in nats, a greedy divergence is not explained by rounding (methods.md 1.7).</summary>
    private const double RoundingMargin = 0.01;

    public EvaluateDraftStage()
        : this(TimeProvider.System)
    {
    }

    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        "EvaluateDraft", 3, "Measures acceptance and speed-up of the draft on held-out prompts, and checks that greedy output is unchanged.",
        [
            new("target", SettingType.Path, "Hugging Face folder of the target model.", Required: true, Content: PathContent.Model),
            new("prompts", SettingType.PathList, "jsonl files with prompt, text or turns; prompts come from the corpus when not given.", Content: PathContent.Text),
            new("numPrompts", SettingType.Integer, "Prompts of each suite, at most.", 16, Minimum: 1),
            new("promptTokens", SettingType.Integer, "Tokens of each prompt taken from the corpus.", 32, Minimum: 1, Unit: "tokens"),
            new("maxNewTokens", SettingType.Integer, "Tokens written after each prompt, at most.", 96, Minimum: 1, Unit: "tokens"),
            new("draftLengths", SettingType.TextList, "Draft lengths to measure.", new JsonArray("1", "2", "3", "4", "5", "6")),
            new("temperatures", SettingType.TextList, "Sampling temperatures; 0 is greedy.", new JsonArray("0", "0.6")),
            new("repeats", SettingType.Integer, "Timed runs of each prompt at the best draft length.", 3, Minimum: 1),
            new("sweepBudgetSeconds", SettingType.Integer, "Time for repeating the sweep over all draft lengths; one pass always runs.", 60, Minimum: 0, Unit: "s"),
            new("seed", SettingType.Integer, "Seed of the choice of prompts, sampling and bootstrap.", 1),
            TensorStages.Accelerator,
        ],
        [
            new("draft", ArtifactKind.Model, "The draft model to measure."),
            new("corpus", ArtifactKind.Corpus, "Where held-out prompts are taken from, unless prompts are given.", UnlessSetting: "prompts"),
        ],
        [new("evaluation", ArtifactKind.Evaluation, "report.json, report.html and every block.")]);

    public Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var draftLengths = Values<int>(context, "draftLengths", text => int.TryParse(text, CultureInfo.InvariantCulture, out var v) && v is >= 1 and <= 64 ? v : null);
        var temperatures = Values<double>(context, "temperatures", text => double.TryParse(text, CultureInfo.InvariantCulture, out var v) && double.IsFinite(v) && v >= 0 ? v : null);
        var (targetFolder, draftFolder) = (context.RequiredText("target"), context.Input("draft"));
        var targetConfig = TensorStages.Reading(() => DecoderConfig.Load(targetFolder));
        using var target = TensorStages.LoadForDecoding(context, targetFolder);
        using var draft = TensorStages.LoadForDecoding(context, draftFolder, rounded: true);
        var tokenizer = TensorStages.CommonTokenizer(target, targetFolder, draft, draftFolder);
        var warnings = new List<string>();
        void Warn(string text)
        {
            warnings.Add(text);
            context.Events.Log(text, StageLogLevel.Warning);
        }

        var maxNewTokens = (int)context.Integer("maxNewTokens")!.Value;
        var prompts = Prompts(context, tokenizer, Math.Min(target.ContextLength, draft.ContextLength) - Math.Max(maxNewTokens, draftLengths[^1] + 1), Warn);
        cancellationToken.ThrowIfCancellationRequested();

        context.Events.Log($"{prompts.Count} prompts; measuring the latency of single calls.");
        var draftSeconds = LatencyProbe.Measure(draft, prompts[0].Ids, 1, NumLatencyRepeats, clock)[0];
        var targetSeconds = LatencyProbe.Measure(target, prompts[0].Ids, draftLengths[^1] + 1, NumLatencyRepeats, clock);
        cancellationToken.ThrowIfCancellationRequested();

        var plan = new MeasurementPlan(
            prompts,
            temperatures,
            draftLengths,
            (int)context.Integer("repeats")!.Value,
            unchecked((ulong)context.Integer("seed")!.Value),
            TimeSpan.FromSeconds(context.Integer("sweepBudgetSeconds")!.Value),
            (double)draft.NumParameters / target.NumParameters);
        var measurement = new DraftMeasurement(
            plan, DecoderOutputs.Of(target, draft, maxNewTokens, targetConfig.EosTokenIds), clock, (done, total) => context.Events.Progress(done, total, "pairs of outputs"));
        var results = measurement.Run(overhead => new(draftSeconds, targetSeconds, overhead), cancellationToken);

        // Every lowest-temperature condition was measured, so exactly one pooled draft length is the best.
        var best = results.First(r => r.Suite == ReportPage.AllSuites && r.Best && r.Temperature == temperatures[0]);
        var divergences = Certificates(measurement, target);
        foreach (var wide in divergences.Where(d => d.TopTwoMargin > RoundingMargin))
        {
            Warn(string.Create(CultureInfo.InvariantCulture, $"Prompt {wide.Prompt} differs from the target's own output at token {wide.Position}, where the margin is {wide.TopTwoMargin:G3} nats: more than rounding explains."));
        }

        var report = new EvaluationReport(
            EvaluationReport.CurrentSchema,
            new(
                best.AcceptanceRate,
                best.BlockEfficiency,
                best.MemoryBoundSpeedup,
                best.PredictedSpeedup,
                best.WallClockSpeedup,
                best.WallClockSpeedupCi,
                best.Temperature,
                best.DraftLength,
                measurement.NumIdenticalPrompts,
                prompts.Count),
            clock.GetUtcNow(),
            Versions(),
            WithoutFolders(context.Settings),
            Facts(Path.GetFileName(Path.TrimEndingDirectorySeparator(targetFolder)), targetFolder, targetConfig),
            Facts("draft", draftFolder, TensorStages.Reading(() => DecoderConfig.Load(draftFolder))),
            plan.CostRatio,
            new(RuntimeInformation.OSDescription, Processor(), Environment.ProcessorCount, Environment.ProcessorCount, context.Text("accelerator") is "cuda" ? "f32" : "f32, draft weights in bf16", context.Text("accelerator") ?? "cpu"),
            new(Digest(prompts), prompts.Count, [.. prompts.GroupBy(p => p.Suite).Select(g => new SuiteFacts(g.Key, g.Count(), g.Sum(p => (long)p.Ids.Length)))]),
            new(draftSeconds, targetSeconds, Finite(measurement.OverheadSeconds)),
            results,
            [.. measurement.Measurements.Select(m => new PromptResult(
                m.Prompt.Suite, m.Prompt.Id, m.Temperature, m.DraftLength, m.Sums.NumBlocks, m.Sums.NumDrafted, m.Sums.NumAccepted, m.Sums.NumEmitted))],
            divergences,
            Times(measurement, best),
            Sample(measurement, best, tokenizer),
            warnings);
        Write(context, report, measurement);
        return Task.CompletedTask;
    }

    /// <summary>Models and prompts are named by their digests; where they lay is nobody's business a year later.</summary>
    private static JsonObject WithoutFolders(JsonObject settings)
    {
        var kept = settings.DeepClone().AsObject();
        kept["target"] = Path.GetFileName(Path.TrimEndingDirectorySeparator(kept["target"]!.GetValue<string>()));
        if (kept["prompts"] is JsonArray prompts)
        {
            kept["prompts"] = new JsonArray([.. prompts.Select(p => (JsonNode)Path.GetFileName(p!.GetValue<string>()))]);
        }

        return kept;
    }

    private static void Write(StageContext context, EvaluationReport report, DraftMeasurement measurement)
    {
        var folder = context.Output("evaluation");
        File.WriteAllText(Path.Join(folder, "report.json"), report.ToJson());
        File.WriteAllText(Path.Join(folder, "report.html"), ReportPage.Render(report));
        using (var blocks = new StreamWriter(new GZipStream(File.Create(Path.Join(folder, "blocks.jsonl.gz")), CompressionLevel.Optimal)))
        {
            foreach (var m in measurement.Measurements)
            {
                foreach (var b in m.Output.Blocks)
                {
                    blocks.Write(JsonSerializer.Serialize(new
                    {
                        suite = m.Prompt.Suite,
                        prompt = m.Prompt.Id,
                        temperature = m.Temperature,
                        draftLength = m.DraftLength,
                        drafted = b.Drafted,
                        accepted = b.Accepted,
                        emitted = b.Emitted,
                        draftSeconds = b.DraftSeconds,
                        targetSeconds = b.TargetSeconds,
                    }));
                    blocks.Write('\n');
                }
            }
        }

        void Metric(string name, double value)
        {
            if (double.IsFinite(value))
            {
                context.Events.Metric(name, value, 0);
            }
        }

        Metric("eval_acceptance_rate", report.Summary.AcceptanceRate);
        Metric("eval_block_efficiency", report.Summary.BlockEfficiency);
        Metric("eval_memory_bound_speedup", report.Summary.MemoryBoundSpeedup);
        Metric("eval_predicted_speedup", report.Summary.PredictedSpeedup);
        Metric("eval_wall_clock_speedup", report.Summary.WallClockSpeedup);
        context.Events.Log(ReportPage.Answer(report));
    }

    /// <summary>The distinct values in rising order.</summary>
    private static List<T> Values<T>(StageContext context, string name, Func<string, T?> parse)
        where T : struct
    {
        List<T> values = [.. context.TextList(name).Select(text => parse(text)
            ?? throw new StageFailureException(FailureKind.Config, $"{name}: '{text}' is out of range or not a number.", name == "temperatures" ? "[\"0\", \"0.6\"]" : "[\"1\", \"2\", \"4\"]")).Distinct().Order()];
        return values.Count > 0 ? values : throw new StageFailureException(FailureKind.Config, $"{name} is empty.", "give at least one value");
    }

    private static IReadOnlyList<PromptCase> Prompts(StageContext context, HuggingFaceTokenizer tokenizer, int room, Action<string> warn)
    {
        if (room < 1)
        {
            throw new StageFailureException(FailureKind.Config, "maxNewTokens leaves no room for a prompt in the models' context.", "a smaller maxNewTokens");
        }

        var files = context.TextList("prompts");
        var numPrompts = (int)context.Integer("numPrompts")!.Value;
        var prompts = files.Count > 0
            ? EvaluationPrompts.FromFiles(files.SelectMany(CorpusSources.Expand), tokenizer, numPrompts)
            : EvaluationPrompts.FromCorpus(context.Input("corpus"), tokenizer, (int)context.Integer("promptTokens")!.Value, numPrompts, context.Integer("seed")!.Value, warn);
        if (prompts.Count == 0)
        {
            throw new StageFailureException(FailureKind.Data, "No document or row is long enough to give a prompt.", "a larger corpus, fewer promptTokens, or prompt files");
        }

        var numClipped = prompts.Count(p => p.Ids.Length > room);
        if (numClipped > 0)
        {
            warn($"{numClipped} prompts were cut to their first {room} tokens, so that the output fits the context.");
        }

        return [.. prompts.Select(p => p.Ids.Length > room ? p with { Ids = p.Ids[..room] } : p)];
    }

    private static List<DivergenceCertificate> Certificates(DraftMeasurement measurement, ICausalModel target) =>
        [.. measurement.Divergences.Select(d => new DivergenceCertificate(
            d.Where.Prompt.Suite,
            d.Where.Prompt.Id,
            d.Where.DraftLength,
            d.Position,
            d.Plain,
            d.Speculative,
            LatencyProbe.TopTwoMargin(target, [.. d.Where.Prompt.Ids, .. d.Where.Output.Ids.AsSpan(0, d.Position)])))];

    private static IEnumerable<PromptMeasurement> Of(DraftMeasurement measurement, ConditionResult best) =>
        measurement.Measurements.Where(m => m.Temperature == best.Temperature && m.DraftLength == best.DraftLength);

    private static BlockTimes Times(DraftMeasurement measurement, ConditionResult best)
    {
        var blocks = Of(measurement, best).SelectMany(m => m.Output.Blocks).ToList();
        return new(
            blocks.Count,
            Finite(Quantiles.Median(blocks.Select(b => b.DraftSeconds))),
            Finite(Quantiles.Median(blocks.Select(b => b.TargetSeconds))),
            Finite(measurement.OverheadSeconds));
    }

    private static AnswerSample Sample(DraftMeasurement measurement, ConditionResult best, HuggingFaceTokenizer tokenizer)
    {
        var shown = Of(measurement, best).First();
        var pieces = new List<AnswerPiece>();
        var (position, text) = (0, "");
        void Take(int count, bool drafted)
        {
            // Pieces are differences of decoded prefixes: a character may span tokens, so tokens decoded alone would not add up.
            position = Math.Min(position + count, shown.Output.Ids.Length);
            var longer = tokenizer.Decode(shown.Output.Ids[..position]);
            if (longer.Length > text.Length)
            {
                pieces.Add(new(longer[text.Length..], drafted));
                text = longer;
            }
        }

        // What the prefill gave comes before the first block.
        Take(Math.Max(0, shown.Output.Ids.Length - shown.Output.Blocks.Sum(b => b.Emitted)), drafted: false);
        foreach (var block in shown.Output.Blocks)
        {
            var accepted = Math.Min(block.Accepted, block.Emitted);
            Take(accepted, drafted: true);
            Take(block.Emitted - accepted, drafted: false);
        }

        return new(tokenizer.Decode(shown.Prompt.Ids), pieces);
    }

    private static ModelFacts Facts(string name, string folder, DecoderConfig config) => new(
        name,
        config.NumParameters,
        config.NumLayers,
        config.HiddenSize,
        config.VocabularySize,
        [.. TensorStages.Reading(() => SafetensorsFolder.WeightFiles(folder)).Select(path => new WeightFile(Path.GetFileName(path), FileDigest(path)))]);

    internal static string FileDigest(string path)
    {
        using var file = File.OpenRead(path);
        return "sha256:" + Convert.ToHexStringLower(SHA256.HashData(file));
    }

    private static string Digest(IReadOnlyList<PromptCase> prompts) => "sha256:" + Convert.ToHexStringLower(SHA256.HashData(
        Encoding.UTF8.GetBytes(string.Join('\n', prompts.Select(p => $"{p.Suite} {p.Id} {string.Join(',', p.Ids)}")))));

    private static Dictionary<string, string> Versions() => new()
    {
        ["fastdraft"] = typeof(EvaluateDraftStage).Assembly.GetName().Version?.ToString(3) ?? "0",
        ["dotnet"] = Environment.Version.ToString(),
        ["torchSharp"] = typeof(torch).Assembly.GetName().Version?.ToString() ?? "0",
    };

    private static string Processor()
    {
        const string Info = "/proc/cpuinfo";
        var line = File.Exists(Info) ? File.ReadLines(Info).FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal)) : null;
        return line?.Split(':', 2)[^1].Trim() ?? RuntimeInformation.ProcessArchitecture.ToString();
    }

    private static double Finite(double value) => double.IsFinite(value) ? value : 0;
}
