using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace FastDraft.Core.Workflows;

/// <summary>
/// Converts a JSON value to an Elsa type alias. Studio's editors write text, so text is read as the type; what cannot be read is an error
/// and never, as in Elsa, a zero.
/// </summary>
internal static class TypedValue
{
    // Days; a timer further away than this is a slip of the pen, and DateTimeOffset ends somewhere.
    private const int MaxDays = 36_500;

    /// <returns>The value in the type's JSON form (a time span and a time stay text), or null and what was expected. Null converts to null.</returns>
    public static (JsonNode? Value, string? Error) Convert(JsonNode? given, string type)
    {
        if (given is null || given.GetValueKind() is JsonValueKind.Null)
        {
            return (null, null);
        }

        var text = given is JsonValue ? given.AsText() : null;
        switch (type)
        {
            case "String":
                return (JsonValue.Create(given.AsText()), null);
            case "Boolean":
                return bool.TryParse(text, out var flag) ? (JsonValue.Create(flag), null)
                    : given.GetValueKind() is JsonValueKind.Number ? (JsonValue.Create(given.ToJsonString() is not ("0" or "0.0" or "-0")), null)
                    : Expected("true or false");
            case "Int16" or "Int32" or "Int64" or "Long":
                return Whole(text) is { } whole && Fits(whole, type) ? (JsonValue.Create(whole), null) : Expected("a whole number");
            case "Single" or "Double" or "Decimal":
                return double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number)
                    ? (JsonValue.Create(number), null)
                    : Expected("a number");
            case "TimeSpan":
                return TryTimeSpan(text, out var span) ? (JsonValue.Create(span.ToString("c", CultureInfo.InvariantCulture)), null)
                    : Expected("a time span such as 00:05:00 or 1.12:00:00");
            case "DateTimeOffset" or "DateTime":
                return TryTime(text, out var time) ? (JsonValue.Create(time.ToString("o", CultureInfo.InvariantCulture)), null)
                    : Expected("a time such as 2026-01-31T08:00:00+01:00");
            case "Guid":
                return Guid.TryParse(text, out var guid) ? (JsonValue.Create(guid.ToString()), null) : Expected("a GUID");
            case "JSON" or "JsonElement" or "JsonNode":
                return (text is not null && given.GetValueKind() is JsonValueKind.String ? JsonMembers.ParseOrNull(text) ?? given.DeepClone() : given.DeepClone(), null);
            case "ObjectDictionary" or "StringDictionary" or "ObjectMap" or "StringMap" or "JsonObject":
                return (given as JsonObject ?? JsonMembers.ParseOrNull(text) as JsonObject) is { } map ? (map.DeepClone(), null) : Expected("an object");
            case "JsonArray":
                return Convert(given, "List<Object>");
            default:
                return type.StartsWith("List<", StringComparison.Ordinal) ? List(given, text, type[5..^1]) : (given.DeepClone(), null);
        }

        (JsonNode? Value, string? Error) Expected(string what) => (null, $"expects {what}, got {Show(given)}");
    }

    public static bool TryTimeSpan(string? text, out TimeSpan span) =>
        TimeSpan.TryParse(text, CultureInfo.InvariantCulture, out span) && span >= TimeSpan.Zero && span.TotalDays <= MaxDays;

    /// <summary>A time without an offset is meant in UTC, wherever the server stands.</summary>
    public static bool TryTime(string? text, out DateTimeOffset time) =>
        DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AllowWhiteSpaces, out time);

    public static string Show(JsonNode? node)
    {
        var json = node?.ToJsonString() ?? "nothing";
        return json.Length <= 60 ? json : json[..57] + "...";
    }

    private static long? Whole(string? text) =>
        long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var whole) ? whole
        : double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var exact) && exact == Math.Floor(exact) && Math.Abs(exact) < 1e15 ? (long)exact
        : null;

    private static bool Fits(long whole, string type) => type switch
    {
        "Int16" => whole is >= short.MinValue and <= short.MaxValue,
        "Int32" => whole is >= int.MinValue and <= int.MaxValue,
        _ => true,
    };

    private static (JsonNode? Value, string? Error) List(JsonNode given, string? text, string item)
    {
        if ((given as JsonArray ?? JsonMembers.ParseOrNull(text) as JsonArray) is not { } array)
        {
            return (null, $"expects a list, got {Show(given)}");
        }

        var result = new JsonArray();
        foreach (var element in array)
        {
            var (value, error) = Convert(element, item);
            if (error is not null)
            {
                return (null, error);
            }

            result.Add(value);
        }

        return (result, null);
    }
}
