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

/// <summary>
/// What is known of a run before its first activity. Identifiers that scripts or children need are derived from
/// <paramref name="InstanceId"/>, so that a replay gives the same ones.
/// </summary>
/// <param name="TriggerActivityId">The trigger (Cron, Timer, StartAt, Event) that started the run; its flowchart starts there and it does not wait again.</param>
/// <param name="TriggerPayload">What an Event trigger received.</param>
public sealed record WorkflowStart(
    string InstanceId = "", string? TriggerActivityId = null, JsonNode? TriggerPayload = null, string? CorrelationId = null);

/// <summary>
/// What happened outside since the last transition. An event names the activity instance that waits for it: one that is delivered
/// twice, or after the instance stopped waiting, changes nothing.
/// </summary>
public abstract record WorkflowEvent;

/// <summary><paramref name="Outcome"/> is the port that is followed. <paramref name="Outputs"/> are values for scripts, by output name.</summary>
public sealed record StageSucceeded(string ActivityInstanceId, string Outcome = "Done", JsonObject? Outputs = null) : WorkflowEvent;

public sealed record StageFailed(string ActivityInstanceId, string Message) : WorkflowEvent;

/// <summary>The time that <see cref="StartTimer"/> named has come.</summary>
public sealed record TimerFired(string ActivityInstanceId) : WorkflowEvent;

/// <summary>An event with the name that <see cref="WaitForEvent"/> gave was published.</summary>
public sealed record EventReceived(string ActivityInstanceId, JsonNode? Payload) : WorkflowEvent;

/// <summary>A person answered <see cref="OpenGate"/>.</summary>
public sealed record GateDecided(string ActivityInstanceId, bool Approved, string By, string? Reason) : WorkflowEvent;

/// <summary>The child of a <see cref="StartChild"/> that does not wait for its end exists.</summary>
public sealed record ChildStarted(string ActivityInstanceId) : WorkflowEvent;

/// <summary>A child of <see cref="StartChild"/> reached a terminal status.</summary>
public sealed record ChildEnded(string ActivityInstanceId, WorkflowStatus Status, JsonObject Outputs) : WorkflowEvent;

/// <summary>The child cannot be started: no published workflow has that definition id, or its inputs are wrong.</summary>
public sealed record ChildNotStarted(string ActivityInstanceId, string Message) : WorkflowEvent;

public sealed record CancelRequested : WorkflowEvent;

/// <summary>What the runtime must do, in the transaction that saves the state.</summary>
public abstract record WorkflowEffect;

/// <summary>What an activity instance asks for and then waits for an answer to.</summary>
public abstract record WorkflowRequest(string ActivityInstanceId) : WorkflowEffect;

/// <summary>The output <paramref name="Port"/> of a completed stage.</summary>
public sealed record PortSource(string ActivityInstanceId, string ActivityId, string Port);

/// <summary>Run a stage and answer with <see cref="StageSucceeded"/> or <see cref="StageFailed"/>. Settings have their declared JSON types.</summary>
public sealed record StartStage(
    string ActivityInstanceId,
    string ActivityId,
    StageDescriptor Stage,
    JsonObject Settings,
    IReadOnlyDictionary<string, PortSource> Inputs) : WorkflowRequest(ActivityInstanceId);

/// <summary>The result of a stage in flight is no longer wanted: a join that waits for any took another branch, or the workflow ended.</summary>
public sealed record CancelStage(string ActivityInstanceId) : WorkflowEffect;

/// <summary>When a timer fires, by the runtime's clock.</summary>
public abstract record TimerDue;

public sealed record DueAfter(TimeSpan Delay) : TimerDue;

public sealed record DueAt(DateTimeOffset Time) : TimerDue;

/// <summary>The next occurrence of a cron expression (five fields, or six with seconds first), in UTC.</summary>
public sealed record DueByCron(string Expression) : TimerDue;

