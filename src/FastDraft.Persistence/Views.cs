using FastDraft.Core.Runs;

namespace FastDraft.Persistence;

public sealed record RunView(
    Guid Id, string WorkflowName, string DefinitionDigest, RunState State, string? Incident, DateTimeOffset CreatedAt, DateTimeOffset? EndedAt,
    string DefinitionJson, string InputsJson, IReadOnlyList<StageRunView> Stages);

public sealed record StageRunView(
    Guid Id, string ActivityInstanceId, string ActivityId, string Stage, int StageVersion, StageRunState State, string? KeyDigest,
    string SettingsJson, Guid? CachedFromRunId, string? MissReasonsJson, string? Failure, string? Hint, DateTimeOffset? StartedAt, DateTimeOffset? EndedAt,
    IReadOnlyList<AttemptView> Attempts, IReadOnlyList<PortArtifactView> Inputs, IReadOnlyList<PortArtifactView> Outputs);

public sealed record AttemptView(
    Guid Id, int Number, StageRunState State, int? ExitCode, string? Failure, string? Hint, DateTimeOffset StartedAt, DateTimeOffset? EndedAt, long? PeakRssBytes);

/// <summary><paramref name="External"/>: the content of a path setting, which the store does not hold.</summary>
public sealed record PortArtifactView(string Port, string Kind, string Digest, bool External);

public sealed record ArtifactView(string Digest, string Kind, long SizeBytes, int NumFiles, DateTimeOffset CreatedAt, Guid? RunId, string? Stage);

/// <summary>A result that a later run with the same key would take.</summary>
public sealed record ReusableView(string KeyDigest, string Stage, string ActivityId, Guid RunId, DateTimeOffset? EndedAt);

/// <summary>What a stage took when it last ran to its end in one attempt.</summary>
public sealed record WorkedView(string SettingsJson, TimeSpan Took, long? PeakRssBytes);

public sealed record MetricView(string Stage, string ActivityId, int Attempt, string Name, double Value, long Step);

/// <summary>A point of a curve. <paramref name="Last"/> is the number of the newest metric point in it.</summary>
public sealed record CurvePoint(string Name, long Step, double Value, long Last);

/// <summary>How far an attempt has come in telling of itself.</summary>
/// <param name="Chunk">The number of the last chunk of its log; 0: none.</param>
/// <param name="Metric">The number of its newest metric point; 0: none.</param>
public readonly record struct AttemptHead(int Chunk, long Metric);

/// <summary>A shortened id fits several things.</summary>
public sealed class AmbiguousReferenceException(string reference, IReadOnlyList<string> candidates)
    : Exception($"'{reference}' fits {string.Join(", ", candidates)}.")
{
    public IReadOnlyList<string> Candidates { get; } = candidates;
}
