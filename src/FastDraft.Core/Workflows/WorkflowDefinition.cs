using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;

namespace FastDraft.Core.Workflows;

/// <summary>An input that a run may be given. <paramref name="Type"/> is an Elsa type alias such as <c>String</c> or <c>Int32</c>.</summary>
public sealed record WorkflowInput(string Name, string Type, JsonNode? Default, string? Description);

/// <summary>A variable and its converted initial value. Activities name it by <paramref name="Id"/>, scripts by name.</summary>
public sealed record WorkflowVariable(string Id, string Name, string Type, bool IsArray, JsonNode? Value)
{
    internal static WorkflowVariable Read(JsonObject json)
    {
        var name = json.Text("name") ?? "";
        var type = json.Text("typeName") ?? "Object";
        var isArray = json.IsTrue("isArray");

        // Studio writes initial values as text; text that does not convert leaves the variable without a value.
        var variable = new WorkflowVariable(json.Text("id") ?? name, name, type, isArray, null);
        return variable with { Value = variable.Hold(json.Member("value")).Value };
    }

    /// <summary>The value as this variable's type holds it, or null and what the type expects.</summary>
    internal (JsonNode? Value, string? Error) Hold(JsonNode? value) => TypedValue.Convert(value, IsArray ? $"List<{Type}>" : Type);
}

/// <summary>A value that a run leaves behind.</summary>
public sealed record WorkflowOutput(string Name, string Type, string? Description);

/// <summary>An edge of a flowchart: followed when the source completes with the outcome <paramref name="SourcePort"/>.</summary>
public sealed record WorkflowConnection(string Source, string SourcePort, string Target, string TargetPort, JsonObject Json);

/// <summary>One activity of the tree, with its JSON as it was read.</summary>
public sealed class WorkflowActivity
{
    /// <summary>The id of the node above the root, which Elsa's journal shows as an activity of its own.</summary>
    public const string WorkflowId = "Workflow1";

    private readonly Lazy<FlowGraph> _graph;
    private readonly Dictionary<string, WorkflowActivity> _childrenById = new(StringComparer.Ordinal);

    internal WorkflowActivity(JsonObject json, WorkflowActivity? parent, string slot, int position = 0)
    {
        Json = json;
        Parent = parent;
        Slot = slot;
        Position = position;
        Id = json.Text("id") ?? "";
        Type = json.Text("type") ?? "";
        Name = json.Text("name") ?? Id;
        NodeId = (parent?.NodeId ?? WorkflowId) + ":" + Id;
        Core = CoreActivities.ByType.GetValueOrDefault(Type);
        Children = [.. ReadChildren().Select((child, index) => new WorkflowActivity(child.Json, this, child.Slot, index))];
        foreach (var child in Children)
        {
            _childrenById.TryAdd(child.Id, child);
        }

        Connections = [.. json.Objects("connections").Select(ReadConnection)];
        Variables = Core is { IsContainer: true } ? [.. json.Objects("variables").Select(WorkflowVariable.Read)] : [];
        _graph = new Lazy<FlowGraph>(() => new FlowGraph(this));
    }

    public string Id { get; }

    public string Name { get; }

    /// <summary>The ids from the workflow down, as Studio and the journal name the node: <c>Workflow1:flowchart:activity</c>.</summary>
    public string NodeId { get; }

    public string Type { get; }

    public JsonObject Json { get; }

    public WorkflowActivity? Parent { get; }

    /// <summary>The member of the parent that holds this activity: <c>activities</c>, <c>branches</c>, <c>body</c>, <c>then</c>, <c>cases</c> ...</summary>
    public string Slot { get; }

    /// <summary>The index among the parent's children.</summary>
    public int Position { get; }

    /// <summary>Null for a stage and for a type that is not known.</summary>
    public CoreActivity? Core { get; }

    /// <summary>Those of the list first, then those of the slots, then those of the cases.</summary>
    public IReadOnlyList<WorkflowActivity> Children { get; }

    /// <summary>As written, dangling ones included.</summary>
    public IReadOnlyList<WorkflowConnection> Connections { get; }

    /// <summary>Those that live as long as one execution of this container.</summary>
    public IReadOnlyList<WorkflowVariable> Variables { get; }

    public bool CanStartWorkflow =>
        (Json.Member("customProperties") is JsonObject custom && custom.IsTrue("canStartWorkflow")) || Json.IsTrue("canStartWorkflow");

    internal FlowGraph Graph => _graph.Value;

    public WorkflowActivity? Child(string slot) => Children.FirstOrDefault(c => c.Slot == slot);

    internal WorkflowActivity? ChildById(string id) => _childrenById.GetValueOrDefault(id);

    public IEnumerable<WorkflowActivity> SelfAndDescendants() => Children.SelectMany(child => child.SelfAndDescendants()).Prepend(this);

    private IEnumerable<(JsonObject Json, string Slot)> ReadChildren()
    {
        // An activity that is not known may be a container from elsewhere.
        var list = Core is null ? "activities" : Core.ChildList;
        foreach (var child in list is null ? [] : Json.Objects(list))
        {
            yield return (child, list!);
        }

        foreach (var slot in (Core?.Slots ?? []).Select(CoreActivity.CamelCase))
        {
            if (Json.Member(slot) is JsonObject child)
            {
                yield return (child, slot);
            }
        }

        foreach (var input in (Core?.Inputs ?? []).Where(i => i.Shape is InputShape.Cases))
        {
            foreach (var child in Json.Objects(input.Key).Select(c => c.Member("activity")).OfType<JsonObject>())
            {
                yield return (child, input.Key);
            }
        }
    }

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

        Root = new WorkflowActivity(root, null, "root");
        DefinitionId = json.Text("definitionId") ?? json.Text("id")
            ?? throw new WorkflowFormatException("A workflow definition has a member 'definitionId'.", 1, 1);
        Name = json.Text("name") ?? DefinitionId;
        VersionId = json.Text("id") ?? DefinitionId;
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

        Variables = [.. json.Objects("variables").Select(WorkflowVariable.Read)];
        Outputs =
        [
            .. json.Objects("outputs").Where(output => output.Text("name") is not null).Select(output => new WorkflowOutput(
                output.Text("name")!, output.Text("type") ?? "Object", output.Text("description"))),
        ];
        ContinuesWithIncidents = (json.Member("options") as JsonObject)?.Text("incidentStrategyType")?.Contains("ContinueWithIncidents", StringComparison.Ordinal) is true;
        Digest = Digest.OfBytes(JsonSerializer.SerializeToUtf8Bytes(Canonical.Of(this, json)));
    }

    public string DefinitionId { get; }

    public string Name { get; }

    public int Version { get; }

    /// <summary>Of this version; the definition id where the file gives none.</summary>
    public string VersionId { get; }

    public Digest Digest { get; }

    public IReadOnlyList<WorkflowInput> Inputs { get; }

    /// <summary>Those of the workflow itself; containers have their own.</summary>
    public IReadOnlyList<WorkflowVariable> Variables { get; }

    public IReadOnlyList<WorkflowOutput> Outputs { get; }

    /// <summary>Elsa's ContinueWithIncidentsStrategy: after a fault the other branches go on. Otherwise the first fault ends the run.</summary>
    public bool ContinuesWithIncidents { get; }

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
}
