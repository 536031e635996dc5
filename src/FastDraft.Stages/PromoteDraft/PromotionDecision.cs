using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace FastDraft.Stages.PromoteDraft;

public enum PromotionVerdict
{
    /// <summary>The challenger becomes champion.</summary>
    Promote,

    /// <summary>The champion stays.</summary>
    Keep,
}

/// <summary>
/// decision.json of a <c>promotion</c> artifact. <see cref="Difference"/> is challenger minus champion, <see cref="Interval"/> its paired
/// 95 % bootstrap interval over prompts; both are null where there was no champion to compare with.
/// </summary>
public sealed record PromotionDecision(
    string Schema,
    PromotionVerdict Decision,
    string Criterion,
    double Margin,
    double Temperature,
    int DraftLength,
    double Challenger,
    double? Champion,
    double? Difference,
    IReadOnlyList<double>? Interval,
    int NumPrompts,
    string PromptsDigest,
    string Reason)
{
    public const string CurrentSchema = "fastdraft-promotion/1";
    public const string FileName = "decision.json";

    private static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    [JsonIgnore]
    public bool IsPromoted => Decision == PromotionVerdict.Promote;

    public string ToJson() => JsonSerializer.Serialize(this, Options) + "\n";

    /// <exception cref="JsonException">The text is no decision.</exception>
    public static PromotionDecision Parse(string json) =>
        JsonSerializer.Deserialize<PromotionDecision>(json, Options) ?? throw new JsonException("The decision is null.");
}
