using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.Core.Workflows;

namespace FastDraft.Server.Definitions;

/// <summary>The JSON of a definition as it is stored and served: which members are the server's, and which survive a designer that does not know them.</summary>
internal static partial class DefinitionDocument
{
    public const int MaxBytes = 1 << 20;
    public const int MaxDepth = 64;
    private const string InputDefaults = "inputDefaults";

    /// <summary>Members that the designer's own model carries, or that are the server's to say. Any other one is kept from the version before.</summary>
    private static readonly HashSet<string> Known = new(StringComparer.Ordinal)
    {
        "$schema", "id", "definitionId", "name", "description", "createdAt", "version", "toolVersion", "options", "variables", "inputs", "outputs",
        "outcomes", "customProperties", "isReadonly", "isSystem", "isLatest", "isPublished", "providerName", "materializerName", "materializerContext",
        "root", "links", "tenantId", "usableAsActivity",
    };

    /// <summary>Parses within the limits of a definition: 1 MiB, 64 levels, no member twice.</summary>
    /// <exception cref="DefinitionRefusedException">It is not such an object.</exception>
    public static JsonObject Parse(string json)
    {
        if (System.Text.Encoding.UTF8.GetByteCount(json) > MaxBytes)
        {
            throw new DefinitionRefusedException(Refusal.Invalid, [$"The workflow has more than {MaxBytes} bytes."]);
        }

        try
        {
            return JsonNode.Parse(json, null, new JsonDocumentOptions { MaxDepth = MaxDepth, AllowDuplicateProperties = false }) as JsonObject
                ?? throw new DefinitionRefusedException(Refusal.Invalid, ["A workflow definition is a JSON object."]);
        }
        catch (JsonException e)
        {
            throw new DefinitionRefusedException(Refusal.Invalid, ["Not a workflow definition: " + e.Message]);
        }
    }

    /// <summary>Null where the text is no JSON object within the limits.</summary>
    public static JsonObject? TryParse(string json)
    {
        try
        {
            return Parse(json);
        }
        catch (DefinitionRefusedException)
        {
            return null;
        }
    }

    /// <summary>
    /// What is stored of a model that somebody sent: everything but the server's own members. The designer's model of an input has no
    /// default value and of a definition no members beyond Elsa's, so defaults live under customProperties and others come from
    /// <paramref name="before"/>: opening and saving a workflow loses nothing.
    /// </summary>
    public static JsonObject Stored(JsonObject model, JsonObject? before)
    {
        var stored = model.DeepClone().AsObject();
        foreach (var name in (string[])["$schema", "links", "isLatest", "isPublished", "isReadonly", "isSystem", "createdAt", "materializerName", "providerName"])
        {
            stored.Remove(name);
        }

        foreach (var (name, value) in before ?? [])
        {
            if (!Known.Contains(name) && !stored.ContainsKey(name))
            {
                stored[name] = value?.DeepClone();
            }
        }

        MoveInputDefaults(stored);
        return stored;
    }

    /// <summary>Identity, version and flags are what the row says.</summary>
    public static void Stamp(JsonObject document, DefinitionHead row)
    {
        document["id"] = row.Id;
        document["definitionId"] = row.DefinitionId;
        document["name"] = row.Name;
        document["description"] = row.Description;
        document["version"] = row.Version;
        document["isLatest"] = row.IsLatest;
        document["isPublished"] = row.IsPublished;
        document["isReadonly"] = row.IsReadOnly;
        document["createdAt"] = row.CreatedAt;
        MoveInputDefaults(document);
    }

    /// <summary>
    /// Each activity with its path of ids, by which the designer correlates runs, and with the version that its type has here: of a
    /// type there is one, and the designer cannot draw another.
    /// </summary>
    /// <exception cref="WorkflowFormatException">The text is no workflow definition.</exception>
    public static JsonObject WithNodeIds(string json)
    {
        var definition = WorkflowDefinition.Parse(json);
        foreach (var activity in definition.Root.SelfAndDescendants())
        {
            activity.Json["nodeId"] = activity.NodeId;
            activity.Json["version"] = 1;
        }

        return JsonNode.Parse(definition.ToJson(), null, new JsonDocumentOptions { MaxDepth = MaxDepth })!.AsObject();
    }

    /// <summary>Names that can be part of an address and of a file name; they never become a path.</summary>
    public static bool IsLegalId(string id) => LegalId().IsMatch(id) && !id.Contains("..", StringComparison.Ordinal);

    /// <summary>A readable id from a name: <c>My draft!</c> gives <c>my-draft</c>.</summary>
    public static string IdFrom(string name)
    {
        var id = NotInId().Replace(name.ToLowerInvariant(), "-").Trim('-', '_');
        return id.Length == 0 ? "workflow" : id[..Math.Min(id.Length, 64)].TrimEnd('-', '_');
    }

    private static void MoveInputDefaults(JsonObject document)
    {
        if (document["inputs"] is not JsonArray inputs)
        {
            return;
        }

        foreach (var input in inputs.OfType<JsonObject>())
        {
            if (input["defaultValue"] is { } value && (string?)(input["name"] as JsonValue) is { } name)
            {
                input.Remove("defaultValue");
                var custom = document["customProperties"] as JsonObject ?? [];
                document["customProperties"] = custom.Parent is null ? custom : document["customProperties"];
                if (custom[InputDefaults] is not JsonObject)
                {
                    custom[InputDefaults] = new JsonObject();
                }

                custom[InputDefaults]![name] = value.DeepClone();
            }
        }
    }

    [GeneratedRegex("^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?\\z")]
    private static partial Regex LegalId();

    [GeneratedRegex("[^a-z0-9_]+")]
    private static partial Regex NotInId();
}
