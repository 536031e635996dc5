using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

public enum WorkflowStatus
{
    Running,
    Finished,
    Faulted,
    Cancelled,
}

/// <summary>What the interpreter answers to an event: the next state and what the runtime must now do, in order.</summary>
public sealed record Transition(WorkflowState State, IReadOnlyList<WorkflowEffect> Effects);

/// <summary>What happened outside since the last transition.</summary>
public abstract record WorkflowEvent;

public sealed record StageSucceeded(string ActivityInstanceId) : WorkflowEvent;

public sealed record StageFailed(string ActivityInstanceId, string Message) : WorkflowEvent;

public sealed record CancelRequested : WorkflowEvent;

public abstract record WorkflowEffect;

/// <summary>The output <paramref name="Port"/> of a completed stage.</summary>
public sealed record PortSource(string ActivityInstanceId, string ActivityId, string Port);

/// <summary>Run a stage and answer with <see cref="StageSucceeded"/> or <see cref="StageFailed"/>. Settings have their declared JSON types.</summary>
public sealed record StartStage(
    string ActivityInstanceId,
    string ActivityId,
    StageDescriptor Stage,
    JsonObject Settings,
    IReadOnlyDictionary<string, PortSource> Inputs) : WorkflowEffect;

/// <summary>The result of a stage in flight is no longer wanted: a join that waits for any took another branch, or the workflow ended.</summary>
public sealed record CancelStage(string ActivityInstanceId) : WorkflowEffect;

public sealed record WriteLine(string Text) : WorkflowEffect;

/// <summary>One journal record, with Elsa's event names: Started, Completed, Faulted, Canceled.</summary>
public sealed record JournalEntry(string ActivityId, string ActivityType, string EventName, string? Message) : WorkflowEffect;

/// <summary>Always the last effect of a workflow. Every later event is absorbed.</summary>
public sealed record FinishWorkflow(WorkflowStatus Status, string? Incident) : WorkflowEffect;
