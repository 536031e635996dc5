namespace FastDraft.Core.Runs;

public enum RunState
{
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelling,
    Cancelled,
}

public enum StageRunState
{
    Pending,
    Queued,
    Running,
    Succeeded,

    /// <summary>An earlier stage run with an equal StageKey gave the outputs.</summary>
    Cached,
    Failed,

    /// <summary>The worker vanished or was killed; <see cref="RetryPolicy"/> says whether another attempt follows.</summary>
    Crashed,
    Skipped,
    Cancelling,
    Cancelled,
}

/// <summary>The only place that says which transitions are legal. Terminal states are absorbing.</summary>
public static class RunStateMachine
{
    public static bool IsTerminal(RunState state) => state is RunState.Succeeded or RunState.Failed or RunState.Cancelled;

    public static bool IsTerminal(StageRunState state) =>
        state is StageRunState.Succeeded or StageRunState.Cached or StageRunState.Failed or StageRunState.Skipped or StageRunState.Cancelled;

    public static bool CanMove(RunState from, RunState to) => (from, to) switch
    {
        (RunState.Pending, RunState.Running or RunState.Cancelling or RunState.Failed) => true,
        (RunState.Running, RunState.Succeeded or RunState.Failed or RunState.Cancelling) => true,
        (RunState.Cancelling, RunState.Cancelled) => true,
        _ => false,
    };

    public static bool CanMove(StageRunState from, StageRunState to) => (from, to) switch
    {
        (StageRunState.Pending, StageRunState.Queued or StageRunState.Cached or StageRunState.Skipped or StageRunState.Failed or StageRunState.Cancelled) => true,
        (StageRunState.Queued, StageRunState.Running or StageRunState.Cached or StageRunState.Failed or StageRunState.Cancelled) => true,
        (StageRunState.Running, StageRunState.Succeeded or StageRunState.Failed or StageRunState.Crashed or StageRunState.Cancelling) => true,
        (StageRunState.Crashed, StageRunState.Queued or StageRunState.Failed or StageRunState.Cancelled) => true,
        (StageRunState.Cancelling, StageRunState.Cancelled) => true,
        _ => false,
    };

    /// <exception cref="InvalidOperationException">The transition is illegal.</exception>
    public static StageRunState Move(StageRunState from, StageRunState to) =>
        CanMove(from, to) ? to : throw new InvalidOperationException($"A stage run cannot go from {from} to {to}.");

    /// <exception cref="InvalidOperationException">The transition is illegal.</exception>
    public static RunState Move(RunState from, RunState to) =>
        CanMove(from, to) ? to : throw new InvalidOperationException($"A run cannot go from {from} to {to}.");
}

/// <summary>A stage's own verdict is final; only an attempt that crashed is tried again.</summary>
public static class RetryPolicy
{
    public const int MaxAttempts = 3;

    /// <summary>How often a host may die under a stage run: one that takes its host with it every time must not do so for ever.</summary>
    public const int MaxHostDeaths = 100;

    public static bool ShouldRetry(StageRunState attemptState, int numAttempts) =>
        attemptState == StageRunState.Crashed && numAttempts < MaxAttempts;
}
