using System.Runtime.InteropServices;

namespace FastDraft.Core.Workflows;

/// <summary>
/// The 0.9 seconds of processor time that an expression may take on the thread it began on. An expression is bounded by what it computes:
/// by the clock on the wall, a busy machine would turn a sound one into an incident.
/// </summary>
internal sealed partial class ProcessorTime
{
    private const int ChecksBetweenLooks = 64; // A look costs a system call.
    private static readonly TimeSpan Max = TimeSpan.FromMilliseconds(900);

    private const int ThreadClock = 3; // CLOCK_THREAD_CPUTIME_ID of time.h

    private TimeSpan _began = OfThread();
    private int _numChecks;

    public void Restart() => _began = OfThread();

    /// <exception cref="TimeoutException">The time is spent.</exception>
    public void Check()
    {
        if (++_numChecks % ChecksBetweenLooks == 0 && OfThread() - _began > Max)
        {
            throw new TimeoutException("It computed for more than 0.9 seconds.");
        }
    }

    private static TimeSpan OfThread() =>
        GetTime(ThreadClock, out var time) == 0 ? new TimeSpan((time.Seconds * TimeSpan.TicksPerSecond) + (time.Nanoseconds / TimeSpan.NanosecondsPerTick)) : TimeSpan.Zero;

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static partial int GetTime(int clock, out Time time);

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct Time
    {
        public readonly long Seconds;
        public readonly long Nanoseconds;
    }
}
