using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>An output that could feed a port, and how many connections back it is.</summary>
internal sealed record PortCandidate(string ActivityId, string Port, int Distance);

/// <summary>Finds what an unset required port takes: the nearest upstream output of its kind.</summary>
internal static class PortBinding
{
    /// <summary>Every upstream output of the kind, nearest first.</summary>
    public static IReadOnlyList<PortCandidate> Upstream(
        WorkflowActivity activity, string kind, IReadOnlyDictionary<string, StageDescriptor> stages)
    {
        var found = new List<PortCandidate>();
        var seen = new HashSet<string>(StringComparer.Ordinal) { activity.Id };
        IReadOnlyList<WorkflowActivity> ring = [activity];
        for (var distance = 1; ring.Count > 0; distance++)
        {
            ring = [.. ring.SelectMany(Predecessors).Where(a => seen.Add(a.Id))];
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

    // What stands first inside a container follows what stands before the container.
    private static IEnumerable<WorkflowActivity> Predecessors(WorkflowActivity activity)
    {
        if (activity.Parent is not { } parent)
        {
            return [];
        }

        IReadOnlyList<WorkflowActivity> before = parent.Type == ActivityTypes.Sequence
            ? [.. parent.Children.TakeWhile(a => a != activity).TakeLast(1)]
            : [.. parent.Children.Where(a => parent.Connections.Any(c => c.Source == a.Id && c.Target == activity.Id))];
        return before.Count > 0 ? before : Predecessors(parent);
    }
}
