using System.Collections.Frozen;
using FastDraft.Server.Worker;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// The instants around every durable action of the host. With FASTDRAFT_FAILPOINT set to one of them the process kills itself
/// when it gets there, as a power cut would; with <c>:stop</c> behind it, it freezes there until it gets SIGCONT, and wakes as a
/// zombie. What is promised there is proved, not argued.
/// </summary>
internal static class Failpoint
{
    public const string Submitted = "submitted";
    public const string Begun = "begun";
    public const string Answered = "answered";
    public const string BeforeKeyed = "before-keyed";
    public const string Keyed = "keyed";
    public const string Leased = "leased";
    public const string InputsReady = "inputs-ready";
    public const string WorkerEnded = "worker-ended";
    public const string OutputStored = "output-stored";
    public const string BeforeCommit = "before-commit";
    public const string Committing = "committing";
    public const string Committed = "committed";
    public const string JobDone = "job-done";

    /// <summary>Of projections, which run beside the others: an MLflow run is there and not remembered; metric points are there and their position is not.</summary>
    public const string MlflowRunCreated = "mlflow-run-created";
    public const string MetricsSent = "metrics-sent";

    /// <summary>Those that every run gets to.</summary>
    public static FrozenSet<string> All { get; } =
        FrozenSet.Create(Submitted, Begun, Answered, BeforeKeyed, Keyed, Leased, InputsReady, WorkerEnded, OutputStored, BeforeCommit, Committing, Committed, JobDone);

    private static readonly string? Chosen = Environment.GetEnvironmentVariable("FASTDRAFT_FAILPOINT");

    public static void Reach(string point)
    {
        if (point == Chosen)
        {
            ProcessTree.KillSelf();
        }
        else if (Chosen == point + ":stop")
        {
            ProcessTree.FreezeSelf();
        }
    }
}
