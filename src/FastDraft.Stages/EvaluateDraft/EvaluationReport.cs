using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using FastDraft.Modeling.Evaluation;

namespace FastDraft.Stages.EvaluateDraft;

/// <summary>report.json, schema <c>fastdraft-report/2</c>; version 1 had no <see cref="PromptResults"/>. Times are seconds unless the name says otherwise; NaN is written as null.</summary>
public sealed record EvaluationReport(
    string Schema,
    ReportSummary Summary,
    DateTimeOffset CreatedAt,
    IReadOnlyDictionary<string, string> Versions,
    JsonObject Settings,
    ModelFacts Target,
    ModelFacts Draft,
    double CostRatio,
    MachineFacts Machine,
    PromptFacts Prompts,
    LatencyFacts Latency,
    IReadOnlyList<ConditionResult> Results,
    IReadOnlyList<PromptResult>? PromptResults,
    IReadOnlyList<DivergenceCertificate> Divergences,
    BlockTimes BlockTimes,
    AnswerSample? Sample,
    IReadOnlyList<string> Warnings)
{
    public const string CurrentSchema = "fastdraft-report/2";

    private static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        Converters = { new FiniteNumberConverter(), new IntervalConverter() },
    };

    public string ToJson() => JsonSerializer.Serialize(this, Options);

    /// <exception cref="JsonException">The text is not a report.</exception>
    public static EvaluationReport Parse(string json) =>
        JsonSerializer.Deserialize<EvaluationReport>(json, Options) ?? throw new JsonException("The report is null.");

    private sealed class FiniteNumberConverter : JsonConverter<double>
    {
        public override bool HandleNull => true;

        public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            reader.TokenType == JsonTokenType.Null ? double.NaN : reader.GetDouble();

        public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
        {
            if (double.IsFinite(value))
            {
                writer.WriteNumberValue(Math.Round(value, 9));
            }
            else
            {
                writer.WriteNullValue();
            }
        }
    }

    private sealed class IntervalConverter : JsonConverter<Interval>
    {
        public override Interval Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            var ends = JsonSerializer.Deserialize<double[]>(ref reader, options);
            return ends is [var low, var high] ? new(low, high) : throw new JsonException("An interval has two ends.");
        }

        public override void Write(Utf8JsonWriter writer, Interval value, JsonSerializerOptions options) =>
            JsonSerializer.Serialize(writer, new[] { value.Low, value.High }, options);
    }
}

/// <summary>All suites pooled, at the lowest temperature measured and its best draft length.</summary>
public sealed record ReportSummary(
    double AcceptanceRate,
    double BlockEfficiency,
    double MemoryBoundSpeedup,
    double PredictedSpeedup,
    double WallClockSpeedup,
    Interval WallClockSpeedupCi,
    double Temperature,
    int DraftLength,
    int IdenticalPrompts,
    int NumPrompts);

public sealed record WeightFile(string File, string Digest);

public sealed record ModelFacts(
    string Name, long NumParameters, int NumLayers, int HiddenSize, int VocabularySize, IReadOnlyList<WeightFile> Weights);

public sealed record MachineFacts(
    string OperatingSystem, string Processor, int NumProcessors, int NumThreads, string Precision, string Accelerator);

public sealed record SuiteFacts(string Name, int NumPrompts, long NumPromptTokens);

public sealed record PromptFacts(string Digest, int NumPrompts, IReadOnlyList<SuiteFacts> Suites);

/// <summary>Median call times. <see cref="TargetSeconds"/> is indexed by m - 1.</summary>
public sealed record LatencyFacts(double DraftSeconds, IReadOnlyList<double> TargetSeconds, double OverheadSeconds)
{
    public LatencyModel ToModel() => new(DraftSeconds, TargetSeconds, OverheadSeconds);
}

/// <summary>One suite (or <c>all</c>) at one temperature and draft length.</summary>
public sealed record ConditionResult(
    string Suite,
    double Temperature,
    int DraftLength,
    bool Best,
    int NumPrompts,
    int NumRepeats,
    long NumBlocks,
    long NumDrafted,
    long NumAccepted,
    long NumEmitted,
    double AnalyticAcceptance,
    double AcceptanceRate,
    Interval AcceptanceRateCi,
    IReadOnlyList<double> ConditionalAcceptance,
    double BlockEfficiency,
    Interval BlockEfficiencyCi,
    double ExpectedAcceptedLength,
    double MemoryBoundSpeedup,
    double PredictedSpeedup,
    double WallClockSpeedup,
    Interval WallClockSpeedupCi,
    double PlainTokensPerSecond,
    double SpeculativeTokensPerSecond,
    double DistinctOne,
    double DistinctTwo,
    double Repetition);

/// <summary>What the blocks of one prompt added up to, so that two drafts can be compared prompt by prompt.</summary>
public sealed record PromptResult(
    string Suite, string Prompt, double Temperature, int DraftLength, long NumBlocks, long NumDrafted, long NumAccepted, long NumEmitted);

/// <summary>
/// Where a greedy output first left the target's own: position in the output, both tokens, and the target's log-probability margin
/// between its best two tokens there (methods.md 1.7: a near tie is rounding, a wide margin is a bug).
/// </summary>
public sealed record DivergenceCertificate(
    string Suite, string Prompt, int DraftLength, int Position, int PlainToken, int SpeculativeToken, double TopTwoMargin);

/// <summary>Medians over the blocks of the best draft length at the lowest temperature.</summary>
public sealed record BlockTimes(long NumBlocks, double DraftSeconds, double TargetSeconds, double RestSeconds);

/// <summary>A piece of one answer: drafted and accepted, or written by the target.</summary>
public sealed record AnswerPiece(string Text, bool Drafted);

public sealed record AnswerSample(string Prompt, IReadOnlyList<AnswerPiece> Pieces);
