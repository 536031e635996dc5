using System.Diagnostics;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using Hangfire;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Scheduling;

/// <summary>
/// Keeps the schedules of a host: derives those of published workflows, mirrors cron schedules as Hangfire recurring jobs (which show
/// them on its dashboard and wake on time), and looks itself once a second. All of them only call <see cref="Scheduler"/>, which asks
/// the tables: a job that fires twice, late or never changes nothing.
/// </summary>
internal sealed class ScheduleLoop(
    PipelineStore store, PipelineOptions options, Scheduler scheduler, PublishedTriggers triggers, RecurringJobManager recurring, Action wake)
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    // Job id to what it was last set to.
    private readonly Dictionary<string, (string Expression, string TimeZone)> mirrored = [];

    public async Task RunAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await triggers.SynchroniseAsync(stop);
                await MirrorAsync(stop);
                await TickAllAsync(stop);
                await Task.Delay(Interval, options.Clock, stop);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                // The next look reads the tables again; a loop that ended would stop every schedule.
                Trace.TraceError(e.ToString());
                await Task.Delay(TimeSpan.FromMilliseconds(200), CancellationToken.None);
            }
        }
    }

    public async Task TickAsync(Guid scheduleId, CancellationToken ct)
    {
        if ((await scheduler.TickAsync(scheduleId, ct)).Count > 0)
        {
            wake();
        }
    }

    private async Task TickAllAsync(CancellationToken ct)
    {
        if ((await scheduler.TickAllAsync(ct)).Count > 0)
        {
            wake();
        }
    }

    private async Task MirrorAsync(CancellationToken ct)
    {
        List<ScheduleRow> rows;
        await using (var db = store.Open())
        {
            var cron = ScheduleKind.Cron.ToString();
            rows = await db.Schedules.AsNoTracking().Where(s => !s.Paused && s.Kind == cron && s.Problem == null).ToListAsync(ct);
        }

        foreach (var gone in mirrored.Keys.Except(rows.Select(JobId)).ToList())
        {
            recurring.RemoveIfExists(gone);
            mirrored.Remove(gone);
        }

        foreach (var row in rows.Where(r => !mirrored.TryGetValue(JobId(r), out var set) || set != (r.Expression, r.TimeZone)))
        {
            try
            {
                recurring.AddOrUpdate<PipelineHost>(
                    JobId(row), host => host.TickScheduleAsync(row.Id), row.Expression, new RecurringJobOptions { TimeZone = ScheduleTimes.Zone(row.TimeZone) });
                mirrored[JobId(row)] = (row.Expression, row.TimeZone);
            }
            catch (Exception e) when (e is ArgumentException or StageFailureException)
            {
                // The next tick says on the schedule itself what is wrong with it.
                Trace.TraceWarning(e.Message);
            }
        }
    }

    private static string JobId(ScheduleRow row) => "schedule:" + row.Name;
}
