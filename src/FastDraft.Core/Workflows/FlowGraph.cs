namespace FastDraft.Core.Workflows;

/// <summary>
/// A flowchart's connections, split into forward ones and backward ones (those that close a cycle when walking breadth-first
/// from the start). A connection is known by its index in the definition; one that repeats another, or that names an activity which
/// is not there, is dropped.
/// </summary>
internal sealed class FlowGraph
{
    private readonly IReadOnlyList<WorkflowConnection> _connections;
    private readonly Dictionary<string, List<int>> _outbound = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<int>> _forwardOut = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<int>> _forwardIn = new(StringComparer.Ordinal);
    private readonly HashSet<int> _forward = [];

    public FlowGraph(WorkflowActivity flowchart, WorkflowActivity? trigger = null)
    {
        _connections = flowchart.Connections;
        Start = trigger ?? StartOf(flowchart);
        var ids = flowchart.Children.Select(a => a.Id).ToHashSet(StringComparer.Ordinal);
        var seen = new HashSet<(string, string, string)>();
        foreach (var (index, c) in _connections.Index())
        {
            if (ids.Contains(c.Source) && ids.Contains(c.Target) && seen.Add((c.Source, c.SourcePort, c.Target)))
            {
                Add(_outbound, c.Source, index);
            }
        }

        if (Start is not null)
        {
            WalkForward(Start.Id);
        }
    }

    public WorkflowActivity? Start { get; }

    public static WorkflowActivity? StartOf(WorkflowActivity flowchart)
    {
        var targets = flowchart.Connections.Select(c => c.Target).ToHashSet(StringComparer.Ordinal);
        return flowchart.Children.FirstOrDefault(a => a.Type == ActivityTypes.Start)
            ?? flowchart.Children.FirstOrDefault(a => a.CanStartWorkflow)
            ?? flowchart.Children.FirstOrDefault(a => !targets.Contains(a.Id))
            ?? (flowchart.Children.Count > 0 ? flowchart.Children[0] : null);
    }

    public IEnumerable<(int Index, WorkflowConnection Connection)> Outbound(string id) => Of(_outbound, id).Select(index => (index, _connections[index]));

    public IReadOnlyList<int> ForwardInbound(string id) => Of(_forwardIn, id);

    /// <summary>The activities that a forward connection leads from or to.</summary>
    public IEnumerable<string> Predecessors(string id) => Of(_forwardIn, id).Select(index => _connections[index].Source).Distinct();

    public IEnumerable<string> Successors(string id) => Of(_forwardOut, id).Select(index => _connections[index].Target).Distinct();

    public bool IsForward(int index) => _forward.Contains(index);

    public bool IsReachable(string id) => Start is not null && (id == Start.Id || _forwardIn.ContainsKey(id));

    /// <summary>A loop is entered only where it is left: every forward path from the start to the source passes the target.</summary>
    public bool IsValidLoop(WorkflowConnection backward) =>
        backward.Target == Start!.Id || backward.Target == backward.Source || !Reaches(Start.Id, backward.Source, backward.Target);

    public bool IsAncestor(string ancestor, string id) => ancestor != id && Reaches(ancestor, id, null);

    private void WalkForward(string start)
    {
        var queue = new Queue<string>([start]);
        var seen = new HashSet<string>(StringComparer.Ordinal) { start };
        while (queue.TryDequeue(out var id))
        {
            foreach (var index in Of(_outbound, id))
            {
                var target = _connections[index].Target;
                if (target == id || Reaches(target, id, null))
                {
                    continue;
                }

                _forward.Add(index);
                Add(_forwardOut, id, index);
                Add(_forwardIn, target, index);
                if (seen.Add(target))
                {
                    queue.Enqueue(target);
                }
            }
        }
    }

    private bool Reaches(string from, string to, string? avoiding)
    {
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var stack = new Stack<string>([from]);
        while (stack.TryPop(out var id))
        {
            if (id == avoiding || !seen.Add(id))
            {
                continue;
            }

            if (id == to)
            {
                return true;
            }

            foreach (var index in Of(_forwardOut, id))
            {
                stack.Push(_connections[index].Target);
            }
        }

        return false;
    }

    private static List<int> Of(Dictionary<string, List<int>> map, string id) => map.GetValueOrDefault(id) ?? [];

    private static void Add(Dictionary<string, List<int>> map, string id, int index)
    {
        if (!map.TryGetValue(id, out var list))
        {
            map[id] = list = [];
        }

        list.Add(index);
    }
}
