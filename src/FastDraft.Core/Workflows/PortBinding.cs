using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>An output that could feed a port, and how many activities back it is.</summary>
internal sealed record PortCandidate(WorkflowActivity Activity, string Port, int Distance);

/// <summary>
/// Finds what an unset required port takes: the nearest upstream output of its kind. What stands first inside a container follows what
/// stands before the container; what follows a container follows what ends inside it. Two that are equally near are ambiguous, unless they
/// stand on branches of which one pass takes only one (the two sides of a decision or an If, cases of which the first match counts, outcomes
/// of a stage or a gate): then it is the one that ran, and where a loop has run both, the one that ran last.
/// </summary>
internal static class PortBinding
{
    /// <summary>Every upstream output of the kind, nearest first.</summary>
    public static IEnumerable<PortCandidate> Upstream(
        WorkflowActivity activity, string kind, IReadOnlyDictionary<string, StageDescriptor> stages)
    {
        var seen = new HashSet<WorkflowActivity> { activity };
        IReadOnlyList<WorkflowActivity> ring = [activity];
        for (var distance = 1; ring.Count > 0; distance++)
        {
            ring = [.. ring.SelectMany(Predecessors).Where(seen.Add)];
            foreach (var source in ring.Where(a => stages.ContainsKey(a.Type)))
            {
                foreach (var output in stages[source.Type].Outputs.Where(o => o.Kind == kind))
                {
                    yield return new PortCandidate(source, output.Name, distance);
                }
            }
        }
    }

    /// <summary>Those at the least distance. Of one activity's outputs, one named like the port wins.</summary>
    public static IReadOnlyList<PortCandidate> Nearest(IEnumerable<PortCandidate> upstream, string port)
    {
        var nearest = new List<PortCandidate>();
        foreach (var candidate in upstream)
        {
            if (nearest.Count > 0 && candidate.Distance > nearest[0].Distance)
            {
                break;
            }

            nearest.Add(candidate);
        }

        return [.. nearest.GroupBy(c => c.Activity).SelectMany(g => g.Any(c => c.Port == port) ? g.Where(c => c.Port == port) : g)];
    }

    /// <summary>Whether more than one of the nearest may be meant in one pass.</summary>
    public static bool IsAmbiguous(IReadOnlyList<PortCandidate> nearest, IReadOnlyDictionary<string, StageDescriptor> stages) =>
        nearest.Index().Any(a => nearest.Skip(a.Index + 1).Any(b => !AreExclusive(a.Item.Activity, b.Activity, stages)));

    private static bool AreExclusive(WorkflowActivity a, WorkflowActivity b, IReadOnlyDictionary<string, StageDescriptor> stages)
    {
        var above = Path(a).ToList();
        var (inA, inB) = above.Zip(Path(b)).FirstOrDefault(pair => pair.First != pair.Second);
        return inA?.Parent is { } container && container.Type switch
        {
            ActivityTypes.If => true,
            ActivityTypes.Switch => MatchesFirst(container),
            ActivityTypes.Flowchart => container.Graph.AreExclusive(inA.Id, inB!.Id, id => container.ChildById(id) is { } fork
                && (stages.ContainsKey(fork.Type) || fork.Type is ActivityTypes.FlowDecision or ActivityTypes.Gate || (fork.Type is ActivityTypes.FlowSwitch && MatchesFirst(fork)))),
            _ => false,
        };
    }

    // From the root down to the activity.
    private static IEnumerable<WorkflowActivity> Path(WorkflowActivity? activity) => activity is null ? [] : Path(activity.Parent).Append(activity);

    private static bool MatchesFirst(WorkflowActivity activity) => activity.Json.Member("mode") switch
    {
        null => true,
        JsonObject { Count: > 0 } wrapped when wrapped.Member("expression") is JsonObject mode => (mode.Text("type") ?? "Literal") == "Literal" && mode.Text("value") == "MatchFirst",
        var bare => bare.AsText() == "MatchFirst",
    };

    private static IEnumerable<WorkflowActivity> Predecessors(WorkflowActivity activity)
    {
        if (activity.Parent is not { } parent)
        {
            return [];
        }

        IReadOnlyList<WorkflowActivity> before = parent.Type switch
        {
            ActivityTypes.Sequence => activity.Position > 0 ? [parent.Children[activity.Position - 1]] : [],
            ActivityTypes.Flowchart => [.. parent.Graph.Sources(activity.Id).Select(parent.ChildById).OfType<WorkflowActivity>()],
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
            ActivityTypes.Flowchart => activity.Children.Where(a => activity.Graph.IsLast(a.Id)),
            _ => activity.Children,
        };
        return last.SelectMany(Ends).Append(activity);
    }
}
