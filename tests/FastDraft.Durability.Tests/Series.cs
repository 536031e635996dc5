using System.Globalization;

// Most of the time a fact waits for processes and databases: more of them at once than there are cores.
[assembly: CollectionBehavior(MaxParallelThreads = 4)]

namespace FastDraft.Durability.Tests;

/// <summary>How long the series are: a few instants with every build, the full number by environment variable.</summary>
internal static class Series
{
    /// <summary>FASTDRAFT_KILLS, or the given small number.</summary>
    public static int Length(int usual) => int.TryParse(Environment.GetEnvironmentVariable("FASTDRAFT_KILLS"), CultureInfo.InvariantCulture, out var full) ? full : usual;

    /// <summary>FASTDRAFT_FULL=1: the series at its full length.</summary>
    public static bool IsFull => Environment.GetEnvironmentVariable("FASTDRAFT_FULL") == "1";

    /// <summary>Random instants: FASTDRAFT_SEED repeats those of an earlier series.</summary>
    public static Random Instants(Action<string> print)
    {
        var seed = int.TryParse(Environment.GetEnvironmentVariable("FASTDRAFT_SEED"), CultureInfo.InvariantCulture, out var given) ? given : Random.Shared.Next();
        print($"FASTDRAFT_SEED={seed}");
        return new Random(seed);
    }
}
