using System.Globalization;
using FastDraft.Persistence.Lineage;

namespace FastDraft.Server.ConsolePages;

/// <summary>A box of a lineage's drawing. <paramref name="Node"/>: null where it stands for <paramref name="NumMore"/> nodes of its level that are not drawn.</summary>
public sealed record LineageBox(string Id, string Title, string Detail, LineageNode? Node, int NumMore = 0);

/// <summary>
/// As much of a lineage as a person can look at: level by level from the start, of each level at most so many nodes. What is left out of a
/// level is one box that says how many, and what is only reached through those is counted and not drawn.
/// </summary>
/// <param name="NumDrawn">Nodes that have a box of their own.</param>
/// <param name="HasDeeper">Whether the lineage goes on beyond the last level.</param>
public sealed record LineagePicture(IReadOnlyList<LineageBox> Boxes, IReadOnlyList<(string From, string To)> Edges, int NumDrawn, bool HasDeeper)
{
    /// <param name="view">One artifact deeper than <paramref name="depth"/>, so that it shows whether there is more.</param>
    /// <param name="breadth">Stage runs, and artifacts, of a level at most.</param>
    public static LineagePicture Of(LineageView view, int depth, int breadth)
    {
        var (boxes, edges) = (new List<LineageBox>(), new HashSet<(string, string)>());
        var neighbours = view.Edges.SelectMany(e => (IEnumerable<(string Of, string Other)>)[(e.From, e.To), (e.To, e.From)]).ToLookup(n => n.Of, n => n.Other, StringComparer.Ordinal);
        var kept = new HashSet<string>(StringComparer.Ordinal);
        foreach (var level in view.Nodes.Where(n => n.Depth <= depth).GroupBy(n => (n.Depth, IsArtifact: n.Stage is null)).OrderBy(g => g.Key))
        {
            var reached = level.Where(n => n.Depth == 0 || neighbours[n.Id].Any(kept.Contains)).ToList();
            var more = reached.Skip(breadth).ToList();
            if (more.Count > 0)
            {
                var box = new LineageBox($"more:{level.Key.Depth}:{level.Key.IsArtifact}", $"{more.Count.ToString("N0", CultureInfo.InvariantCulture)} more", level.Key.IsArtifact ? "artifacts of this level" : "stage runs of this level", null, more.Count);
                boxes.Add(box);
                foreach (var other in more.SelectMany(n => neighbours[n.Id]).Where(kept.Contains).Distinct())
                {
                    edges.Add(view.Direction == Core.Lineage.LineageDirection.Upstream ? (box.Id, other) : (other, box.Id));
                }
            }

            foreach (var node in reached.Take(breadth))
            {
                kept.Add(node.Id);
                boxes.Add(new LineageBox(node.Id, Title(node), Detail(node), node));
            }
        }

        edges.UnionWith(view.Edges.Where(e => kept.Contains(e.From) && kept.Contains(e.To)).Select(e => (e.From, e.To)));
        return new LineagePicture(boxes, [.. edges], kept.Count, view.Nodes.Any(n => n.Depth > depth));
    }

    public static string Title(LineageNode node) => node.Stage?.ActivityId ?? node.Kind switch
    {
        "path" => node.Files is [var only] ? Path.GetFileName(only.Path) : "files",
        var kind => kind,
    };

    private static string Detail(LineageNode node) => node switch
    {
        { Stage: { } stage } => "run " + Figures.Short(stage.RunId),
        { Files: { Count: > 1 } files } => $"{files.Count.ToString("N0", CultureInfo.InvariantCulture)} files, {Figures.Brief(node.Id)}",
        _ => Figures.Brief(node.Id),
    };
}
