using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>An output that could feed a port, and how many activities back it is.</summary>
internal sealed record PortCandidate(string ActivityId, string Port, int Distance);

/// <summary>
/// Finds what an unset required port takes: the nearest upstream output of its kind. What stands first inside a container follows what
/// stands before the container; what follows a container follows what ends inside it.
/// </summary>
internal static class PortBinding
{
    /// <summary>Every upstream output of the kind, nearest first.</summary>
    public static IReadOnlyList<PortCandidate> Upstream(
        WorkflowActivity activity, string kind, IReadOnlyDictionary<string, StageDescriptor> stages)
    {
        var found = new List<PortCandidate>();
        var seen = new HashSet<WorkflowActivity> { activity };
        IReadOnlyList<WorkflowActivity> ring = [activity];
        for (var distance = 1; ring.Count > 0; distance++)
        {
            ring = [.. ring.SelectMany(Predecessors).Where(seen.Add)];
            found.AddRange(
                from source in ring
                where stages.ContainsKey(source.Type)
                from output in stages[source.Type].Outputs
                where output.Kind == kind
                select new PortCandidate(source.Id, output.Name, distance));
        }

        return found;
    }

    /// <summary>The nearest candidates; more than one means ambiguous. Of one activity's outputs, one named like the port wins.</summary>
    public static IReadOnlyList<PortCandidate> Nearest(IEnumerable<PortCandidate> candidates, string port)
    {
        var nearest = candidates.GroupBy(c => c.Distance).OrderBy(g => g.Key).FirstOrDefault()?.ToList() ?? [];
        return nearest.Select(c => c.ActivityId).Distinct().Count() == 1 && nearest.Find(c => c.Port == port) is { } named ? [named] : nearest;
    }

    private static IEnumerable<WorkflowActivity> Predecessors(WorkflowActivity activity)
    {
        if (activity.Parent is not { } parent)
        {
            return [];
        }

        IReadOnlyList<WorkflowActivity> before = parent.Type switch
        {
            ActivityTypes.Sequence => [.. parent.Children.TakeWhile(a => a != activity).TakeLast(1)],
            ActivityTypes.Flowchart => [.. parent.Children.Where(a => parent.Connections.Any(c => c.Source == a.Id && c.Target == activity.Id))],
            _ => [],
        };
        return before.Count > 0 ? before.SelectMany(Ends) : Predecessors(parent);
    }

    // A container may end without its children having run (no item, no case), so it stands for itself too: past it the walk goes on.
    private static IEnumerable<WorkflowActivity> Ends(WorkflowActivity activity)
    {
        if (activity.Children.Count == 0)
        {
            return [activity];
        }

        IEnumerable<WorkflowActivity> last = activity.Type switch
        {
            ActivityTypes.Sequence => activity.Children.TakeLast(1),
            ActivityTypes.Flowchart => activity.Children.Where(a => !activity.Graph.Successors(a.Id).Any()),
            _ => activity.Children,
        };
        return last.SelectMany(Ends).Append(activity);
    }
}
