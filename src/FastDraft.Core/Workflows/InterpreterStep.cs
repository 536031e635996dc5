using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>One transition in the making: works on its own copy of the state until nothing is left to do without an answer from outside.</summary>
internal sealed class InterpreterStep
{
    private const string WorkflowId = "Workflow1";

    // A loop without a stage in it would otherwise never return to the runtime.
    private const int MaxActivities = 10_000;

    private readonly WorkflowDefinition _definition;
    private readonly Dictionary<string, StageDescriptor> _stages;
    private readonly WorkflowState _state;
    private readonly Expressions _expressions;
    private readonly LinkedList<WorkItem> _queue = [];
    private readonly Dictionary<string, FlowGraph> _graphs = new(StringComparer.Ordinal);
    private readonly List<WorkflowEffect> _effects = [];

    public InterpreterStep(WorkflowDefinition definition, IReadOnlyList<StageDescriptor> stages, WorkflowState state)
    {
        _definition = definition;
        _stages = stages.ToDictionary(stage => stage.ActivityType, StringComparer.Ordinal);
        _state = state;
        _expressions = new Expressions(definition, state);
    }

    public IReadOnlyList<WorkflowEffect> Effects => _effects;

    public void Begin()
    {
        JournalWorkflow("Started");
        _queue.AddLast(new WorkItem(_definition.Root.Id, null, false));
        Drain();
    }

    public void StageEnded(string instanceId, string? failure, string outcome = "Done")
    {
        var instance = _state.Activities.Find(a => a.Id == instanceId);
        if (instance is not { Status: ActivityStatus.Running } || _state.Containers.ContainsKey(instanceId))
        {
            return;
        }

        if (failure is not null)
        {
            Fault(instance, failure);
            return;
        }

        try
        {
            Complete(instance, outcome);
        }
        catch (ExpressionException e)
        {
            Fault(instance, e.Message);
        }

        Drain();
    }

    public void Cancel()
    {
        foreach (var instance in Running().Where(a => !_state.Containers.ContainsKey(a.Id)))
        {
            Set(instance, ActivityStatus.Cancelled);
            Journal(instance, "Canceled", null);
            _effects.Add(new CancelStage(instance.Id));
        }

        End(WorkflowStatus.Cancelled, null);
    }

    private IReadOnlyList<ActivityInstance> Running() => [.. _state.Activities.Where(a => a.Status is ActivityStatus.Running)];

    private void Drain()
    {
        for (var count = 0; _state.Status is WorkflowStatus.Running && _queue.First is { } first; count++)
        {
            _queue.RemoveFirst();
            Execute(first.Value, count);
        }
    }

    private void Execute(WorkItem item, int count)
    {
        var activity = _definition.Activity(item.ActivityId)!;
        var number = _state.Activities.Count(a => a.ActivityId == activity.Id) + 1;
        var instance = new ActivityInstance(
            string.Create(CultureInfo.InvariantCulture, $"{activity.Id}#{number}"), activity.Id, item.ParentId, item.Backward, ActivityStatus.Running);
        _state.Activities.Add(instance);
        Journal(instance, "Started", null);
        if (count >= MaxActivities)
        {
            Fault(instance, $"More than {MaxActivities} activities ran without a stage between them: the workflow loops.");
            return;
        }

        try
        {
            Run(activity, instance);
        }
        catch (ExpressionException e)
        {
            Fault(instance, e.Message);
        }
    }

