using FastDraft.Core.Runs;

namespace FastDraft.Persistence;

// Times are Unix milliseconds: SQLite compares and adds them itself, so leases live on database time.
public sealed class RunRow
{
    public Guid Id { get; set; }
    public string WorkflowName { get; set; } = "";
    public string DefinitionId { get; set; } = "";
    public int DefinitionVersion { get; set; }
    public string DefinitionJson { get; set; } = "";
    public string DefinitionDigest { get; set; } = "";
    public string InputsJson { get; set; } = "{}";
    public string StateJson { get; set; } = "";
    public RunState State { get; set; }
    public string? Incident { get; set; }
    public bool BypassCache { get; set; }
    public bool CancelRequested { get; set; }
    public long CreatedAt { get; set; }
    public long? EndedAt { get; set; }
    public long Version { get; set; }
}

public sealed class StageRunRow
{
    public Guid Id { get; set; }
    public Guid RunId { get; set; }
    public string ActivityInstanceId { get; set; } = "";
    public string ActivityId { get; set; } = "";
    public string Stage { get; set; } = "";
    public int StageVersion { get; set; }
    public StageRunState State { get; set; }
    public string SettingsJson { get; set; } = "{}";

    /// <summary>Port to the activity instance and port that feed it.</summary>
    public string SourcesJson { get; set; } = "{}";
    public string? KeyJson { get; set; }
    public string? KeyDigest { get; set; }
    public Guid? CachedFromRunId { get; set; }
    public string? MissReasonsJson { get; set; }
    public string? Failure { get; set; }
    public string? Hint { get; set; }
    public long CreatedAt { get; set; }
    public long? StartedAt { get; set; }
    public long? EndedAt { get; set; }
    public string? LeaseOwner { get; set; }
    public long LeaseEpoch { get; set; }
    public long? LeaseExpiresAt { get; set; }
}

public sealed class AttemptRow
{
    public Guid Id { get; set; }
    public Guid StageRunId { get; set; }
    public int Number { get; set; }
    public long LeaseEpoch { get; set; }
    public StageRunState State { get; set; }
    public int? ExitCode { get; set; }
    public string? Failure { get; set; }
    public string? Hint { get; set; }
    public long StartedAt { get; set; }
    public long? EndedAt { get; set; }
    public long? PeakRssBytes { get; set; }

    /// <summary>The file name of the attempt's lines under the log folder.</summary>
    public string LogFile { get; set; } = "";
}

public sealed class ArtifactRow
{
    public string Digest { get; set; } = "";
    public string Kind { get; set; } = "";
    public long SizeBytes { get; set; }
    public int NumFiles { get; set; }
    public long CreatedAt { get; set; }
    public Guid? StageRunId { get; set; }
}

public sealed class StageRunPortRow
{
    public Guid StageRunId { get; set; }
    public string Port { get; set; } = "";
    public bool IsOutput { get; set; }
    public string Kind { get; set; } = "";
    public string Digest { get; set; } = "";

    /// <summary>The content of a path setting, which the store does not hold.</summary>
    public bool External { get; set; }
}

public sealed class MetricRow
{
    public long Id { get; set; }
    public Guid AttemptId { get; set; }
    public string Name { get; set; } = "";
    public long Step { get; set; }
    public double Value { get; set; }
}

public sealed class JournalRow
{
    public long Id { get; set; }
    public Guid RunId { get; set; }
    public long At { get; set; }
    public string Event { get; set; } = "";
    public string ActivityId { get; set; } = "";
    public string? Text { get; set; }
}

public sealed class PathDigestRow
{
    public string Path { get; set; } = "";
    public long SizeBytes { get; set; }
    public long ModifiedTicks { get; set; }
    public string Digest { get; set; } = "";
}
