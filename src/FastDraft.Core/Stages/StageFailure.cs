namespace FastDraft.Core.Stages;

public enum FailureKind
{
    /// <summary>A setting or workflow is wrong. Exit code 64.</summary>
    Config,

    /// <summary>Input data is wrong. Exit code 65.</summary>
    Data,

    /// <summary>Disk, memory or a file operation. Exit code 74.</summary>
    Resource,

    /// <summary>Something outside took the attempt; a retry may help. Exit code 75.</summary>
    Infrastructure,

    /// <summary>Our own fault. Exit code 70.</summary>
    Bug,
}

/// <summary>A stage's verdict on its own attempt: what happened, which input, and what to try.</summary>
public sealed class StageFailureException(FailureKind kind, string message, string? hint = null, Exception? inner = null)
    : Exception(message, inner)
{
    public FailureKind Kind { get; } = kind;

    /// <summary>What the person can do about it.</summary>
    public string? Hint { get; } = hint;
}

/// <summary>Exit codes of the worker and the CLI (sysexits).</summary>
public static class ExitCode
{
    public const int Ok = 0;
    public const int RunFailed = 1;
    public const int PlanHasChanges = 2;
    public const int Config = 64;
    public const int Data = 65;
    public const int Unavailable = 69;
    public const int Bug = 70;
    public const int Io = 74;
    public const int Temporary = 75;
    public const int Denied = 77;
    public const int Interrupted = 130;
    public const int Cancelled = 143;

    public static int Of(FailureKind kind) => kind switch
    {
        FailureKind.Config => Config,
        FailureKind.Data => Data,
        FailureKind.Resource => Io,
        FailureKind.Infrastructure => Temporary,
        _ => Bug,
    };
}
