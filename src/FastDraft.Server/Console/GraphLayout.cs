namespace FastDraft.Server.ConsolePages;

/// <summary>A node's place: column from the left, row from the top; a row may be a half where a column has fewer nodes.</summary>
public readonly record struct Place(int Column, double Row);

/// <summary>
/// A layered drawing from left to right: a node stands one column after the last of those that lead to it, and nodes of a column are
/// ordered by the middle of their neighbours, so that few lines cross. A line that passes over columns gets a place in each, so it runs
/// between the nodes there and not behind them. Lines that close a cycle are drawn, but move nothing.
/// </summary>
public sealed class GraphLayout
{
    private const int Sweeps = 8;

    private readonly Dictionary<string, Place> places = new(StringComparer.Ordinal);
    private readonly Dictionary<(string From, string To), IReadOnlyList<Place>> bends = [];

    private GraphLayout(int numColumns, double numRows) => (NumColumns, NumRows) = (numColumns, numRows);

    public int NumColumns { get; }

    public double NumRows { get; }

    public Place this[string node] => places[node];

    /// <summary>The places that a line passes between its ends, from left to right.</summary>
    public IReadOnlyList<Place> Bends(string from, string to) => bends.GetValueOrDefault((from, to)) ?? [];

    /// <param name="nodes">Distinct; their order decides where nothing else does.</param>
    /// <param name="edges">Between these nodes; any other is passed over.</param>
    /// <param name="isLate">Whether a node stands beside the first of those that it leads to, and not as far to the left as it could.</param>
    public static GraphLayout Of(IReadOnlyList<string> nodes, IEnumerable<(string From, string To)> edges, bool isLate = false)
    {
        var known = nodes.ToHashSet(StringComparer.Ordinal);
        var lines = edges.Where(e => e.From != e.To && known.Contains(e.From) && known.Contains(e.To)).Distinct().ToList();
        var forward = WithoutCycles(nodes, lines);
        var columns = Columns(nodes, forward);
        if (isLate)
        {
            MoveRight(columns, forward);
        }

        var (layers, links, chains) = Chains(nodes, forward, columns);
        Order(layers, links);
        var tallest = layers.Count == 0 ? 0 : layers.Max(l => l.Count);
        var layout = new GraphLayout(layers.Count, tallest);
        var at = new Dictionary<string, Place>(StringComparer.Ordinal);
        foreach (var (column, layer) in layers.Index())
        {
            foreach (var (row, node) in layer.Index())
            {
                at[node] = new Place(column, row + ((tallest - layer.Count) / 2.0));
            }
        }

        foreach (var node in nodes)
        {
            layout.places[node] = at[node];
        }

        foreach (var (edge, chain) in chains)
        {
            layout.bends[edge] = [.. chain.Select(c => at[c])];
        }

        return layout;
    }

    /// <summary>The lines that do not lead back to where a walk came from.</summary>
    private static List<(string From, string To)> WithoutCycles(IReadOnlyList<string> nodes, List<(string From, string To)> lines)
    {
        var next = lines.ToLookup(e => e.From, e => e.To, StringComparer.Ordinal);
        var (open, done, kept) = (new HashSet<string>(StringComparer.Ordinal), new HashSet<string>(StringComparer.Ordinal), new List<(string, string)>());
        foreach (var start in nodes)
        {
            // Without recursion: a chain may be as long as it likes.
            var walk = new Stack<(string Node, Queue<string> Ahead)>();
            Enter(start);
            while (walk.TryPeek(out var top))
            {
                if (!top.Ahead.TryDequeue(out var to))
                {
                    walk.Pop();
                    open.Remove(top.Node);
                    done.Add(top.Node);
                }
                else if (!open.Contains(to))
                {
                    kept.Add((top.Node, to));
                    Enter(to);
                }
            }

            void Enter(string node)
            {
                if (!done.Contains(node) && open.Add(node))
                {
                    walk.Push((node, new Queue<string>(next[node])));
                }
            }
        }

        return kept;
    }

    /// <summary>The longest way from a node that nothing leads to.</summary>
    private static Dictionary<string, int> Columns(IReadOnlyList<string> nodes, List<(string From, string To)> forward)
    {
        var columns = nodes.ToDictionary(n => n, _ => 0, StringComparer.Ordinal);
        var waiting = nodes.ToDictionary(n => n, _ => 0, StringComparer.Ordinal);
        forward.ForEach(e => waiting[e.To]++);
        var next = forward.ToLookup(e => e.From, e => e.To, StringComparer.Ordinal);
        var ready = new Queue<string>(nodes.Where(n => waiting[n] == 0));
        while (ready.TryDequeue(out var node))
        {
            foreach (var to in next[node])
            {
                columns[to] = Math.Max(columns[to], columns[node] + 1);
                if (--waiting[to] == 0)
                {
                    ready.Enqueue(to);
                }
            }
        }

        return columns;
    }

    private static void MoveRight(Dictionary<string, int> columns, List<(string From, string To)> forward)
    {
        // What a node leads to stands to its right already, so it has moved before.
        foreach (var (node, next) in forward.GroupBy(e => e.From, e => e.To, StringComparer.Ordinal).Select(g => (g.Key, g.ToList())).OrderByDescending(n => columns[n.Key]).ToList())
        {
            columns[node] = next.Min(n => columns[n]) - 1;
        }
    }

    private static (List<List<string>> Layers, List<(string From, string To)> Links, Dictionary<(string, string), IReadOnlyList<string>> Chains) Chains(
        IReadOnlyList<string> nodes, List<(string From, string To)> forward, Dictionary<string, int> columns)
    {
        var layers = new List<List<string>>();
        for (var column = 0; column <= (nodes.Count == 0 ? -1 : columns.Values.Max()); column++)
        {
            layers.Add([.. nodes.Where(n => columns[n] == column)]);
        }

        var links = new List<(string, string)>();
        var chains = new Dictionary<(string, string), IReadOnlyList<string>>();
        foreach (var (from, to) in forward)
        {
            var (previous, chain) = (from, new List<string>());
            for (var column = columns[from] + 1; column < columns[to]; column++)
            {
                // No id holds this character.
                var bend = $"{from}\0{to}\0{column}";
                layers[column].Add(bend);
                links.Add((previous, bend));
                chain.Add(bend);
                previous = bend;
            }

            links.Add((previous, to));
            chains[(from, to)] = chain;
        }

        return (layers, links, chains);
    }

    private static void Order(List<List<string>> layers, List<(string From, string To)> links)
    {
        var (before, after) = (links.ToLookup(l => l.To, l => l.From, StringComparer.Ordinal), links.ToLookup(l => l.From, l => l.To, StringComparer.Ordinal));
        for (var sweep = 0; sweep < Sweeps; sweep++)
        {
            var isForward = sweep % 2 == 0;
            for (var i = 1; i < layers.Count; i++)
            {
                var (layer, fixedOne) = isForward ? (layers[i], layers[i - 1]) : (layers[^(i + 1)], layers[^i]);
                var rows = fixedOne.Index().ToDictionary(p => p.Item, p => p.Index, StringComparer.Ordinal);
                var middles = layer.Index().ToDictionary(
                    p => p.Item,
                    p => (isForward ? before : after)[p.Item].Select(n => (double)rows[n]).DefaultIfEmpty(p.Index).Average(), StringComparer.Ordinal);
                var ordered = layer.OrderBy(n => middles[n]).ToList();
                layer.Clear();
                layer.AddRange(ordered);
            }
        }
    }
}
