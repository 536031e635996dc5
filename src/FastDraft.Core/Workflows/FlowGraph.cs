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
    private readonly Dictionary<string, List<int>> _inbound = new(StringComparer.Ordinal);
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
                Add(_inbound, c.Target, index);
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

    /// <summary>The activities that any connection, a backward one too, leads from.</summary>
    public IEnumerable<string> Sources(string id) => Of(_inbound, id).Select(index => _connections[index].Source).Distinct();

    /// <summary>No forward connection leads on.</summary>
    public bool IsLast(string id) => !_forwardOut.ContainsKey(id);

    public bool IsForward(int index) => _forward.Contains(index);

    /// <summary>Connections that close a loop which may not be closed there: following one faults.</summary>
    public IEnumerable<WorkflowConnection> InvalidLoops() =>
        from id in _forwardIn.Keys.Append(Start?.Id ?? "")
        from outbound in Outbound(id)
        where !IsForward(outbound.Index) && !IsValidLoop(outbound.Connection)
        select outbound.Connection;

    /// <summary>A loop is entered only where it is left: every forward path from the start to the source passes the target.</summary>
    public bool IsValidLoop(WorkflowConnection backward) =>
        backward.Target == Start!.Id || backward.Target == backward.Source || !Reaches(Start.Id, backward.Source, backward.Target);

    public bool IsAncestor(string ancestor, string id) => ancestor != id && Reaches(ancestor, id, null);

    /// <summary>
    /// Whether one walk from the start runs at most one of the two: every way to either passes one activity that goes on by a single
    /// port, and no port of it leads to both.
    /// </summary>
    public bool AreExclusive(string a, string b, Func<string, bool> goesOnByOnePort)
    {
        return Start is not null && _forwardOut.Keys.Where(goesOnByOnePort).Any(fork => Dominates(fork, a) && Dominates(fork, b) && !Ports(fork, a).Overlaps(Ports(fork, b)));

        bool Dominates(string id, string target) => id != target && (id == Start.Id || !Reaches(Start.Id, target, id));

        HashSet<string> Ports(string from, string to) =>
            [.. Of(_forwardOut, from).Where(index => Reaches(_connections[index].Target, to, null)).Select(index => _connections[index].SourcePort)];
    }

    private void WalkForward(string start)
    {
        var queue = new Queue<string>([start]);
        var seen = new HashSet<string>(StringComparer.Ordinal) { start };
        var walked = new HashSet<string>(StringComparer.Ordinal);
        while (queue.TryDequeue(out var id))
        {
            walked.Add(id);
            foreach (var index in Of(_outbound, id))
            {
                // What has not been walked leads nowhere yet, so the search is for few connections only.
                var target = _connections[index].Target;
                if (target == id || (walked.Contains(target) && Reaches(target, id, null)))
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
