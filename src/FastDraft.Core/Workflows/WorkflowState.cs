using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace FastDraft.Core.Workflows;

public enum ActivityStatus
{
    Running,
    Completed,
    Faulted,
    Cancelled,
}

/// <summary>What an activity instance needs from outside before it goes on.</summary>
public enum Awaited
{
    Nothing,
    Stage,
    Timer,
    Event,
    Gate,

    /// <summary>The end of a child.</summary>
    Child,

    /// <summary>Only that a child exists.</summary>
    ChildStart,
}

/// <summary>
/// A flowchart's counters (Elsa's counter mode): how often each activity and each connection was visited and whether the
/// connection's last visit followed it.
/// </summary>
public sealed class FlowCounters
{
    public Dictionary<string, int> Activities { get; init; } = [];

    public Dictionary<int, int> Connections { get; init; } = [];

    public Dictionary<int, bool> Followed { get; init; } = [];
}

/// <summary>
/// What an activity left behind when it last completed, for ports and scripts. <paramref name="Sequence"/> is that of its last journal record.
/// </summary>
public sealed record ActivityResult(string InstanceId, Dictionary<string, JsonNode?> Outputs, long Sequence);

/// <summary>
/// One execution of an activity; in a loop the same activity has several. The state holds those that have not ended, and faulted ones:
/// of one that completed, its <see cref="ActivityResult"/> stays with the container.
/// </summary>
public sealed class ActivityInstance
{
    public required string Id { get; init; }

    public required string ActivityId { get; init; }

    /// <summary>Null for the root.</summary>
    public string? ParentId { get; init; }

    public ActivityStatus Status { get; set; }

    public Awaited Awaits { get; set; }

    /// <summary>It was entered by a connection that closes a loop, which counts as no visit.</summary>
    public bool EnteredBackward { get; init; }

    /// <summary>Variables of this scope by id; those that a loop gives its body go by their name.</summary>
    public Dictionary<string, JsonNode?> Variables { get; init; } = [];

    /// <summary>Inputs, evaluated once when the instance started.</summary>
    public Dictionary<string, JsonNode?> Inputs { get; init; } = [];

    public Dictionary<string, JsonNode?> Outputs { get; init; } = [];

    /// <summary>By activity id: what completed inside this container, nested containers included.</summary>
    public Dictionary<string, ActivityResult> Results { get; init; } = [];

    public FlowCounters? Flow { get; set; }

    /// <summary>A sequence's or a loop's next index; of what runs side by side, how many are still to complete.</summary>
    public int Next { get; set; }

    /// <summary>The number of a For's round.</summary>
    public long? Current { get; set; }

    /// <summary>A Break inside was reached.</summary>
    public bool IsBreaking { get; set; }
}

public sealed record WorkflowIncident(string ActivityInstanceId, string ActivityId, string NodeId, string ActivityType, string Message);

/// <summary>All that the interpreter remembers between two events. Serialisable; treat a returned one as immutable.</summary>
public sealed class WorkflowState
{
    private static readonly JsonSerializerOptions Options =
        new(JsonSerializerDefaults.Web) { Converters = { new JsonStringEnumConverter() }, MaxDepth = 128, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingDefault };

    public WorkflowStatus Status { get; set; }

    /// <summary>In the order they happened; the first is why a faulted run ended.</summary>
    public List<WorkflowIncident> Incidents { get; init; } = [];

    [JsonIgnore]
    public string? Incident => Incidents.Count > 0 ? Incidents[0].Message : null;

    public string InstanceId { get; init; } = "";

    public string? TriggerActivityId { get; init; }

    public JsonNode? TriggerPayload { get; init; }

    public string? Name { get; set; }

    public string? CorrelationId { get; set; }

    public Dictionary<string, JsonNode?> Inputs { get; init; } = [];

    /// <summary>The workflow's own variables, by id; a container's are with its instance.</summary>
    public Dictionary<string, JsonNode?> Variables { get; init; } = [];

    public Dictionary<string, JsonNode?> Outputs { get; init; } = [];

    /// <summary>The result of the last activity that has one (If, RunJavaScript, Event ...).</summary>
    public JsonNode? LastResult { get; set; }

    /// <summary>Those that have not ended and those that faulted, in the order they started.</summary>
    public List<ActivityInstance> Activities { get; init; } = [];

    /// <summary>By activity id, how often it started: the number in its instances' ids.</summary>
    public Dictionary<string, int> Started { get; init; } = [];

    /// <summary>Results outside every container: the root's own.</summary>
    public Dictionary<string, ActivityResult> Results { get; init; } = [];

    /// <summary>Of the last journal record.</summary>
    public long Sequence { get; set; }

    /// <summary>How many identifiers scripts have asked for; each is derived from the run and this number.</summary>
    public int NumIdentifiers { get; set; }

    public string ToJson() => JsonSerializer.Serialize(this, Options);

    /// <exception cref="FormatException">The text is no workflow state.</exception>
    public static WorkflowState FromJson(string json)
    {
        try
        {
            return JsonSerializer.Deserialize<WorkflowState>(json, Options) ?? throw new FormatException("Not a workflow state: null.");
        }
        catch (JsonException e)
        {
            throw new FormatException("Not a workflow state: " + e.Message, e);
        }
    }
}
