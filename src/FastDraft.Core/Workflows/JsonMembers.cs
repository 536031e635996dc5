using System.Text.Json;
using System.Text.Json.Nodes;

namespace FastDraft.Core.Workflows;

/// <summary>Reading Elsa's JSON leniently: older files write members in PascalCase, and one object where a list is meant.</summary>
internal static class JsonMembers
{
    public static JsonNode? Member(this JsonObject json, string name)
    {
        if (json.TryGetPropertyValue(name, out var value))
        {
            return value;
        }

        foreach (var (key, other) in json)
        {
            if (string.Equals(key, name, StringComparison.OrdinalIgnoreCase))
            {
                return other;
            }
        }

        return null;
    }

    public static string? Text(this JsonObject json, string name) =>
        json.Member(name) is JsonValue value && value.GetValueKind() is JsonValueKind.String ? value.GetValue<string>() : null;

    public static bool IsTrue(this JsonObject json, string name) =>
        json.Member(name) is JsonValue value && value.GetValueKind() is JsonValueKind.True;

    public static IEnumerable<JsonObject> Objects(this JsonObject json, string name) => json.Member(name) switch
    {
        JsonArray array => array.OfType<JsonObject>(),
        JsonObject single => [single],
        _ => [],
    };

    /// <summary>The text of a scalar as Elsa prints it, or the JSON of anything else. Null stays null.</summary>
    public static string? AsText(this JsonNode? node) => node?.GetValueKind() switch
    {
        null or JsonValueKind.Null => null,
        JsonValueKind.String => node.GetValue<string>(),
        JsonValueKind.True => "True",
        JsonValueKind.False => "False",
        _ => node.ToJsonString(),
    };

    /// <summary>A value's own levels; with those of the state and the journal around it, JSON readers still take it back.</summary>
    public const int MaxValueDepth = 48;

    /// <summary>About how many characters the value has as JSON.</summary>
    /// <exception cref="ExpressionException">It is nested more than <see cref="MaxValueDepth"/> levels deep.</exception>
    public static int Size(this JsonNode? node, int depth = 0) => node switch
    {
        _ when depth > MaxValueDepth => throw new ExpressionException($"a value is nested more than {MaxValueDepth} levels deep"),
        JsonObject json => json.Sum(member => member.Key.Length + 4 + member.Value.Size(depth + 1)),
        JsonArray array => array.Sum(item => 1 + item.Size(depth + 1)),
        JsonValue value when value.TryGetValue<string>(out var text) => text.Length,
        _ => 8,
    };

    /// <summary>Null where the text is not JSON.</summary>
    public static JsonNode? ParseOrNull(string? text)
    {
        try
        {
            return text is null ? null : JsonNode.Parse(text, null, new JsonDocumentOptions { MaxDepth = JsonPlaces.MaxDepth });
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
