using System.Runtime.CompilerServices;

namespace FastDraft.Core.Workflows;

/// <summary>Flowcharts in Elsa's counter mode: which connections are followed, which joins wait, which paths are dead.</summary>
internal sealed partial class InterpreterStep
{
    private readonly Dictionary<string, FlowGraph> _graphs = new(StringComparer.Ordinal);

    // The trigger that started the run is where its flowchart starts.
    private FlowGraph GraphOf(WorkflowActivity flowchart)
    {
        if (!_graphs.TryGetValue(flowchart.Id, out var graph))
        {
            var trigger = _state.TriggerActivityId is null ? null : flowchart.ChildById(_state.TriggerActivityId);
            graph = _graphs[flowchart.Id] = trigger is null ? flowchart.Graph : new FlowGraph(flowchart, trigger);
        }

        return graph;
    }

    private void FlowOn(WorkflowActivity flowchart, ActivityInstance instance, ActivityInstance child, string[] outcomes)
    {
        if (ActivityOf(child).Core is { IsTerminal: true })
        {
            Complete(instance, "Done");
        }
        else if (!Propagate(flowchart, instance, child.ActivityId, outcomes, child.EnteredBackward))
        {
            CompleteIfIdle(instance);
        }
    }

    private void CompleteIfIdle(ActivityInstance flowchart)
    {
        var isBusy = _state.Activities.Any(a => a.ParentId == flowchart.Id && a.Status is (ActivityStatus.Running or ActivityStatus.Faulted))
            || _queue.Any(item => IsWithin(item.Owner, flowchart));
        if (!isBusy)
        {
            Complete(flowchart, "Done");
        }
    }

    // What a container left in the queue when it ended is nobody's work: waiting for it would be waiting for ever.
    private bool IsWithin(ActivityInstance? instance, ActivityInstance ancestor)
    {
        for (; instance is { Status: ActivityStatus.Running }; instance = ParentOf(instance))
        {
            if (instance == ancestor)
            {
                return true;
            }
        }

        return false;
    }

    /// <returns>Whether anything was scheduled.</returns>
    private bool Propagate(WorkflowActivity flowchart, ActivityInstance scope, string activityId, string[] outcomes, bool enteredBackward)
    {
        // A dead path is passed over in one go, however long it is.
        RuntimeHelpers.EnsureSufficientExecutionStack();
        var graph = GraphOf(flowchart);
        var counters = scope.Flow!;
        if (!enteredBackward)
        {
            counters.Activities[activityId] = counters.Activities.GetValueOrDefault(activityId) + 1;
        }

        var hasScheduled = false;
        foreach (var (index, connection) in graph.Outbound(activityId))
        {
            var followed = outcomes.Contains(connection.SourcePort, StringComparer.Ordinal);
            counters.Connections[index] = counters.Connections.GetValueOrDefault(index) + 1;
            counters.Followed[index] = followed;
            var target = flowchart.ChildById(connection.Target)!;
            if (graph.IsForward(index))
            {
                hasScheduled |= Visit(flowchart, scope, graph, index, target);
            }
            else if (followed)
            {
                if (!graph.IsValidLoop(connection))
                {
                    throw new ActivityFaultException(
                        $"Invalid backward connection: Every path from the source ('{connection.Source}') must go through the target ('{connection.Target}') when tracing back to the start.");
                }

                Schedule(target, scope, enteredBackward: true);
                hasScheduled = true;
            }
        }

        return hasScheduled;
    }

    private bool Visit(WorkflowActivity flowchart, ActivityInstance scope, FlowGraph graph, int index, WorkflowActivity target)
    {
        var counters = scope.Flow!;
        var visits = counters.Activities.GetValueOrDefault(target.Id);
        var inbound = graph.ForwardInbound(target.Id);
        var last = inbound.Max(i => counters.Connections.GetValueOrDefault(i));
        var isAllVisited = inbound.Min(i => counters.Connections.GetValueOrDefault(i)) > visits;
        var isAnyFollowed = last > visits && inbound.Any(IsFollowed);
        switch (JoinModeOf(target, scope))
        {
            case "WaitAny":
                // The branch that a join cancels while it runs reaches it too: Elsa would run the join, and what follows it, once more.
                if (counters.Connections[index] <= visits || _queue.Any(item => item.Activity == target && item.Owner == scope)
                    || Running().Any(a => a.ActivityId == target.Id && a.ParentId == scope.Id))
                {
                    return false;
                }

                if (isAnyFollowed)
                {
                    Schedule(target, scope);
                    CancelAncestors(scope, target);
                    return true;
                }

                return isAllVisited && Skip();
            case "WaitAll":
                return isAllVisited && (last > visits && inbound.All(IsFollowed) ? Run() : Skip());
            default:
                return isAllVisited && (isAnyFollowed ? Run() : Skip());
        }

        bool IsFollowed(int i) => counters.Connections.GetValueOrDefault(i) == last && counters.Followed.GetValueOrDefault(i);

        bool Run()
        {
            Schedule(target, scope);
            return true;
        }

        // Dead-path elimination: the target is passed over as if it had completed without an outcome.
        bool Skip() => Propagate(flowchart, scope, target.Id, [], false);
    }

    private string JoinModeOf(WorkflowActivity target, ActivityInstance scope) =>
        target.Type == ActivityTypes.FlowJoin ? Value(target, scope, target.Core!.Input("mode")!).AsText() ?? "WaitAny" : "WaitAllActive";

    private void CancelAncestors(ActivityInstance? scope, WorkflowActivity join)
    {
        if (scope?.Flow is null || join.Parent is not { } flowchart)
        {
            return;
        }

        var graph = GraphOf(flowchart);
        foreach (var instance in ChildrenOf(scope).Where(a => graph.IsAncestor(a.ActivityId, join.Id)))
        {
            Cancel(instance, childrenFirst: true);
            if (scope.Status is ActivityStatus.Running)
            {
                Propagate(flowchart, scope, instance.ActivityId, [], false);
            }
        }
    }
}