/// <summary>Answer with <see cref="TimerFired"/> once.</summary>
public sealed record StartTimer(string ActivityInstanceId, TimerDue Due) : WorkflowRequest(ActivityInstanceId);

/// <summary>
/// Answer with <see cref="EventReceived"/> to the first event that reaches it, by <see cref="EventDelivery"/>.
/// <paramref name="CorrelationId"/> is the one that the run has when the wait is opened.
/// </summary>
public sealed record WaitForEvent(string ActivityInstanceId, string EventName, string? CorrelationId) : WorkflowRequest(ActivityInstanceId);

/// <summary>Ask a person; answer with <see cref="GateDecided"/>.</summary>
public sealed record OpenGate(string ActivityInstanceId, string ActivityId, string Title, string? Instructions) : WorkflowRequest(ActivityInstanceId);

/// <summary>
/// Start the published version of a workflow as a run with the id <paramref name="ChildId"/>. Answer with <see cref="ChildEnded"/> where
/// <paramref name="Wait"/> is set and with <see cref="ChildStarted"/> where it is not; with <see cref="ChildNotStarted"/> where it cannot be started.
/// </summary>
public sealed record StartChild(
    string ActivityInstanceId, Guid ChildId, string DefinitionId, JsonObject Inputs, string? CorrelationId, bool Wait) : WorkflowRequest(ActivityInstanceId);

/// <summary>
/// Deliver to every open wait that <see cref="EventDelivery.Reaches"/>, and start a run of every published workflow that
/// <see cref="EventDelivery.Starts"/>, with the event's payload and correlation id. Waits that the same transition opens are open.
/// </summary>
/// <param name="CorrelationId">Only runs that have this correlation id are meant; null means any run.</param>
/// <param name="IsLocal">Only the run that publishes is meant.</param>
public sealed record PublishEvent(string EventName, JsonNode? Payload, string? CorrelationId, bool IsLocal) : WorkflowEffect;

/// <summary>The timer, event, gate or child of that instance is no longer waited for; a child that runs is cancelled.</summary>
public sealed record CancelWait(string ActivityInstanceId) : WorkflowEffect;

public sealed record WriteLine(string Text) : WorkflowEffect;

/// <summary>
/// One journal record, with Elsa's event names: Started, Completed, Faulted, Canceled, Suspended, Resumed.
/// </summary>
/// <param name="Sequence">Counts the run's records from 1 without a gap.</param>
/// <param name="NodeId">The ids from the workflow down, <c>Workflow1:flowchart:activity</c>.</param>
/// <param name="Data">Members <c>inputs</c>, <c>outputs</c> (name to value) and <c>outcomes</c> (list), each only where there is one.</param>
public sealed record JournalEntry(
    long Sequence,
    string ActivityInstanceId,
    string? ParentInstanceId,
    string ActivityId,
    string NodeId,
    string ActivityType,
    string EventName,
    string? Message,
    JsonObject? Data) : WorkflowEffect;

/// <summary>Always the last effect of a workflow. Every later event is absorbed.</summary>
public sealed record FinishWorkflow(WorkflowStatus Status, string? Incident) : WorkflowEffect;

/// <summary>
/// Whom an event is for, as Elsa has it: names are compared letter by letter; an event with a correlation id is for the runs that have it,
/// and not for those that have none; one without is for every run, whatever its correlation id; a local one is for the run that
/// published it, and starts none.
/// </summary>
public static class EventDelivery
{
    public static bool Reaches(PublishEvent published, string eventName, string? correlationId, bool isPublishersOwn) =>
        string.Equals(published.EventName, eventName, StringComparison.Ordinal)
        && (published.CorrelationId is null || string.Equals(published.CorrelationId, correlationId, StringComparison.Ordinal))
        && (!published.IsLocal || isPublishersOwn);

    /// <summary>Whether a trigger that listens to <paramref name="eventName"/> starts a run.</summary>
    public static bool Starts(PublishEvent published, string eventName) =>
        !published.IsLocal && string.Equals(published.EventName, eventName, StringComparison.Ordinal);
}
