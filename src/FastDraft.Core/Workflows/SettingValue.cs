using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>Converts what a workflow gives (Studio's editors write text) to a setting's declared JSON type, and never guesses.</summary>
internal static class SettingValue
{
    /// <returns>The value, or null and what is wrong with it.</returns>
    public static (JsonNode? Value, string? Error) Convert(SettingDescriptor setting, JsonNode? given)
    {
        var text = given.AsText();
        switch (setting.Type)
        {
            case SettingType.Integer:
                return long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var whole)
                    ? Bounded(setting, whole, JsonValue.Create(whole))
                    : double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var exact) && exact == Math.Floor(exact) && Math.Abs(exact) < 1e15
                        ? Bounded(setting, exact, JsonValue.Create((long)exact))
                        : (null, $"expects a whole number, got {Show(given)}");
            case SettingType.Number:
                return double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number)
                    ? Bounded(setting, number, JsonValue.Create(number))
                    : (null, $"expects a number, got {Show(given)}");
            case SettingType.Boolean:
                return bool.TryParse(text, out var flag) ? (JsonValue.Create(flag), null) : (null, $"expects true or false, got {Show(given)}");
            case SettingType.Choice:
                return setting.Choices is null || setting.Choices.Contains(text, StringComparer.Ordinal)
                    ? (JsonValue.Create(text), null)
                    : (null, $"expects one of {string.Join(", ", setting.Choices)}; got {Show(given)}");
            case SettingType.TextList or SettingType.PathList:
                return List(given);
            default:
                return given is JsonValue ? (JsonValue.Create(text), null) : (null, $"expects a text, got {Show(given)}");
        }
    }

    private static (JsonNode? Value, string? Error) List(JsonNode? given)
    {
        if (given is JsonValue && given.AsText() is { } text)
        {
            if (!text.TrimStart().StartsWith('['))
            {
                return (new JsonArray(JsonValue.Create(text)), null);
            }

            given = JsonMembers.ParseOrNull(text);
        }

        return given is JsonArray array && array.All(item => item is JsonValue)
            ? (new JsonArray([.. array.Select(item => (JsonNode?)JsonValue.Create(item.AsText()))]), null)
            : (null, $"expects a list of texts, got {Show(given)}");
    }

    private static (JsonNode? Value, string? Error) Bounded(SettingDescriptor setting, double number, JsonNode value) =>
        number < setting.Minimum || number > setting.Maximum
            ? (null, string.Create(CultureInfo.InvariantCulture, $"expects {Range(setting)}, got {number}"))
            : (value, null);

    private static string Range(SettingDescriptor setting) => (setting.Minimum, setting.Maximum) switch
    {
        ({ } low, { } high) => string.Create(CultureInfo.InvariantCulture, $"{low} to {high}"),
        ({ } low, null) => string.Create(CultureInfo.InvariantCulture, $"at least {low}"),
        var (_, high) => string.Create(CultureInfo.InvariantCulture, $"at most {high}"),
    };

    private static string Show(JsonNode? node)
    {
        var json = node?.ToJsonString(new JsonSerializerOptions { WriteIndented = false }) ?? "nothing";
        return json.Length <= 60 ? json : json[..57] + "...";
    }
}
