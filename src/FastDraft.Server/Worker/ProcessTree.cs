using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace FastDraft.Server.Worker;

/// <summary>
/// Everything that an attempt started. Children inherit the environment variable that names the attempt, so those that left the
/// worker's process group (torchrun's workers do) are found as well.
/// </summary>
internal static partial class ProcessTree
{
    public const string AttemptVariable = "FASTDRAFT_ATTEMPT";

    private const int SigTerm = 15;
    private const int SigKill = 9;
    private const int SigStop = 19;

    /// <summary>Asks one process to end.</summary>
    public static void Terminate(int process) => _ = Signal(process, SigTerm);

    /// <summary>Kills the worker's process group and then, until none is left, every other process of the attempt but the caller.</summary>
    public static void Kill(int worker, string attempt)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        var self = worker == Environment.ProcessId;
        if (!self)
        {
            _ = Signal(-worker, SigKill);
        }

        // A process may fork between being seen and being killed.
        for (var round = 0; round < 10 && Find(attempt).ToList() is { Count: > 0 } found; round++)
        {
            foreach (var process in found)
            {
                _ = Signal(process, SigKill);
            }
        }

        if (self)
        {
            _ = Signal(-worker, SigKill);
            KillSelf();
        }
    }

    public static void KillSelf()
    {
        if (!OperatingSystem.IsWindows())
        {
            _ = Signal(Environment.ProcessId, SigKill);
        }

        Environment.FailFast("Killed by itself.");
    }

    /// <summary>Returns after SIGCONT.</summary>
    public static void FreezeSelf() => _ = Signal(Environment.ProcessId, SigStop);

    /// <summary>Its own session, so that the whole group can be killed.</summary>
    public static void LeadOwnSession()
    {
        if (!OperatingSystem.IsWindows())
        {
            _ = SetSid();
        }
    }

    private static IEnumerable<int> Find(string attempt)
    {
        if (!Directory.Exists("/proc/self"))
        {
            yield break;
        }

        var mark = Encoding.UTF8.GetBytes($"{AttemptVariable}={attempt}\0");
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out var process)
                && process != Environment.ProcessId && EnvironmentOf(folder).AsSpan().IndexOf(mark) >= 0)
            {
                yield return process;
            }
        }
    }

    /// <summary>Empty for a process that is gone, a zombie, or somebody else's.</summary>
    private static byte[] EnvironmentOf(string folder)
    {
        try
        {
            return File.ReadAllBytes(Path.Combine(folder, "environ"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    [LibraryImport("libc", EntryPoint = "setsid")]
    private static partial int SetSid();

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int process, int signal);
}
