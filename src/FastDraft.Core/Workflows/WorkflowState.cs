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

/// <summary>One execution of an activity; in a loop the same activity has several.</summary>
public sealed record ActivityInstance(
    string Id, string ActivityId, string? ParentId, bool EnteredBackward, ActivityStatus Status);

/// <summary>
/// A flowchart's counters (Elsa's counter mode): how often each activity and each connection was visited and whether the
/// connection's last visit followed it. For a sequence, <see cref="Next"/> is the index of the next child.
/// </summary>
public sealed class ContainerCounters
{
    public Dictionary<string, int> Activities { get; init; } = [];

    public Dictionary<int, int> Connections { get; init; } = [];

    public Dictionary<int, bool> Followed { get; init; } = [];

    public int Next { get; set; }
}

/// <summary>All that the interpreter remembers between two events. Serialisable; treat a returned one as immutable.</summary>
public sealed class WorkflowState
{
    private static readonly JsonSerializerOptions Options =
        new(JsonSerializerDefaults.Web) { Converters = { new JsonStringEnumConverter() }, MaxDepth = 128 };

    public WorkflowStatus Status { get; set; }

    public string? Incident { get; set; }

    /// <summary>Of the last journal record.</summary>
    public long Sequence { get; set; }

    public Dictionary<string, JsonNode?> Inputs { get; init; } = [];

    /// <summary>Variable id to value.</summary>
    public Dictionary<string, JsonNode?> Variables { get; init; } = [];

    public Dictionary<string, JsonNode?> Outputs { get; init; } = [];

    /// <summary>In the order they started.</summary>
    public List<ActivityInstance> Activities { get; init; } = [];

    /// <summary>By the container's instance id.</summary>
    public Dictionary<string, ContainerCounters> Containers { get; init; } = [];

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