    private void Run(WorkflowActivity activity, ActivityInstance instance)
    {
        switch (activity.Type)
        {
            case ActivityTypes.Flowchart:
                _state.Containers[instance.Id] = new ContainerCounters();
                if (Graph(activity).Start is { } start)
                {
                    _queue.AddLast(new WorkItem(start.Id, instance.Id, false));
                }
                else
                {
                    Complete(instance, "Done");
                }

                break;
            case ActivityTypes.Sequence:
                _state.Containers[instance.Id] = new ContainerCounters();
                Advance(activity, instance);
                break;
            case ActivityTypes.Start or ActivityTypes.FlowJoin:
                Complete(instance, "Done");
                break;
            case ActivityTypes.FlowDecision:
                Complete(instance, IsTrue(Value(activity, "condition")) ? "True" : "False");
                break;
            case ActivityTypes.FlowFork:
                Complete(instance, Branches(activity));
                break;
            case ActivityTypes.FlowSwitch:
                Complete(instance, Cases(activity));
                break;
            case ActivityTypes.SetVariable:
                SetVariable(activity);
                Complete(instance, "Done");
                break;
            case ActivityTypes.SetOutput:
                _state.Outputs[Value(activity, "outputName").AsText() ?? ""] = Value(activity, "outputValue");
                Complete(instance, "Done");
                break;
            case ActivityTypes.WriteLine:
                if (Value(activity, "text").AsText() is { } text)
                {
                    _effects.Add(new WriteLine(text));
                }

                Complete(instance, "Done");
                break;
            case ActivityTypes.Finish:
                Set(instance, ActivityStatus.Completed);
                Journal(instance, "Completed", null);
                _queue.Clear();
                CancelStages();
                End(WorkflowStatus.Finished, null);
                break;
            case ActivityTypes.Fault:
                Fault(instance, Value(activity, "message").AsText() ?? "The workflow reached a Fault activity.");
                break;
            default:
                if (_stages.TryGetValue(activity.Type, out var stage))
                {
                    StartStage(activity, instance, stage);
                }
                else
                {
                    Fault(instance, $"Activity type '{activity.Type}' version '0' could not be found.");
                }

                break;
        }
    }

    private JsonNode? Value(WorkflowActivity activity, string input)
    {
        try
        {
            return _expressions.TryEvaluate(activity, input, out var value) ? value : null;
        }
        catch (ExpressionException e)
        {
            throw new ExpressionException($"Failed to evaluate activity input '{char.ToUpperInvariant(input[0])}{input[1..]}': {e.Message}", e);
        }
    }

    private static bool IsTrue(JsonNode? value) => bool.TryParse(value.AsText(), out var flag) && flag;

    private string[] Branches(WorkflowActivity fork)
    {
        string[] branches = Value(fork, "branches") switch
        {
            JsonArray array => [.. array.Select(b => b.AsText()).OfType<string>()],
            JsonValue text when JsonMembers.ParseOrNull(text.AsText()) is JsonArray array => [.. array.Select(b => b.AsText()).OfType<string>()],
            _ => [],
        };
        return branches.Length > 0 ? branches : ["Done"];
    }

    private string[] Cases(WorkflowActivity flowSwitch)
    {
        var all = Value(flowSwitch, "mode").AsText() == "MatchAny";
        var labels = flowSwitch.Json.Objects("cases")
            .Where(c => c.Member("condition") is JsonObject condition && _expressions.TryEvaluate(condition, out var value) && IsTrue(value))
            .Select(c => c.Text("label") ?? "");
        string[] matching = [.. all ? labels : labels.Take(1)];
        return matching.Length > 0 ? matching : ["Default"];
    }

    private void SetVariable(WorkflowActivity activity)
    {
        var id = (activity.Json.Member("variable") as JsonObject)?.Text("id");
        if (id is null || !_state.Variables.ContainsKey(id))
        {
            throw new ExpressionException($"There is no variable with id '{id}'.");
        }

        _state.Variables[id] = Value(activity, "value");
    }

    private void StartStage(WorkflowActivity activity, ActivityInstance instance, StageDescriptor stage)
    {
        var settings = new JsonObject();
        foreach (var setting in stage.Settings)
        {
            var given = Value(activity, setting.Name);
            if (given is null)
            {
                if (setting.Default is not null)
                {
                    settings[setting.Name] = setting.Default.DeepClone();
                }
                else if (setting.Required)
                {
                    throw new ExpressionException($"stage '{activity.Id}': setting '{setting.Name}' has no value");
                }

                continue;
            }

            var (value, error) = SettingValue.Convert(setting, given);
            settings[setting.Name] = error is null ? value : throw new ExpressionException($"stage '{activity.Id}': setting '{setting.Name}' {error}");
        }

        var inputs = new Dictionary<string, PortSource>(StringComparer.Ordinal);
        foreach (var port in stage.Inputs.Where(p => p.UnlessSetting is null || settings[p.UnlessSetting] is null))
        {
            if (Source(activity, port) is { } source)
            {
                inputs[port.Name] = source;
            }
        }

        _effects.Add(new StartStage(instance.Id, activity.Id, stage, settings, inputs));
    }

