using FastDraft.Core.Lineage;
using FastDraft.Persistence.Lineage;
using FastDraft.Server;

namespace FastDraft.Cli.Terminal;

/// <summary>
/// Lineage as a tree from an artifact to its origins, or to what was made of it: each stage with its settings, each file outside the
/// store by its digest. What is reached twice is drawn once. Machines and code are listed below, once each.
/// </summary>
internal sealed class LineageTree(LineageView graph)
{
    private readonly ILookup<string, LineageEdge> _next = graph.Edges.ToLookup(e => graph.Direction == LineageDirection.Upstream ? e.To : e.From, StringComparer.Ordinal);
    private readonly Dictionary<string, LineageNode> _nodes = graph.Nodes.ToDictionary(n => n.Id, StringComparer.Ordinal);
    private readonly HashSet<string> _drawn = new(StringComparer.Ordinal);
    private readonly List<string> _lines = [];
    private readonly List<(string Text, List<string> Stages)> _environments = [];

    private bool IsUpstream => graph.Direction == LineageDirection.Upstream;

    public IReadOnlyList<string> Draw(string root)
    {
        Draw(root, string.Empty, string.Empty, null);
        foreach (var (text, stages) in _environments)
        {
            _lines.Add(string.Empty);
            _lines.Add("made with  " + text);
            _lines.Add("           " + string.Join(", ", stages));
        }

        return _lines;
    }

    private void Draw(string id, string first, string rest, string? port)
    {
        var node = _nodes[id];
        var next = Next(id, out var numOther);
        var again = !_drawn.Add(id);
        _lines.Add(first + Label(node, port) + (again && next.Count > 0 ? "  (see above)" : numOther > 0 ? $"  (made again by {numOther} other stage run{(numOther == 1 ? string.Empty : "s")})" : string.Empty));
        if (again)
        {
            return;
        }

        if (node.Stage is { } stage)
        {
            var settings = string.Join("  ", stage.Settings.Where(s => !next.Any(e => e.Port == "setting:" + s.Key)).Select(s => $"{s.Key}={s.Value}"));
            var bar = next.Count > 0 ? "│ " : "  ";
            _lines.AddRange(Wrap(settings, 100).Select(line => rest + bar + "  " + line));
            Remember(stage);
        }

        for (var i = 0; i < next.Count; i++)
        {
            var last = i == next.Count - 1;
            Draw(IsUpstream ? next[i].From : next[i].To, rest + (last ? "└─ " : "├─ "), rest + (last ? "   " : "│  "), next[i].Port);
        }
    }

    /// <summary>The edges to draw from a node. Equal bytes may have been made several times; the first maker is an artifact's origin.</summary>
    private List<LineageEdge> Next(string id, out int numOther)
    {
        numOther = 0;
        var next = _next[id].ToList();
        if (IsUpstream && _nodes[id].Stage is null && next.Count > 1)
        {
            numOther = next.Count - 1;
            next = [next.MinBy(e => _nodes[e.From].Stage?.EndedAt ?? DateTimeOffset.MaxValue)!];
        }

        return next;
    }

    private static string Label(LineageNode node, string? port)
    {
        if (node.Stage is { } stage)
        {
            return $"{stage.ActivityId}  {node.Label} v{stage.Version}, run {Figures.Short(stage.RunId)} of {stage.Workflow}" + (stage.EndedAt is { } at ? ", " + Figures.Time(at) : string.Empty);
        }

        return port?.StartsWith("setting:", StringComparison.Ordinal) == true
            ? $"{port["setting:".Length..]}: files outside the store  {node.Id}"
            : $"{(port is null ? string.Empty : port + ": ")}{(node.Kind == "path" ? "files outside the store" : node.Kind)}  {node.Id}";
    }

    private void Remember(StageFacts stage)
    {
        var text = stage.Environment.Count == 0 ? "(not recorded)" : string.Join("; ", stage.Environment.Select(e => $"{e.Key} {e.Value}"));
        text += stage.Settings.TryGetValue("accelerator", out var accelerator) && accelerator != "cpu" ? $"; accelerator {accelerator}" : string.Empty;
        var known = _environments.FindIndex(e => e.Text == text);
        if (known < 0)
        {
            _environments.Add((text, []));
            known = _environments.Count - 1;
        }

        if (!_environments[known].Stages.Contains(stage.ActivityId, StringComparer.Ordinal))
        {
            _environments[known].Stages.Add(stage.ActivityId);
        }
    }

    private static IEnumerable<string> Wrap(string text, int width)
    {
        var line = string.Empty;
        foreach (var word in text.Split("  ", StringSplitOptions.RemoveEmptyEntries))
        {
            if (line.Length > 0 && line.Length + word.Length + 2 > width)
            {
                yield return line;
                line = string.Empty;
            }

            line += (line.Length > 0 ? "  " : string.Empty) + word;
        }

        if (line.Length > 0)
        {
            yield return line;
        }
    }
}
