namespace FastDraft.Server.Scheduling;

/// <summary>What becomes of nominal times that passed while nobody could start their runs.</summary>
public enum MisfirePolicy
{
    /// <summary>They are passed over.</summary>
    Skip,

    /// <summary>One run makes up for all of them: the newest one's.</summary>
    RunOnce,

    /// <summary>Each gets its run.</summary>
    RunAll,
}

public static class MisfirePolicies
{
    /// <summary>A nominal time this long ago is missed; before that it is merely a little late.</summary>
    public static readonly TimeSpan Grace = TimeSpan.FromMinutes(1);

    /// <summary>As people write them: skip, run-once, run-all.</summary>
    public static IReadOnlyList<string> Names { get; } = ["skip", "run-once", "run-all"];

    public static string Name(this MisfirePolicy policy) => Names[(int)policy];

    /// <summary>Whether the nominal time gets its run.</summary>
    /// <param name="newest">The newest nominal time that is due.</param>
    public static bool Runs(this MisfirePolicy policy, DateTimeOffset nominal, DateTimeOffset newest, DateTimeOffset now) =>
        now - nominal <= Grace || policy == MisfirePolicy.RunAll || (policy == MisfirePolicy.RunOnce && nominal == newest);

    public static MisfirePolicy? Parse(string name) => Names.ToList().IndexOf(name) is >= 0 and var index ? (MisfirePolicy)index : null;
}
