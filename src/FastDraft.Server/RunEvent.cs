using FastDraft.Core.Runs;

namespace FastDraft.Server;

/// <summary>What a person watching a run sees.</summary>
public abstract record RunEvent(DateTimeOffset At);

public sealed record StageChanged(
    DateTimeOffset At, string ActivityId, string Stage, StageRunState State, int Attempt, Guid? CachedFromRunId, string? Failure, string? Hint) : RunEvent(At);

public sealed record StageProgress(DateTimeOffset At, string ActivityId, long Done, long? Total, string Unit) : RunEvent(At);

public sealed record StageMetric(DateTimeOffset At, string ActivityId, string Name, double Value, long Step) : RunEvent(At);

public sealed record StageLog(DateTimeOffset At, string ActivityId, string Level, string Message) : RunEvent(At);

/// <summary>The run waits for a person. <paramref name="Reference"/> names the gate to whoever answers.</summary>
public sealed record GateOpened(DateTimeOffset At, string Reference, string ActivityId, string Title, string? Instructions) : RunEvent(At);

/// <summary>A person answered.</summary>
public sealed record GateAnswered(DateTimeOffset At, string Reference, string ActivityId, string Title, bool Approved, string By, string? Reason) : RunEvent(At);

public sealed record LineWritten(DateTimeOffset At, string Text) : RunEvent(At);

public sealed record RunFinished(DateTimeOffset At, RunState State, string? Incident) : RunEvent(At);
