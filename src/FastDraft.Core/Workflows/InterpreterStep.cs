using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>An activity that cannot go on; the message is the incident's.</summary>
internal sealed class ActivityFaultException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// One transition in the making: works on its own copy of the state until nothing is left to do without an answer from outside.
/// This part is the engine (queue, completion, cancellation, faults); what each activity does is in the other two.
/// </summary>
internal sealed partial class InterpreterStep
{
    // A loop without a wait in it would otherwise never return to the runtime.
    private const int MaxActivities = 10_000;

    // Each value is kept in the state and in the journal, and a loop multiplies it.
    private const int MaxCharacters = 16 << 20;

    private readonly WorkflowDefinition _definition;
    private readonly Dictionary<string, StageDescriptor> _stages;
    private readonly WorkflowState _state;
    private readonly Expressions _expressions;
    private readonly LinkedList<WorkItem> _queue = [];
    private readonly Dictionary<string, ActivityInstance> _instances;
    private readonly List<WorkflowEffect> _effects = [];
    private int _numStarted;
    private int _numCharacters;

    // Set by Finish: nothing is scheduled, and no completion is handed on, from there.
    private bool _isFinished;
    private bool _isFaulted;

    public InterpreterStep(WorkflowDefinition definition, IReadOnlyList<StageDescriptor> stages, WorkflowState state)
    {
        _definition = definition;
        _stages = stages.ToDictionary(stage => stage.ActivityType, StringComparer.Ordinal);
        _state = state;
        _instances = state.Activities.ToDictionary(a => a.Id, StringComparer.Ordinal);
        _expressions = new Expressions(definition, state);
    }

    public IReadOnlyList<WorkflowEffect> Effects => _effects;

    public void Begin()
    {
        JournalWorkflow("Started");
        _queue.AddLast(new WorkItem(_definition.Root, null, false, null));
        Drain();
        Settle();
    }

    public void Handle(WorkflowEvent happened)
    {
        switch (happened)
        {
            case CancelRequested:
                foreach (var root in Running().Where(a => a.ParentId is null).ToList())
                {
                    Cancel(root, childrenFirst: true);
                }

                End(WorkflowStatus.Cancelled);
                break;
            case StageSucceeded e when Waiting(e.ActivityInstanceId, Awaited.Stage) is { } instance:
                Resume(instance, () =>
                {
                    foreach (var (name, value) in e.Outputs ?? [])
                    {
                        Output(instance, name, value);
                    }

                    Complete(instance, e.Outcome);
                });
                break;
            case StageFailed e when Waiting(e.ActivityInstanceId, Awaited.Stage) is { } instance:
                Resume(instance, () => throw new ActivityFaultException(e.Message));
                break;
            case TimerFired e when Waiting(e.ActivityInstanceId, Awaited.Timer) is { } instance:
                Resume(instance, () => Complete(instance, "Done"));
                break;
            case EventReceived e when Waiting(e.ActivityInstanceId, Awaited.Event) is { } instance:
                Resume(instance, () => CompleteWithResult(instance, e.Payload));
                break;
            case GateDecided e when Waiting(e.ActivityInstanceId, Awaited.Gate) is { } instance:
                Resume(instance, () =>
                {
                    Output(instance, "decidedBy", e.By);
                    Output(instance, "reason", e.Reason);
                    Complete(instance, e.Approved ? "Approved" : "Rejected");
                });
                break;
            case ChildEnded e when Waiting(e.ActivityInstanceId, Awaited.Child) is { } instance:
                Resume(instance, () => CompleteWithResult(instance, ChildResult(instance, e)));
                break;
            case ChildStarted e when Waiting(e.ActivityInstanceId, Awaited.ChildStart) is { } instance:
                Resume(instance, () => CompleteWithResult(instance, ChildReference(instance)));
                break;
            case ChildNotStarted e when (Waiting(e.ActivityInstanceId, Awaited.Child) ?? Waiting(e.ActivityInstanceId, Awaited.ChildStart)) is { } instance:
                Resume(instance, () => throw new ActivityFaultException(e.Message));
                break;
        }
    }

    private ActivityInstance? Waiting(string instanceId, Awaited awaited) =>
        _instances.TryGetValue(instanceId, out var instance) && instance.Status is ActivityStatus.Running && instance.Awaits == awaited ? instance : null;

    // A stage is one activity for whoever watches; what waits for a time or a person is shown as suspended and resumed.
    private static bool IsSuspended(ActivityInstance instance) =>
        instance is { Status: ActivityStatus.Running, Awaits: Awaited.Timer or Awaited.Event or Awaited.Gate or Awaited.Child };

    private void Resume(ActivityInstance instance, Action go)
    {
        if (IsSuspended(instance))
        {
            Journal(instance, "Resumed");
        }

        instance.Awaits = Awaited.Nothing;
        Guarded(instance, go);
        Drain();
        Settle();
    }

