using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Server.Scheduling;

namespace FastDraft.Server.Tests.Scheduling;

public abstract class SchedulerFacts(TestDatabase database)
{
    protected static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(MisfirePolicy.Skip, 0)]
    [InlineData(MisfirePolicy.RunOnce, 1)]
    [InlineData(MisfirePolicy.RunAll, 72)]
    public async Task Three_days_of_downtime_follow_the_misfire_policy(MisfirePolicy misfire, int numRuns)
    {
        await using var folder = await ScheduleFolder.CreateAsync("2026-03-01T00:30:00Z", database);
        await folder.AddAsync("hourly", "0 * * * *", misfire: misfire);
        folder.Clock.Now += TimeSpan.FromDays(3);
        await folder.Host().TickAllAsync(Ct);
        await folder.Host().TickAllAsync(Ct);
        var runs = await folder.RunsAsync("hourly");
        Assert.Equal(numRuns, runs.Count);
        Assert.Equal(72 - numRuns, (await folder.Schedules.GetAsync("hourly", Ct)).NumMissed);
        Assert.All(runs.TakeLast(1), last => Assert.Equal(ScheduleFolder.Time("2026-03-04T00:00:00Z"), last));

        // What comes on time runs under every policy.
        folder.Clock.Now = ScheduleFolder.Time("2026-03-04T01:00:02Z");
        await folder.Host().TickAllAsync(Ct);
        Assert.Equal(numRuns + 1, (await folder.RunsAsync("hourly")).Count);
    }

    [Theory]
    [InlineData(MisfirePolicy.Skip, 11)]
    [InlineData(MisfirePolicy.RunOnce, 11)]
    [InlineData(MisfirePolicy.RunAll, 20)]
    public async Task A_clock_that_jumps_ten_minutes_ahead_misses_what_it_jumped_over(MisfirePolicy misfire, int numRuns)
    {
        await using var folder = await ScheduleFolder.CreateAsync("2026-03-01T00:00:00Z", database);
        await folder.AddAsync("minutely", "* * * * *", misfire: misfire);
        var host = folder.Host();
        for (var minute = 1; minute <= 10; minute++)
        {
            folder.Clock.Now += TimeSpan.FromMinutes(1);
            await host.TickAllAsync(Ct);
        }

        // 00:20:30: of 00:11 to 00:20 only the last is within its minute of grace.
        folder.Clock.Now += TimeSpan.FromMinutes(10) + TimeSpan.FromSeconds(30);
        await host.TickAllAsync(Ct);
        Assert.Equal(numRuns, (await folder.RunsAsync("minutely")).Count);

        // And back: nothing again until the clock passes what has been decided.
        folder.Clock.Now -= TimeSpan.FromMinutes(10);
        for (var minute = 0; minute < 10; minute++)
        {
            await host.TickAllAsync(Ct);
            folder.Clock.Now += TimeSpan.FromMinutes(1);
        }

        Assert.Equal(numRuns, (await folder.RunsAsync("minutely")).Count);
        folder.Clock.Now += TimeSpan.FromMinutes(1);
        await host.TickAllAsync(Ct);
        Assert.Equal(numRuns + 1, (await folder.RunsAsync("minutely")).Count);
    }

    [Fact]
    public async Task Hosts_that_look_at_the_same_moment_start_one_run()
    {
        await using var folder = await ScheduleFolder.CreateAsync("2026-03-01T00:00:00Z", database);
        await folder.AddAsync("hourly", "0 * * * *");
        for (var hour = 1; hour <= 5; hour++)
        {
            folder.Clock.Now += TimeSpan.FromHours(1);
            await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() => folder.Host().TickAllAsync(Ct), Ct)));
        }

        Assert.Equal(5, (await folder.RunsAsync("hourly")).Count);
    }

    [Fact]
    public async Task A_paused_schedule_starts_nothing_and_goes_on_from_when_it_is_resumed()
    {
        await using var folder = await ScheduleFolder.CreateAsync("2026-03-01T00:30:00Z", database);
        await folder.AddAsync("hourly", "0 * * * *", misfire: MisfirePolicy.RunAll);
        await folder.Schedules.PauseAsync("hourly", Ct);
        Assert.Null((await folder.Schedules.GetAsync("hourly", Ct)).Next);
        folder.Clock.Now += TimeSpan.FromHours(5);
        await folder.Host().TickAllAsync(Ct);
        await folder.Schedules.ResumeAsync("hourly", Ct);
        await folder.Host().TickAllAsync(Ct);
        Assert.Empty(await folder.RunsAsync("hourly"));
        Assert.Equal(ScheduleFolder.Time("2026-03-01T06:00:00Z"), (await folder.Schedules.GetAsync("hourly", Ct)).Next);
    }

    [Fact]
    public async Task A_backfill_starts_what_has_no_run_yet_and_a_second_one_nothing()
    {
        await using var folder = await ScheduleFolder.CreateAsync("2026-03-01T00:30:00Z", database);
        await folder.AddAsync("hourly", "0 * * * *");
        folder.Clock.Now += TimeSpan.FromHours(5);
        var host = folder.Host();
        await host.TickAllAsync(Ct);
        var (from, to) = (ScheduleFolder.Time("2026-02-28T23:00:00Z"), ScheduleFolder.Time("2026-03-01T05:00:00Z"));
        Assert.Equal(6, (await host.BackfillAsync("hourly", from, to, Ct)).Count);
        Assert.Empty(await host.BackfillAsync("hourly", from, to, Ct));
        Assert.Equal(7, (await folder.RunsAsync("hourly")).Count);
        Assert.Contains("""{"scheduledAt":"2026-02-28T23:00:00\u002B00:00"}""", await folder.InputsAsync());
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => host.BackfillAsync("hourly", from, ScheduleFolder.Time("2026-03-02T00:00:00Z"), Ct));
        Assert.Contains("in the future", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Intervals_count_from_the_creation_and_an_instant_comes_once()
    {
        await using var folder = await ScheduleFolder.CreateAsync("2026-03-01T00:00:07Z", database);
        var inputs = new Dictionary<string, JsonNode?>();
        await folder.Schedules.CreateAsync(new NewSchedule("each", ScheduleFolder.Workflow(), null, ScheduleKind.Interval, "00:20:00", "UTC", MisfirePolicy.RunAll, inputs), Ct);
        await folder.Schedules.CreateAsync(new NewSchedule("once", ScheduleFolder.Workflow(), null, ScheduleKind.Once, "2026-03-01T01:30:00+01:00", "UTC", MisfirePolicy.RunOnce, inputs), Ct);
        for (var i = 0; i < 30; i++)
        {
            folder.Clock.Now += TimeSpan.FromMinutes(2);
            await folder.Host().TickAllAsync(Ct);
        }

        Assert.Equal(["00:20:07", "00:40:07", "01:00:07"], (await folder.RunsAsync("each")).Select(t => t.ToString("HH:mm:ss", System.Globalization.CultureInfo.InvariantCulture)));
        Assert.Equal([ScheduleFolder.Time("2026-03-01T00:30:00Z")], await folder.RunsAsync("once"));
        Assert.Null((await folder.Schedules.GetAsync("once", Ct)).Next);
    }

    [Fact]
    public async Task Months_of_a_schedule_by_the_second_are_caught_up_with_in_bounded_steps()
    {
        await using var folder = await ScheduleFolder.CreateAsync("2026-03-01T00:00:00Z", database);
        await folder.AddAsync("seconds", "* * * * * *", misfire: MisfirePolicy.Skip);
        folder.Clock.Now += TimeSpan.FromDays(2);
        await folder.Host().TickAllAsync(Ct);
        var schedule = await folder.Schedules.GetAsync("seconds", Ct);
        Assert.Equal((61, 939), (schedule.NumRuns, schedule.NumMissed));
        await folder.Host().TickAllAsync(Ct);
        Assert.Equal(61, (await folder.Schedules.GetAsync("seconds", Ct)).NumRuns);
    }

    [Fact]
    public async Task What_is_wrong_with_a_schedule_is_said_when_it_is_made()
    {
        await using var folder = await ScheduleFolder.CreateAsync("2026-03-01T00:00:00Z", database);
        Assert.Contains("Europe/Berln", (await Assert.ThrowsAsync<StageFailureException>(() => folder.AddAsync("a", "0 * * * *", "Europe/Berln"))).Message, StringComparison.Ordinal);
        Assert.Contains("cron", (await Assert.ThrowsAsync<StageFailureException>(() => folder.AddAsync("a", "61 * * * *"))).Message, StringComparison.Ordinal);
        Assert.Contains("never occurs", (await Assert.ThrowsAsync<StageFailureException>(() => folder.AddAsync("a", "0 0 30 2 *"))).Message, StringComparison.Ordinal);
        await folder.AddAsync("a", "0 * * * *");
        Assert.Contains("already", (await Assert.ThrowsAsync<StageFailureException>(() => folder.AddAsync("a", "0 * * * *"))).Message, StringComparison.Ordinal);
    }
}

