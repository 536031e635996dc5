namespace FastDraft.Core.Lineage;

/// <summary>Artifacts and stage runs as nodes; queries walk without visiting a node twice, so a cycle cannot hang them.</summary>
public sealed class LineageGraph(IEnumerable<LineageEdge> edges)
{
    private readonly IReadOnlyList<LineageEdge> edges = [.. edges];

    /// <summary>Every edge reachable from <paramref name="node"/> towards its origins.</summary>
    public IReadOnlyList<LineageEdge> Upstream(string node) => Walk(node, edges.ToLookup(e => e.To), e => e.From);

    /// <summary>Every edge reachable from <paramref name="node"/> towards what was made of it.</summary>
    public IReadOnlyList<LineageEdge> Downstream(string node) => Walk(node, edges.ToLookup(e => e.From), e => e.To);

    private static List<LineageEdge> Walk(string start, ILookup<string, LineageEdge> next, Func<LineageEdge, string> other)
    {
        var seen = new HashSet<string> { start };
        var queue = new Queue<string>([start]);
        var found = new List<LineageEdge>();
        while (queue.TryDequeue(out var node))
        {
            foreach (var edge in next[node])
            {
                found.Add(edge);
                if (seen.Add(other(edge)))
                {
                    queue.Enqueue(other(edge));
                }
            }
        }

        return found;
    }
}