    private PortSource? Source(WorkflowActivity activity, PortDescriptor port)
    {
        if (Value(activity, port.Name).AsText() is { Length: > 0 } text)
        {
            var dot = text.LastIndexOf('.');
            var (id, output) = dot < 0 ? (text, "") : (text[..dot], text[(dot + 1)..]);
            var produced = _definition.Activity(id) is { } source && _stages.TryGetValue(source.Type, out var stage)
                ? stage.Outputs.FirstOrDefault(o => o.Name == output)
                : null;
            if (produced is null || produced.Kind != port.Kind)
            {
                throw new ExpressionException($"stage '{activity.Id}': input '{port.Name}' expects kind {port.Kind}, got {produced?.Kind ?? "nothing"} (from '{text}')");
            }

            // What a branch that was not taken would have made is nothing to wait for where the stage can do without.
            return LastCompleted(id) is { } completed ? new PortSource(completed.Id, id, output)
                : !port.Required ? null
                : throw new ExpressionException($"stage '{activity.Id}': input '{port.Name}' takes '{text}', and '{id}' has not completed");
        }

        if (!port.Required)
        {
            return null;
        }

        // A branch that was not taken produced nothing, so only completed stages count.
        var nearest = PortBinding.Nearest(
            PortBinding.Upstream(activity, port.Kind, _stages).Where(c => LastCompleted(c.ActivityId) is not null), port.Name);
        return nearest.Count switch
        {
            1 => new PortSource(LastCompleted(nearest[0].ActivityId)!.Id, nearest[0].ActivityId, nearest[0].Port),
            0 => throw new ExpressionException($"stage '{activity.Id}': no stage before it made a {port.Kind} for input '{port.Name}'"),
            _ => throw new ExpressionException(
                $"stage '{activity.Id}': input '{port.Name}' could be {string.Join(" or ", nearest.Select(c => $"'{c.ActivityId}.{c.Port}'"))}"),
        };
    }

    private ActivityInstance? LastCompleted(string activityId) =>
        _state.Activities.FindLast(a => a.ActivityId == activityId && a.Status is ActivityStatus.Completed);

    private void Complete(ActivityInstance instance, params string[] outcomes)
    {
        Set(instance, ActivityStatus.Completed);
        Journal(instance, "Completed", null);
        if (instance.ParentId is null)
        {
            JournalWorkflow("Completed");
            End(WorkflowStatus.Finished, null);
            return;
        }

        var parent = _state.Activities.Find(a => a.Id == instance.ParentId)!;
        var container = _definition.Activity(parent.ActivityId)!;
        if (container.Type == ActivityTypes.Sequence)
        {
            Advance(container, parent);
            return;
        }

        Propagate(container, parent, instance.ActivityId, outcomes, instance.EnteredBackward);
        CompleteIfIdle(parent);
    }

    private void Advance(WorkflowActivity sequence, ActivityInstance instance)
    {
        var counters = _state.Containers[instance.Id];
        if (counters.Next < sequence.Children.Count)
        {
            _queue.AddLast(new WorkItem(sequence.Children[counters.Next++].Id, instance.Id, false));
        }
        else
        {
            Complete(instance, "Done");
        }
    }

    private void CompleteIfIdle(ActivityInstance flowchart)
    {
        if (_state.Status is WorkflowStatus.Running
            && _state.Activities.Find(a => a.Id == flowchart.Id)!.Status is ActivityStatus.Running
            && !_queue.Any(item => item.ParentId == flowchart.Id)
            && !_state.Activities.Any(a => a.ParentId == flowchart.Id && a.Status is (ActivityStatus.Running or ActivityStatus.Faulted)))
        {
            Complete(flowchart, "Done");
        }
    }

    private void Propagate(WorkflowActivity flowchart, ActivityInstance scope, string activityId, string[] outcomes, bool enteredBackward)
    {
        var graph = Graph(flowchart);
        var counters = _state.Containers[scope.Id];
        if (!enteredBackward)
        {
            counters.Activities[activityId] = counters.Activities.GetValueOrDefault(activityId) + 1;
        }

        foreach (var (index, connection) in graph.Outbound(activityId).ToList())
        {
            var followed = outcomes.Contains(connection.SourcePort, StringComparer.Ordinal);
            counters.Connections[index] = counters.Connections.GetValueOrDefault(index) + 1;
            counters.Followed[index] = followed;
            if (graph.IsForward(index))
            {
                Visit(flowchart, scope, graph, index, connection.Target, followed);
            }
            else if (followed)
            {
                if (!graph.IsValidLoop(connection))
                {
                    throw new ExpressionException($"The connection from '{connection.Source}' back to '{connection.Target}' enters a loop at its middle.");
                }

                _queue.AddLast(new WorkItem(connection.Target, scope.Id, true));
            }
        }
    }