public sealed class SqliteSchedulerFacts() : SchedulerFacts(TestDatabase.Sqlite)
{
    // About calendars, so on one database: it is long.
    [Fact]
    public async Task A_year_with_both_changes_of_the_clock_and_a_leap_day_gives_one_run_for_every_nominal_time()
    {
        await using var folder = await ScheduleFolder.CreateAsync("2028-01-01T00:00:00Z");
        await folder.AddAsync("berlin", "30 2 * * *", "Europe/Berlin", MisfirePolicy.RunAll);
        await folder.AddAsync("new-york", "30 1 * * *", "America/New_York", MisfirePolicy.RunAll);
        await folder.AddAsync("leap", "0 12 29 2 *", "UTC", MisfirePolicy.RunAll);
        var hosts = new[] { folder.Host(), folder.Host() };
        var random = new Random(20280101);
        var end = ScheduleFolder.Time("2029-01-01T00:00:00Z");
        var numJumps = 0;
        while (folder.Clock.Now < end)
        {
            var next = folder.Clock.Now + TimeSpan.FromMinutes(random.Next(60, 2000));
            folder.Clock.Now = next < end ? next : end;
            await hosts[random.Next(2)].TickAllAsync(Ct);
            if (random.Next(12) == 0 && folder.Clock.Now < end)
            {
                // The clock is set back ten minutes, and later forward again: what was decided is not decided twice.
                folder.Clock.Now -= TimeSpan.FromMinutes(10);
                await Task.WhenAll(hosts.Select(h => h.TickAllAsync(Ct)));
                folder.Clock.Now += TimeSpan.FromMinutes(10);
                numJumps++;
            }
        }

        Assert.InRange(numJumps, 20, 1000);
        Assert.Equal(Daily("Europe/Berlin", new TimeSpan(2, 30, 0), end), await folder.RunsAsync("berlin"));
        Assert.Equal(Daily("America/New_York", new TimeSpan(1, 30, 0), end), await folder.RunsAsync("new-york"));
        Assert.Equal([ScheduleFolder.Time("2028-02-29T12:00:00Z")], await folder.RunsAsync("leap"));
    }

    /// <summary>By the calendar and the zone's rules alone: a time that does not exist moves to the first that does, an ambiguous one is the earlier.</summary>
    private static List<DateTimeOffset> Daily(string zoneName, TimeSpan time, DateTimeOffset end)
    {
        var zone = TimeZoneInfo.FindSystemTimeZoneById(zoneName);
        var times = new List<DateTimeOffset>();
        for (var day = new DateTime(2027, 12, 31); day < end.UtcDateTime; day = day.AddDays(1))
        {
            var local = day + time;
            while (zone.IsInvalidTime(local))
            {
                local = local.AddMinutes(1);
            }

            var offset = zone.IsAmbiguousTime(local) ? zone.GetAmbiguousTimeOffsets(local).Max() : zone.GetUtcOffset(local);
            var instant = new DateTimeOffset(local, offset).ToUniversalTime();
            if (instant > new DateTimeOffset(2028, 1, 1, 0, 0, 0, TimeSpan.Zero) && instant < end)
            {
                times.Add(instant);
            }
        }

        return times;
    }
}

public sealed class PostgreSqlSchedulerFacts() : SchedulerFacts(TestDatabase.PostgreSql);
