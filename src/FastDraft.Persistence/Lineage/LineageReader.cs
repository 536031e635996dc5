using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Lineage;
using FastDraft.Core.Runs;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Persistence.Lineage;

/// <summary>
/// Walks the lineage breadth first. A level is three queries over everything that the level before it reached, so the number of queries
/// goes with the depth and not with the number of artifacts; nothing is visited twice, so shared ancestors cost once and a cycle ends. Only stage runs
/// that did their work are followed: a cached one has the same inputs and outputs as the one that it repeats.
/// </summary>
internal sealed class LineageReader(PipelineDbContext db)
{
    private readonly record struct Link(Guid StageRunId, string Port, string Digest, string Kind);

    private readonly Dictionary<string, LineageNode> nodes = new(StringComparer.Ordinal);
    private readonly Dictionary<Guid, LineageNode> stages = [];
    private readonly List<LineageEdge> edges = [];

    public async Task<LineageView> ReadAsync(LineageQuery query, CancellationToken ct)
    {
        var isUpstream = query.Direction == LineageDirection.Upstream;
        var frontier = await BeginAsync(query, ct);
        var before = 0;
        for (var depth = 1; frontier.Count > 0 && depth <= query.Depth; depth++)
        {
            // Once enough lies nearer than the frontier, nothing from here on is described: it is counted, and its edges are not wanted.
            var isTold = before < query.Limit;
            before = nodes.Count + stages.Count;
            var near = db.Ports.Where(p => p.IsOutput == isUpstream && EF.Parameter(frontier).Contains(p.Digest));
            var links = isTold ? await LinksAsync(near, ct) : [];
            var reached = isTold ? [.. links.Select(l => l.StageRunId).Distinct()] : await near.Select(p => p.StageRunId).Distinct().ToListAsync(ct);
            var ids = await WorkedAsync([.. reached.Where(id => !stages.ContainsKey(id))], ct);
            ids.ForEach(id => stages.Add(id, new LineageNode("stage:" + id, "", "stage", depth)));
            Connect(links, isUpstream);
            frontier = [];
            if (ids.Count > 0)
            {
                var far = await LinksAsync(db.Ports.Where(p => p.IsOutput != isUpstream && EF.Parameter(ids).Contains(p.StageRunId)), ct);
                frontier.AddRange(far.Where(l => nodes.TryAdd(l.Digest, new LineageNode(l.Digest, l.Digest, l.Kind, depth))).Select(l => l.Digest));
                if (isTold)
                {
                    Connect(far, !isUpstream);
                }
            }
        }

        return await DescribeAsync(query, ct);
    }

    /// <summary>The start, and where it is a file the path settings that it was part of.</summary>
    private async Task<List<string>> BeginAsync(LineageQuery query, CancellationToken ct)
    {
        var port = await db.Ports.Where(p => p.Digest == query.Start).Select(p => p.Kind).FirstOrDefaultAsync(ct);
        nodes.Add(query.Start, new LineageNode(query.Start, query.Start, port ?? "file", 0));
        if (port is not null || query.Direction == LineageDirection.Upstream)
        {
            return [query.Start];
        }

        var settings = await db.ExternalFiles.AsNoTracking().Where(f => f.FileDigest == query.Start).Select(f => new { f.Digest, f.Path }).ToListAsync(ct);
        foreach (var setting in settings.DistinctBy(s => s.Digest))
        {
            nodes.Add(setting.Digest, new LineageNode(setting.Digest, setting.Digest, "path", 0));
            edges.Add(new LineageEdge(query.Start, setting.Digest, Path.GetFileName(setting.Path)));
        }

        return [.. settings.Select(s => s.Digest).Distinct()];
    }

    private static Task<List<Link>> LinksAsync(IQueryable<StageRunPortRow> ports, CancellationToken ct) =>
        ports.Select(p => new Link(p.StageRunId, p.Port, p.Digest, p.Kind)).ToListAsync(ct);

    /// <summary>
    /// Those that did their work. Asked by id alone and judged here: with the state in the query, SQLite reads every stage run that
    /// succeeded, for the index of states looks to it like the shorter way.
    /// </summary>
    private async Task<List<Guid>> WorkedAsync(List<Guid> ids, CancellationToken ct) => ids.Count == 0 ? [] :
        [.. (await db.StageRuns.Where(s => EF.Parameter(ids).Contains(s.Id)).Select(s => new { s.Id, s.State }).ToListAsync(ct)).Where(s => s.State == StageRunState.Succeeded).Select(s => s.Id)];

    private void Connect(List<Link> links, bool areOutputs) => edges.AddRange(links.Where(l => stages.ContainsKey(l.StageRunId)).Select(l =>
    {
        var stage = stages[l.StageRunId].Id;
        return areOutputs ? new LineageEdge(stage, l.Digest, l.Port) : new LineageEdge(l.Digest, stage, l.Port);
    }));

