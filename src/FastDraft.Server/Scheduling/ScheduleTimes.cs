using System.Globalization;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;

namespace FastDraft.Server.Scheduling;

public enum ScheduleKind
{
    /// <summary>A cron expression in a time zone.</summary>
    Cron,

    /// <summary>A time span, counted from the schedule's creation.</summary>
    Interval,

    /// <summary>One instant.</summary>
    Once,
}

/// <summary>
/// The nominal times of a schedule, as instants. Cron follows the clock on the wall: a time that spring skips is due at the first valid
/// instant after it, a time that autumn repeats is due the first time only; expressions with <c>*</c> or steps in the hours or minutes go
/// on through both (the rules of Cronos, which are those of Vixie cron).
/// </summary>
public sealed class ScheduleTimes
{
    private readonly Func<DateTimeOffset, DateTimeOffset?> next;

    private ScheduleTimes(Func<DateTimeOffset, DateTimeOffset?> next) => this.next = next;

    /// <param name="anchor">Where intervals are counted from.</param>
    /// <exception cref="StageFailureException">Config: the expression, or the time zone, is not one.</exception>
    public static ScheduleTimes Of(ScheduleKind kind, string expression, string timeZone, DateTimeOffset anchor)
    {
        switch (kind)
        {
            case ScheduleKind.Cron:
                var zone = Zone(timeZone);
                return CronText.Check(expression) is { } error
                    ? throw new StageFailureException(FailureKind.Config, error, "minute hour day month weekday, such as '0 3 * * 1' for Mondays at three")
                    : new ScheduleTimes(after => CronText.Next(expression, after, zone)?.ToUniversalTime());
            case ScheduleKind.Interval:
                return TimeSpan.TryParse(expression, CultureInfo.InvariantCulture, out var interval) && interval >= TimeSpan.FromSeconds(1) && interval.Ticks % TimeSpan.TicksPerSecond == 0
                    ? new ScheduleTimes(after => anchor + (interval * Math.Max(1, Math.Floor((after - anchor) / interval) + 1)))
                    : throw new StageFailureException(FailureKind.Config, $"'{expression}' is no interval of whole seconds.", "days.hours:minutes:seconds, such as 0.06:00:00");
            default:
                // Instants are kept in milliseconds: what is finer would come due twice.
                return DateTimeOffset.TryParse(expression, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var instant)
                    ? new ScheduleTimes(after => Milliseconds(instant) > after ? Milliseconds(instant) : null)
                    : throw new StageFailureException(FailureKind.Config, $"'{expression}' is no date and time.", "2026-03-29T02:30:00+01:00");
        }
    }

    /// <summary>The first nominal time after an instant; null where there is none.</summary>
    public DateTimeOffset? Next(DateTimeOffset after) => next(after);

    /// <summary>The nominal times after <paramref name="after"/>, up to and with <paramref name="until"/>.</summary>
    public IEnumerable<DateTimeOffset> Between(DateTimeOffset after, DateTimeOffset until)
    {
        for (var at = Next(after); at is { } due && due <= until; at = Next(due))
        {
            yield return due;
        }
    }

    private static DateTimeOffset Milliseconds(DateTimeOffset instant) => DateTimeOffset.FromUnixTimeMilliseconds(instant.ToUnixTimeMilliseconds());

    /// <exception cref="StageFailureException">Config: this machine does not know the zone.</exception>
    public static TimeZoneInfo Zone(string name)
    {
        if (name is "UTC" or "Etc/UTC" or "")
        {
            return TimeZoneInfo.Utc;
        }

        try
        {
            return TimeZoneInfo.FindSystemTimeZoneById(name);
        }
        catch (Exception e) when (e is TimeZoneNotFoundException or InvalidTimeZoneException or System.Security.SecurityException)
        {
            // A minimal container has no zone data at all: then the name may well be right.
            throw TimeZoneInfo.GetSystemTimeZones().Count <= 1
                ? new StageFailureException(FailureKind.Config, $"Time zone '{name}' is not known: this machine has no time zone data.", "install the package tzdata, or use the zone UTC", e)
                : new StageFailureException(FailureKind.Config, $"Time zone '{name}' is not known.", "an IANA name, such as Europe/Berlin, America/New_York or UTC", e);
        }
    }
}
