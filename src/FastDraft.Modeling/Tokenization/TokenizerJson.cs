using System.Text.Json;

namespace FastDraft.Modeling.Tokenization;

/// <summary>Reads members of a tokenizer.json part.</summary>
internal static class TokenizerJson
{
    public static string? TypeOf(JsonElement e) => e.ValueKind == JsonValueKind.Object ? e.GetProperty("type").GetString() : null;

    public static bool Flag(JsonElement e, string name, bool otherwise) =>
        e.TryGetProperty(name, out var value) && value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : otherwise;

    public static string? Text(JsonElement e, string name) =>
        e.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    /// <summary>A member that is one character.</summary>
    public static char Character(JsonElement e, string name, string where) =>
        Text(e, name) is [var c] ? c : throw new TokenizerException($"{where}.{name} is not one character.");

    /// <summary>A pattern member, either {"String": text} or {"Regex": pattern}.</summary>
    public static TextRegex Pattern(JsonElement e) => e.GetProperty("pattern") is var pattern && pattern.ValueKind == JsonValueKind.String
        ? TextRegex.Literal(pattern.GetString()!)
        : pattern.TryGetProperty("String", out var literal) ? TextRegex.Literal(literal.GetString()!) : new TextRegex(pattern.GetProperty("Regex").GetString()!);

    public static TokenizerException Unknown(JsonElement e, string where) => new($"{where}.type '{TypeOf(e)}' is not one that can be read.");
}
