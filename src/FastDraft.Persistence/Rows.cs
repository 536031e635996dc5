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
    public string? CorrelationId { get; set; }

    /// <summary>The run and its activity instance that started this one.</summary>
    public Guid? ParentRunId { get; set; }
    public string? ParentInstanceId { get; set; }
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

/// <summary>A record of the interpreter's journal, or a line of text (then <see cref="Event"/> is WriteLine and <see cref="Text"/> the line).</summary>
public sealed class JournalRow
{
    public long Id { get; set; }
    public Guid RunId { get; set; }
    public long At { get; set; }
    public string Event { get; set; } = "";
    public string ActivityId { get; set; } = "";
    public string ActivityInstanceId { get; set; } = "";
    public string? ParentInstanceId { get; set; }
    public string NodeId { get; set; } = "";
    public string ActivityType { get; set; } = "";

    /// <summary>Counts a run's journal records from 1; 0 for a line of text.</summary>
    public long Sequence { get; set; }
    public string? Text { get; set; }

    /// <summary>Members inputs, outputs and outcomes, where there are any.</summary>
    public string? DataJson { get; set; }
}

public enum WaitKind
{
    Timer,
    Event,
    Gate,
    Child,
}

/// <summary>
/// What an activity instance of a run waits for. A wait is answered by setting <see cref="DueAt"/> (and, for what carries a value,
/// <see cref="PayloadJson"/>) in the transaction that caused the answer; the loop that finds it due hands the answer to the run and
/// deletes the row in one transaction, so a kill between the two loses and doubles nothing.
/// </summary>
public sealed class WaitRow
{
    public Guid Id { get; set; }
    public Guid RunId { get; set; }
    public string ActivityInstanceId { get; set; } = "";
    public string ActivityId { get; set; } = "";
    public WaitKind Kind { get; set; }

    /// <summary>Null until it is known when, or that, the wait ends.</summary>
    public long? DueAt { get; set; }
    public string? EventName { get; set; }
    public string? CorrelationId { get; set; }
    public Guid? ChildRunId { get; set; }
    public string? Title { get; set; }
    public string? Instructions { get; set; }
    public string? PayloadJson { get; set; }
    public long CreatedAt { get; set; }
}

public sealed class PathDigestRow
{
    public string Path { get; set; } = "";
    public long SizeBytes { get; set; }
    public long ModifiedTicks { get; set; }
    public string Digest { get; set; } = "";
}
