using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;

namespace FastDraft.Core.Workflows;

/// <summary>An input that a run may be given. <paramref name="Type"/> is an Elsa type alias such as <c>String</c> or <c>Int32</c>.</summary>
public sealed record WorkflowInput(string Name, string Type, JsonNode? Default, string? Description);

/// <summary>A variable and its converted initial value. Activities name it by <paramref name="Id"/>, scripts by name.</summary>
public sealed record WorkflowVariable(string Id, string Name, string Type, JsonNode? Value);

/// <summary>An edge of a flowchart: followed when the source completes with the outcome <paramref name="SourcePort"/>.</summary>
public sealed record WorkflowConnection(string Source, string SourcePort, string Target, string TargetPort, JsonObject Json);

/// <summary>One activity of the tree, with its JSON as it was read.</summary>
public sealed class WorkflowActivity
{
    internal WorkflowActivity(JsonObject json, WorkflowActivity? parent)
    {
        Json = json;
        Parent = parent;
        Id = json.Text("id") ?? "";
        Type = json.Text("type") ?? "";
        Name = json.Text("name") ?? Id;
        NodeId = (parent?.NodeId ?? "Workflow1") + ":" + Id;
        Children = [.. json.Objects("activities").Select(child => new WorkflowActivity(child, this))];
        Connections = [.. json.Objects("connections").Select(ReadConnection)];
    }

    public string Id { get; }

    public string Name { get; }

    /// <summary>The ids from the workflow down, as Studio and the journal name the node: <c>Workflow1:flowchart:activity</c>.</summary>
    public string NodeId { get; }

    public string Type { get; }

    public JsonObject Json { get; }

    public WorkflowActivity? Parent { get; }

    public IReadOnlyList<WorkflowActivity> Children { get; }

    /// <summary>As written, dangling ones included.</summary>
    public IReadOnlyList<WorkflowConnection> Connections { get; }

    public bool CanStartWorkflow =>
        (Json.Member("customProperties") is JsonObject custom && custom.IsTrue("canStartWorkflow")) || Json.IsTrue("canStartWorkflow");

    public IEnumerable<WorkflowActivity> SelfAndDescendants() => Children.SelectMany(child => child.SelfAndDescendants()).Prepend(this);

    private static WorkflowConnection ReadConnection(JsonObject json)
    {
        var (source, sourcePort) = End("source", "sourcePort", "Done");
        var (target, targetPort) = End("target", "targetPort", "In");
        return new WorkflowConnection(source, sourcePort, target, targetPort, json);

        // Older files write {"source":"a","sourcePort":"Done"}; a missing port means the default one.
        (string Activity, string Port) End(string end, string flatPort, string otherwise) => json.Member(end) is JsonObject nested
            ? (nested.Text("activity") ?? "", nested.Text("port") ?? otherwise)
            : (json.Text(end) ?? "", json.Text(flatPort) ?? otherwise);
    }
}

/// <summary>
/// An Elsa 3 workflow definition, as exported or as Studio saves it. Members that this project does not know are kept.
/// <see cref="Digest"/> covers what the workflow means: not white space, member order, order of activities, designer positions,
/// version numbers or descriptions.
/// </summary>
public sealed class WorkflowDefinition
{
    private readonly JsonObject _json;
    private readonly Dictionary<string, WorkflowActivity> _activities;

    private WorkflowDefinition(JsonObject json)
    {
        _json = json;
        if (json.Member("root") is not JsonObject root)
        {
            throw new WorkflowFormatException("A workflow definition has a member 'root' that is an activity.", 1, 1);
        }

        Root = new WorkflowActivity(root, null);
        DefinitionId = json.Text("definitionId") ?? json.Text("id")
            ?? throw new WorkflowFormatException("A workflow definition has a member 'definitionId'.", 1, 1);
        Name = json.Text("name") ?? DefinitionId;
        Version = json.Member("version") is JsonValue version && version.TryGetValue<int>(out var number) ? number : 1;
        Inputs =
        [
            .. json.Objects("inputs").Where(input => input.Text("name") is not null).Select(input => new WorkflowInput(
                input.Text("name")!, input.Text("type") ?? "Object", Default(input)?.DeepClone(), input.Text("description"))),
        ];
        _activities = new Dictionary<string, WorkflowActivity>(StringComparer.Ordinal);
        foreach (var activity in Root.SelfAndDescendants())
        {
            _activities.TryAdd(activity.Id, activity);
        }

        Variables =
        [
            .. json.Objects("variables").Concat(_activities.Values.SelectMany(activity => activity.Json.Objects("variables"))).Select(ReadVariable),
        ];
        Digest = Digest.OfBytes(JsonSerializer.SerializeToUtf8Bytes(Canonical.Of(this, json)));
    }

    public string DefinitionId { get; }

    public string Name { get; }

    public int Version { get; }

    public Digest Digest { get; }

    public IReadOnlyList<WorkflowInput> Inputs { get; }

    public IReadOnlyList<WorkflowVariable> Variables { get; }

    public WorkflowActivity Root { get; }

    /// <exception cref="WorkflowFormatException">Not JSON, over 1 MiB or 64 levels, a member given twice, or no root.</exception>
    public static WorkflowDefinition Parse(string json)
    {
        JsonPlaces.Read(json);
        return JsonNode.Parse(json, null, new JsonDocumentOptions { MaxDepth = JsonPlaces.MaxDepth }) is JsonObject definition
            ? new WorkflowDefinition(definition)
            : throw new WorkflowFormatException("A workflow definition is a JSON object.", 1, 1);
    }

    /// <summary>The definition with every member that was read.</summary>
    public string ToJson() => _json.ToJsonString();

    public WorkflowActivity? Activity(string id) => _activities.GetValueOrDefault(id);

    // Elsa Studio's own model of an input has no default, so it would drop one written beside the input; custom properties it keeps.
    private JsonNode? Default(JsonObject input) =>
        input.Member("defaultValue") ?? ((_json.Member("customProperties") as JsonObject)?.Member("inputDefaults") as JsonObject)?.Member(input.Text("name")!);

    private static WorkflowVariable ReadVariable(JsonObject json)
    {
        var name = json.Text("name") ?? "";
        var type = json.Text("typeName") ?? "Object";
        return new WorkflowVariable(json.Text("id") ?? name, name, type, Initial(json.Member("value"), type, json.IsTrue("isArray")));
    }

    // Studio writes initial values as text; text that does not convert leaves the variable without a value.
    private static JsonNode? Initial(JsonNode? value, string type, bool isArray)
    {
        if (value is null || value.GetValueKind() is not JsonValueKind.String)
        {
            return value?.DeepClone();
        }

        var text = value.GetValue<string>();
        return isArray ? JsonMembers.ParseOrNull(text) as JsonArray : type switch
        {
            "Int16" or "Int32" or "Int64" or "Long" =>
                long.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out var whole) ? JsonValue.Create(whole) : null,
            "Single" or "Double" or "Decimal" =>
                double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) ? JsonValue.Create(number) : null,
            "Boolean" => bool.TryParse(text, out var flag) ? JsonValue.Create(flag) : null,
            "String" => JsonValue.Create(text),
            _ => JsonMembers.ParseOrNull(text) ?? JsonValue.Create(text),
        };
    }
}