    private WorkflowActivity ActivityOf(ActivityInstance instance) =>
        _definition.Activity(instance.ActivityId) ?? throw new FormatException($"The state has an activity '{instance.ActivityId}', and the definition has none.");

    private ActivityInstance? ParentOf(ActivityInstance instance) => instance.ParentId is null ? null : _instances.GetValueOrDefault(instance.ParentId);

    private IEnumerable<ActivityInstance> Running() => _state.Activities.Where(a => a.Status is ActivityStatus.Running);

    private void Schedule(WorkflowActivity activity, ActivityInstance owner, bool enteredBackward = false, Dictionary<string, JsonNode?>? variables = null) =>
        _queue.AddLast(new WorkItem(activity, owner, enteredBackward, variables));

    private void Drain()
    {
        while (_state.Status is WorkflowStatus.Running && _queue.First is { } first)
        {
            _queue.RemoveFirst();
            Execute(first.Value);
        }
    }

    private void Execute(WorkItem item)
    {
        var activity = item.Activity;
        var number = _state.Started[activity.Id] = _state.Started.GetValueOrDefault(activity.Id) + 1;
        var instance = new ActivityInstance
        {
            Id = string.Create(CultureInfo.InvariantCulture, $"{activity.Id}#{number}"),
            ActivityId = activity.Id,
            ParentId = item.Owner?.Id,
            EnteredBackward = item.EnteredBackward,
            Variables = item.Variables ?? [],
        };
        _state.Activities.Add(instance);
        _instances[instance.Id] = instance;
        Journal(instance, "Started");
        Guarded(instance, () =>
        {
            if (++_numStarted > MaxActivities)
            {
                _queue.Clear();
                throw new ActivityFaultException($"More than {MaxActivities} activities ran without a stage or a wait between them: the workflow loops.");
            }

            Run(activity, instance);
        });
        if (IsSuspended(instance))
        {
            Journal(instance, "Suspended");
        }
    }

    // Whatever goes wrong while an activity runs, or while what it completes goes on, is its incident: that is how Elsa attributes it.
    // An exception that nobody foresaw would come back with every replay of the event, and the run could neither go on nor end.
    private void Guarded(ActivityInstance instance, Action go)
    {
        try
        {
            go();
        }
        catch (Exception e)
        {
            Fault(instance, e is ActivityFaultException or ExpressionException ? e.Message : $"{e.GetType().Name}: {e.Message}");
        }
    }

    /// <summary>The value itself; counted, because the state and the journal hold it from here on.</summary>
    private JsonNode? Counted(JsonNode? value)
    {
        _numCharacters += value.Size();
        return _numCharacters <= MaxCharacters ? value
            : throw new ActivityFaultException($"The values between two waits have more than {MaxCharacters} characters.");
    }

    private void Fault(ActivityInstance instance, string message)
    {
        if (!_state.Activities.Contains(instance))
        {
            _state.Activities.Add(instance);
        }

        _instances[instance.Id] = instance;
        (instance.Status, instance.Awaits) = (ActivityStatus.Faulted, Awaited.Nothing);
        Journal(instance, "Faulted", message, Data(instance, null));
        _state.Incidents.Add(new WorkflowIncident(instance.Id, instance.ActivityId, ActivityOf(instance).NodeId, JournalType(ActivityOf(instance)), message));

        // The queue is still worked off, as Elsa does; only then does the run end.
        _isFaulted |= !_definition.ContinuesWithIncidents;
    }

    private void CompleteWithResult(ActivityInstance instance, JsonNode? result, params string[] outcomes)
    {
        Output(instance, "result", result);
        _state.LastResult = result?.DeepClone();
        Complete(instance, outcomes.Length > 0 ? outcomes : ["Done"]);
    }

    private void Complete(ActivityInstance instance, params string[] outcomes)
    {
        if (instance.Status is not ActivityStatus.Running)
        {
            return;
        }

        foreach (var child in ChildrenOf(instance))
        {
            Cancel(child, childrenFirst: false);
        }

        (instance.Status, instance.Awaits) = (ActivityStatus.Completed, Awaited.Nothing);
        Journal(instance, "Completed", null, Data(instance, outcomes));
        Keep(instance);
        Forget(instance);
        if (_isFinished)
        {
            return;
        }

        if (instance.ParentId is null)
        {
            JournalWorkflow("Completed");
        }
        else if (ParentOf(instance) is { Status: ActivityStatus.Running } parent)
        {
            ChildCompleted(ActivityOf(parent), parent, instance, outcomes);
        }
    }

    private List<ActivityInstance> ChildrenOf(ActivityInstance instance) => [.. Running().Where(a => a.ParentId == instance.Id)];

