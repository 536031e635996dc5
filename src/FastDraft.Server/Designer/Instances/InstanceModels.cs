using System.Text.Json.Nodes;
using FastDraft.Core.Runs;

namespace FastDraft.Server.Designer.Instances;

internal enum InstanceStatus
{
    Running,
    Finished,
}

internal enum InstanceSubStatus
{
    Pending,
    Executing,
    Suspended,
    Finished,
    Cancelled,
    Faulted,
}

/// <summary>A run in the designer's words.</summary>
internal record InstanceSummary(
    string Id, string DefinitionId, string DefinitionVersionId, int Version, InstanceStatus Status, InstanceSubStatus SubStatus, string? CorrelationId, string Name,
    int IncidentCount, DateTimeOffset CreatedAt, DateTimeOffset UpdatedAt, DateTimeOffset? FinishedAt);

internal sealed record Instance(InstanceSummary Summary, InstanceState WorkflowState) : InstanceSummary(Summary);

internal sealed record InstanceState(
    string Id, string DefinitionId, int DefinitionVersion, string? CorrelationId, InstanceStatus Status, InstanceSubStatus SubStatus, IReadOnlyList<Bookmark> Bookmarks,
    IReadOnlyList<Incident> Incidents, JsonObject Input, JsonObject Output, DateTimeOffset CreatedAt, DateTimeOffset UpdatedAt, DateTimeOffset? FinishedAt)
{
    public JsonArray CompletionCallbacks => [];

    public JsonArray ActivityExecutionContexts => [];

    public JsonObject Properties => [];
}

internal sealed record Bookmark(string Id, string Name, string ActivityId, string ActivityInstanceId, DateTimeOffset CreatedAt);

internal sealed record Incident(string ActivityId, string ActivityNodeId, string ActivityInstanceId, string ActivityType, string Message, ExceptionState Exception, DateTimeOffset Timestamp);

internal sealed record ExceptionState(string Type, string Message);

internal sealed record JournalRecord(
    string Id, string ActivityInstanceId, string? ParentActivityInstanceId, string ActivityId, string ActivityType, string ActivityName, string NodeId, DateTimeOffset Timestamp,
    long Sequence, string EventName, string? Message, JsonObject? ActivityState, JsonObject? Payload)
{
    public int ActivityTypeVersion => 1;

    public string Source => "";
}

internal enum ActivityExecutionStatus
{
    Pending,
    Running,
    Completed,
    Canceled,
    Faulted,
}

internal sealed record ActivityExecution(
    string Id, string WorkflowInstanceId, string ActivityId, string ActivityNodeId, string ActivityType, string ActivityName, JsonObject ActivityState, JsonObject Payload,
    JsonObject Outputs, ExceptionState? Exception, DateTimeOffset StartedAt, DateTimeOffset? CompletedAt, bool HasBookmarks, ActivityExecutionStatus Status)
{
    public int ActivityTypeVersion => 1;

    public int AggregateFaultCount => Exception is null ? 0 : 1;

    public JsonObject Properties => [];

    public JsonObject Metadata => [];
}

internal sealed record ActivityStats(string ActivityId, string ActivityNodeId, int StartedCount, int CompletedCount, int UncompletedCount, bool IsBlocked, bool IsFaulted)
{
    public JsonObject Metadata => [];
}

internal static class InstanceStatuses
{
    public static InstanceStatus Of(RunState state) => RunStateMachine.IsTerminal(state) ? InstanceStatus.Finished : InstanceStatus.Running;

    /// <summary>A run that only waits, for a time, an event, a person or a child, is suspended.</summary>
    public static InstanceSubStatus Of(RunState state, bool onlyWaits) => state switch
    {
        RunState.Succeeded => InstanceSubStatus.Finished,
        RunState.Failed => InstanceSubStatus.Faulted,
        RunState.Cancelled => InstanceSubStatus.Cancelled,
        RunState.Pending => InstanceSubStatus.Pending,
        _ => onlyWaits ? InstanceSubStatus.Suspended : InstanceSubStatus.Executing,
    };
}
