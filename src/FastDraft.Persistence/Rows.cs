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

    /// <summary>Since when lists leave it out. Its rows stay: what it made keeps its history.</summary>
    public long? DeletedAt { get; set; }
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

    /// <summary>The outcome of a stage run that ended well.</summary>
    public string? Outcome { get; set; }
    public string? MissReasonsJson { get; set; }
    public string? Failure { get; set; }
    public string? Hint { get; set; }
    public long CreatedAt { get; set; }
    public long? StartedAt { get; set; }
    public long? EndedAt { get; set; }
    public string? LeaseOwner { get; set; }
    public long LeaseEpoch { get; set; }
    public long? LeaseExpiresAt { get; set; }

    /// <summary>Since when a queued stage run stands in a line that hosts share, and as which job.</summary>
    public long? EnqueuedAt { get; set; }
    public string? JobId { get; set; }
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

    /// <summary>What computed: code version, operating system, processor, libraries. An object of texts.</summary>
    public string? EnvironmentJson { get; set; }

    /// <summary>The file under the data folder's logs with the lines of an attempt from before they were kept in the database; empty since.</summary>
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

    /// <summary>When the worker measured it. 0: before this was kept.</summary>
    public long At { get; set; }
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

/// <summary>What a file held when it was last read. The same path is another file on another machine.</summary>
public sealed class PathDigestRow
{
    public string Machine { get; set; } = "";
    public string Path { get; set; } = "";
    public long SizeBytes { get; set; }
    public long ModifiedTicks { get; set; }
    public string Digest { get; set; } = "";
}

/// <summary>
/// What a person answered to a gate. A gate that is still open is a row of <c>waits</c>; the key here is why the first answer is the
/// only one.
/// </summary>
public sealed class GateDecisionRow
{
    public Guid RunId { get; set; }
    public string ActivityInstanceId { get; set; } = "";
    public string ActivityId { get; set; } = "";
    public string Title { get; set; } = "";
    public string? Instructions { get; set; }
    public long OpenedAt { get; set; }
    public bool Approved { get; set; }
    public long DecidedAt { get; set; }
    public string DecidedBy { get; set; } = "";
    public string? Reason { get; set; }
}

/// <summary>When runs of a workflow start by themselves.</summary>
public sealed class ScheduleRow
{
    public Guid Id { get; set; }
    public string Name { get; set; } = "";

    /// <summary>The published workflow whose newest version is run; null where <see cref="DefinitionJson"/> is.</summary>
    public string? DefinitionId { get; set; }

    /// <summary>The workflow as it was when the schedule was created from a file.</summary>
    public string? DefinitionJson { get; set; }

    /// <summary>The trigger activity that a published workflow derives the schedule from.</summary>
    public string? ActivityId { get; set; }
    public string Kind { get; set; } = "";

    /// <summary>A cron expression, an interval or an instant, by <see cref="Kind"/>.</summary>
    public string Expression { get; set; } = "";
    public string TimeZone { get; set; } = "";
    public string Misfire { get; set; } = "";
    public string InputsJson { get; set; } = "{}";
    public bool Paused { get; set; }
    public long CreatedAt { get; set; }

    /// <summary>The last nominal time that was decided on. Only ever moves forward, so a clock set back repeats nothing.</summary>
    public long Cursor { get; set; }

    /// <summary>Why the schedule cannot start runs at present.</summary>
    public string? Problem { get; set; }
}

/// <summary>One nominal time of a schedule. Its key is why no two hosts start two runs for it.</summary>
public sealed class ScheduleTickRow
{
    public Guid ScheduleId { get; set; }
    public long NominalAt { get; set; }

    /// <summary>The run of this nominal time; null where the misfire policy passed it over.</summary>
    public Guid? RunId { get; set; }
    public bool IsBackfill { get; set; }
    public long DecidedAt { get; set; }
}

/// <summary>One version of a named draft: a model that a run brought before <c>PromoteDraft</c>.</summary>
public sealed class DraftRow
{
    public Guid Id { get; set; }
    public string Name { get; set; } = "";

    /// <summary>Counts from 1 under each name.</summary>
    public int Version { get; set; }
    public string TargetDigest { get; set; } = "";
    public string ModelDigest { get; set; } = "";
    public string EvaluationDigest { get; set; } = "";
    public Guid RunId { get; set; }
    public long CreatedAt { get; set; }
}

/// <summary>What <c>champion</c> and <c>challenger</c> name now.</summary>
public sealed class DraftAliasRow
{
    public string Name { get; set; } = "";
    public string TargetDigest { get; set; } = "";
    public string Alias { get; set; } = "";
    public int Version { get; set; }
}

/// <summary>Who moved an alias, when and why. Rows are only ever added.</summary>
public sealed class DraftAliasMoveRow
{
    public long Id { get; set; }
    public string Name { get; set; } = "";
    public string TargetDigest { get; set; } = "";
    public string Alias { get; set; } = "";
    public int? FromVersion { get; set; }
    public int ToVersion { get; set; }
    public long At { get; set; }
    public string Who { get; set; } = "";
    public string Why { get; set; } = "";
    public Guid? RunId { get; set; }

    /// <summary>The <c>promotion</c> artifact with the figures, where a run decided.</summary>
    public string? PromotionDigest { get; set; }
}
