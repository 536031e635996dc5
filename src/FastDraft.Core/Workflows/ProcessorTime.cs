using System.Runtime.InteropServices;

namespace FastDraft.Core.Workflows;

/// <summary>
/// The processor time of the calling thread. An expression is bounded by what it computes: by the clock on the wall, a busy machine would
/// turn a sound one into an incident.
/// </summary>
internal static partial class ProcessorTime
{
    private const int ThreadClock = 3; // CLOCK_THREAD_CPUTIME_ID of time.h

    public static TimeSpan OfThread() =>
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