    private void Cancel(ActivityInstance instance, bool childrenFirst)
    {
        if (instance.Status is not ActivityStatus.Running)
        {
            return;
        }

        Withdraw(item => item.Owner == instance);
        if (childrenFirst)
        {
            CancelChildren();
        }

        var awaited = instance.Awaits;
        (instance.Status, instance.Awaits) = (ActivityStatus.Cancelled, Awaited.Nothing);
        Journal(instance, "Canceled");
        StopWaiting(instance, awaited);
        if (!childrenFirst)
        {
            CancelChildren();
        }

        Forget(instance);

        void CancelChildren()
        {
            foreach (var child in ChildrenOf(instance))
            {
                Cancel(child, childrenFirst);
            }
        }
    }

    private void Withdraw(Func<WorkItem, bool> unwanted)
    {
        for (var node = _queue.First; node is not null;)
        {
            var next = node.Next;
            if (unwanted(node.Value))
            {
                _queue.Remove(node);
            }

            node = next;
        }
    }

    private void StopWaiting(ActivityInstance instance, Awaited awaited)
    {
        if (awaited is Awaited.Nothing)
        {
            return;
        }

        // What this very transition asked for never leaves it.
        var numAsked = _effects.RemoveAll(e => e is WorkflowRequest ask && ask.ActivityInstanceId == instance.Id);
        if (numAsked == 0)
        {
            _effects.Add(awaited is Awaited.Stage ? new CancelStage(instance.Id) : new CancelWait(instance.Id));
        }
    }

    private void Keep(ActivityInstance instance)
    {
        var parent = ParentOf(instance);
        var results = parent?.Results ?? _state.Results;
        foreach (var (id, inner) in instance.Results)
        {
            results[id] = inner;
        }

        results[instance.ActivityId] = new ActivityResult(instance.Id, instance.Outputs, _state.Sequence);
    }

    private void Forget(ActivityInstance instance)
    {
        _state.Activities.Remove(instance);
        _instances.Remove(instance.Id);
    }

    private void Settle()
    {
        if (_state.Status is not WorkflowStatus.Running)
        {
            return;
        }

        if (_isFaulted)
        {
            End(WorkflowStatus.Faulted);
        }
        else if (_isFinished || !_state.Activities.Exists(a => a.ParentId is null))
        {
            End(WorkflowStatus.Finished);
        }
        else if (!_state.Activities.Exists(a => a.Awaits is not Awaited.Nothing))
        {
            // Only faulted activities, and containers that wait for them, are left.
            End(WorkflowStatus.Faulted);
        }

        // The run may have been given a correlation id after an activity of it began to wait.
        for (var i = 0; i < _effects.Count; i++)
        {
            _effects[i] = _effects[i] is WaitForEvent wait ? wait with { CorrelationId = _state.CorrelationId } : _effects[i];
        }
    }

    private void End(WorkflowStatus status)
    {
        _queue.Clear();
        foreach (var instance in Running().ToList())
        {
            var awaited = instance.Awaits;
            instance.Awaits = Awaited.Nothing;
            StopWaiting(instance, awaited);
        }

        _state.Status = status;
        _effects.Add(new FinishWorkflow(status, status is WorkflowStatus.Faulted ? _state.Incident : null));
    }

    private void Journal(ActivityInstance instance, string eventName, string? message = null, JsonObject? data = null)
    {
        var activity = ActivityOf(instance);
        _effects.Add(new JournalEntry(
            ++_state.Sequence, instance.Id, instance.ParentId ?? WorkflowActivity.WorkflowId, activity.Id, activity.NodeId, JournalType(activity), eventName, message, data));
    }

    private void JournalWorkflow(string eventName) => _effects.Add(new JournalEntry(
        ++_state.Sequence, WorkflowActivity.WorkflowId, null, WorkflowActivity.WorkflowId, WorkflowActivity.WorkflowId, ActivityTypes.Workflow, eventName, null, null));

    private string JournalType(WorkflowActivity activity) =>
        activity.Core is not null || _stages.ContainsKey(activity.Type) ? activity.Type : ActivityTypes.NotFound;

    private JsonObject? Data(ActivityInstance instance, string[]? outcomes)
    {
        var data = new JsonObject();
        if (instance.Inputs.Count > 0)
        {
            data["inputs"] = new JsonObject(instance.Inputs.Select(i => KeyValuePair.Create(i.Key, i.Value?.DeepClone())));
        }

        if (instance.Outputs is { Count: > 0 } outputs)
        {
            data["outputs"] = new JsonObject(outputs.Select(o => KeyValuePair.Create(o.Key, o.Value?.DeepClone())));
        }

        if (outcomes is not null && outcomes is not ["Done"])
        {
            data["outcomes"] = new JsonArray([.. outcomes.Select(o => (JsonNode)o)]);
        }

        return data.Count > 0 ? data : null;
    }

    private sealed record WorkItem(WorkflowActivity Activity, ActivityInstance? Owner, bool EnteredBackward, Dictionary<string, JsonNode?>? Variables);
}
