using FastDraft.Core.Lineage;

namespace FastDraft.Persistence.Lineage;

/// <summary>What to ask of the lineage. <paramref name="Start"/>: the digest of an artifact, of a path setting's content, or of one of its files.</summary>
/// <param name="Depth">How many artifacts away at most.</param>
/// <param name="Limit">Nodes that are described; what lies beyond is counted.</param>
public sealed record LineageQuery(string Start, LineageDirection Direction, int Depth = int.MaxValue, int Limit = 1000);

/// <summary>A file outside the store as a stage run read it.</summary>
public sealed record ExternalFile(string Path, string Digest, long SizeBytes);

/// <summary>How a stage run was done: enough to do it again.</summary>
public sealed record StageFacts(
    Guid RunId, string Workflow, string ActivityId, int Version, DateTimeOffset? EndedAt, IReadOnlyDictionary<string, string> Settings, IReadOnlyDictionary<string, string> Environment);

/// <summary>
/// <paramref name="Id"/> is a digest, or <c>stage:</c> and the stage run's id; a stage also says how it was done, and content from outside
/// the store of which files it was. <paramref name="Kind"/>: an artifact's kind, <c>stage</c>, <c>path</c> or <c>file</c>.
/// </summary>
public sealed record LineageNode(string Id, string Label, string Kind, int Depth, StageFacts? Stage = null, IReadOnlyList<ExternalFile>? Files = null);

/// <summary>A registered draft that was made from what was asked for.</summary>
public sealed record AffectedDraft(string Name, int Version, IReadOnlyList<string> Aliases, string ModelDigest, string TargetDigest);

/// <param name="Drafts">Downstream only: those with an alias first.</param>
/// <param name="NumOmitted">Nodes beyond the limit, which are counted and not described.</param>
public sealed record LineageView(
    string Start, LineageDirection Direction, IReadOnlyList<AffectedDraft> Drafts, int NumArtifacts, int NumStageRuns, int NumOmitted,
    IReadOnlyList<LineageNode> Nodes, IReadOnlyList<LineageEdge> Edges);
