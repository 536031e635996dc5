namespace FastDraft.Core.Workflows;

/// <summary>
/// A flowchart's connections, split into forward ones and backward ones (those that close a cycle when walking breadth-first
/// from the start). A connection is known by its index in the definition.
/// </summary>
internal sealed class FlowGraph
{
    private readonly WorkflowActivity _flowchart;
    private readonly HashSet<int> _forward = [];

    public FlowGraph(WorkflowActivity flowchart)
    {
        _flowchart = flowchart;
        Start = StartOf(flowchart);
        if (Start is null)
        {
            return;
        }

        var queue = new Queue<string>([Start.Id]);
        var seen = new HashSet<string>(StringComparer.Ordinal) { Start.Id };
        while (queue.TryDequeue(out var id))
        {
            foreach (var (index, connection) in Outbound(id))
            {
                if (connection.Target == id || Reaches(connection.Target, id, null))
                {
                    continue;
                }

                _forward.Add(index);
                if (seen.Add(connection.Target))
                {
                    queue.Enqueue(connection.Target);
                }
            }
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

    /// <summary>Connections to a missing activity are dropped.</summary>
    public IEnumerable<(int Index, WorkflowConnection Connection)> Outbound(string id) => _flowchart.Connections.Index()
        .Where(c => c.Item.Source == id && _flowchart.Children.Any(a => a.Id == c.Item.Target));

    public IEnumerable<int> ForwardInbound(string id) => _forward.Where(index => _flowchart.Connections[index].Target == id);

    public bool IsForward(int index) => _forward.Contains(index);

    /// <summary>A loop is entered only where it is left: every forward path from the start to the source passes the target.</summary>
    public bool IsValidLoop(WorkflowConnection backward) =>
        backward.Target == Start!.Id || backward.Target == backward.Source || !Reaches(Start.Id, backward.Source, backward.Target);

    public bool IsAncestor(string ancestor, string id) => ancestor != id && Reaches(ancestor, id, null);

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

            foreach (var index in _forward)
            {
                if (_flowchart.Connections[index].Source == id)
                {
                    stack.Push(_flowchart.Connections[index].Target);
                }
            }
        }

        return false;
    }
}