    private void Visit(WorkflowActivity flowchart, ActivityInstance scope, FlowGraph graph, int index, string target, bool followed)
    {
        var counters = _state.Containers[scope.Id];
        var visits = counters.Activities.GetValueOrDefault(target);
        var inbound = graph.ForwardInbound(target).ToList();
        var allVisited = inbound.Min(i => counters.Connections.GetValueOrDefault(i)) > visits;
        var last = inbound.Max(i => counters.Connections.GetValueOrDefault(i));
        var latest = inbound.Where(i => counters.Connections.GetValueOrDefault(i) == last).ToList();
        var activity = _definition.Activity(target)!;
        var mode = activity.Type == ActivityTypes.FlowJoin ? Value(activity, "mode").AsText() ?? "WaitAny" : "WaitAllActive";
        bool run;
        switch (mode)
        {
            case "WaitAny":
                if (counters.Connections[index] <= visits || _queue.Any(item => item.ActivityId == target && item.ParentId == scope.Id))
                {
                    return;
                }

                if (!followed && !allVisited)
                {
                    return;
                }

                run = followed || latest.Any(i => counters.Followed[i]);
                break;
            case "WaitAll":
                if (!allVisited)
                {
                    return;
                }

                run = latest.All(i => counters.Followed[i]);
                break;
            default:
                if (!allVisited)
                {
                    return;
                }

                run = latest.Any(i => counters.Followed[i]);
                break;
        }

        if (!run)
        {
            // Dead-path elimination: the target is passed over as if it had completed without an outcome.
            Propagate(flowchart, scope, target, [], false);
            return;
        }

        _queue.AddLast(new WorkItem(target, scope.Id, false));
        if (mode == "WaitAny")
        {
            foreach (var instance in Running().Where(a => a.ParentId == scope.Id && graph.IsAncestor(a.ActivityId, target)))
            {
                CancelTree(instance);
                Propagate(flowchart, scope, instance.ActivityId, [], instance.EnteredBackward);
            }
        }
    }

    private void CancelTree(ActivityInstance instance)
    {
        for (var node = _queue.First; node is not null;)
        {
            var next = node.Next;
            if (node.Value.ParentId == instance.Id)
            {
                _queue.Remove(node);
            }

            node = next;
        }

        foreach (var child in Running().Where(a => a.ParentId == instance.Id))
        {
            CancelTree(child);
        }

        Set(instance, ActivityStatus.Cancelled);
        Journal(instance, "Canceled", null);
        if (!_state.Containers.ContainsKey(instance.Id))
        {
            _effects.Add(new CancelStage(instance.Id));
        }
    }

    private void Fault(ActivityInstance instance, string message)
    {
        Set(instance, ActivityStatus.Faulted);
        Journal(instance, "Faulted", message);
        _queue.Clear();
        CancelStages();
        End(WorkflowStatus.Faulted, message);
    }

    private void CancelStages() => _effects.AddRange(
        Running().Where(a => !_state.Containers.ContainsKey(a.Id)).Select(a => new CancelStage(a.Id)));

    private void End(WorkflowStatus status, string? incident)
    {
        _state.Status = status;
        _state.Incident = incident;
        _effects.Add(new FinishWorkflow(status, incident));
    }

    private void Set(ActivityInstance instance, ActivityStatus status)
    {
        var index = _state.Activities.FindIndex(a => a.Id == instance.Id);
        _state.Activities[index] = _state.Activities[index] with { Status = status };
    }

    private void Journal(ActivityInstance instance, string eventName, string? message)
    {
        var type = _definition.Activity(instance.ActivityId)!.Type;
        var known = CoreActivities.ByType.ContainsKey(type) || _stages.ContainsKey(type);
        _effects.Add(new JournalEntry(
            ++_state.Sequence, instance.Id, instance.ParentId ?? WorkflowId, instance.ActivityId, _definition.Activity(instance.ActivityId)!.NodeId,
            known ? type : ActivityTypes.NotFound, eventName, message, null));
    }

    private void JournalWorkflow(string eventName)
    {
        _effects.Add(new JournalEntry(++_state.Sequence, WorkflowId, null, WorkflowId, WorkflowId, ActivityTypes.Workflow, eventName, null, null));
    }

    private FlowGraph Graph(WorkflowActivity flowchart)
    {
        if (!_graphs.TryGetValue(flowchart.Id, out var graph))
        {
            graph = _graphs[flowchart.Id] = new FlowGraph(flowchart);
        }

        return graph;
    }

    private sealed record WorkItem(string ActivityId, string? ParentId, bool Backward);
}
