using FastDraft.Server.Scheduling;

namespace FastDraft.Server.ConsolePages;

/// <summary>What a schedule is, in the words and shapes of states.</summary>
internal static class ScheduleLook
{
    public static StateLook Of(ScheduleView schedule) =>
        schedule.Paused ? new("Paused", "waiting") : schedule.Problem is not null ? new("Cannot run", "failed") : schedule.Next is null ? new("Over", "skipped") : new("On", "succeeded");
}