    private async Task<LineageView> DescribeAsync(LineageQuery query, CancellationToken ct)
    {
        // A stage run comes before what it leads to, so that a cut never leaves an edge without its end.
        var order = nodes.Values.Select(n => (Node: n, Rank: 1)).Concat(stages.Values.Select(n => (Node: n, Rank: 0))).OrderBy(n => n.Node.Depth).ThenBy(n => n.Rank).Select(n => n.Node).ToList();
        var described = order.Take(Math.Max(1, query.Limit)).ToList();
        var facts = await StageFactsAsync([.. described.Where(n => n.Kind == "stage").Select(n => Guid.Parse(n.Id.AsSpan("stage:".Length)))], ct);
        var files = await FilesAsync([.. described.Where(n => n.Kind == "path").Select(n => n.Id)], ct);
        var kept = described.Select(n => n.Id).ToHashSet(StringComparer.Ordinal);
        return new LineageView(
            query.Start, query.Direction, query.Direction == LineageDirection.Downstream ? await DraftsAsync(ct) : [], nodes.Count, stages.Count, order.Count - described.Count,
            [.. described.Select(n => facts.TryGetValue(n.Id, out var f) ? n with { Label = f.Stage, Stage = f.Facts } : files.Contains(n.Id) ? n with { Files = [.. files[n.Id]] } : n)],
            [.. edges.Where(e => kept.Contains(e.From) && kept.Contains(e.To)).Distinct()]);
    }

    private async Task<Dictionary<string, (string Stage, StageFacts Facts)>> StageFactsAsync(List<Guid> ids, CancellationToken ct)
    {
        var rows = await (from s in db.StageRuns join r in db.Runs on s.RunId equals r.Id where EF.Parameter(ids).Contains(s.Id) select new
        {
            s.Id, s.RunId, s.Stage, s.StageVersion, s.ActivityId, s.EndedAt, s.SettingsJson, r.WorkflowName,
        }).ToListAsync(ct);
        var environments = (await db.Attempts.Where(a => EF.Parameter(ids).Contains(a.StageRunId) && a.State == StageRunState.Succeeded).Select(a => new { a.StageRunId, a.EnvironmentJson }).ToListAsync(ct))
            .ToDictionary(a => a.StageRunId, a => a.EnvironmentJson);
        return rows.ToDictionary(r => "stage:" + r.Id, r => (r.Stage, new StageFacts(
            r.RunId, r.WorkflowName, r.ActivityId, r.StageVersion, r.EndedAt is { } at ? DateTimeOffset.FromUnixTimeMilliseconds(at) : null,
            Texts(r.SettingsJson), Texts(environments.GetValueOrDefault(r.Id) ?? "{}"))));
    }

    private async Task<ILookup<string, ExternalFile>> FilesAsync(List<string> digests, CancellationToken ct) =>
        (await db.ExternalFiles.AsNoTracking().Where(f => EF.Parameter(digests).Contains(f.Digest)).OrderBy(f => f.Path).ToListAsync(ct))
        .DistinctBy(f => (f.Digest, f.Path)).ToLookup(f => f.Digest, f => new ExternalFile(f.Path, f.FileDigest, f.SizeBytes));

    /// <summary>Registered drafts are few, artifacts many: so the drafts are read and the reached artifacts asked.</summary>
    private async Task<IReadOnlyList<AffectedDraft>> DraftsAsync(CancellationToken ct)
    {
        var aliases = (await db.DraftAliases.AsNoTracking().ToListAsync(ct)).ToLookup(a => (a.Name, a.Version), a => a.Alias);
        return
        [
            .. (await db.Drafts.AsNoTracking().ToListAsync(ct)).Where(d => nodes.ContainsKey(d.ModelDigest) || nodes.ContainsKey(d.TargetDigest))
                .Select(d => new AffectedDraft(d.Name, d.Version, [.. aliases[(d.Name, d.Version)].Order(StringComparer.Ordinal)], d.ModelDigest, d.TargetDigest))
                .OrderBy(d => d.Aliases.Count == 0).ThenBy(d => string.Join(",", d.Aliases), StringComparer.Ordinal).ThenBy(d => d.Name, StringComparer.Ordinal).ThenByDescending(d => d.Version),
        ];
    }

    private static Dictionary<string, string> Texts(string json) => JsonNode.Parse(json)!.AsObject().Where(p => p.Value is not null)
        .ToDictionary(p => p.Key, p => p.Value!.GetValueKind() == JsonValueKind.String ? p.Value.GetValue<string>() : p.Value.ToJsonString());
}
