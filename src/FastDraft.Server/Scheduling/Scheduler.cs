using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Server.Definitions;
using FastDraft.Server.Dispatch;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Scheduling;

/// <summary>
/// Starts the runs of schedules. A nominal time, its run and the schedule's cursor are one transaction, and the nominal time is a key: any
/// number of hosts may look at once, and a kill anywhere leaves a nominal time decided or not, never half.
/// </summary>
public sealed class Scheduler(PipelineStore store, PipelineOptions options, DefinitionStore definitions)
{
    // Bounds one transaction, and what a second-by-second schedule leaves behind after months of downtime.
    private const int MaxDecisions = 1000;

    private DateTimeOffset Now => options.Clock.GetUtcNow();

    /// <summary>Decides on every nominal time of every schedule that is due. Returns the runs it started.</summary>
    public async Task<IReadOnlyList<Guid>> TickAllAsync(CancellationToken ct)
    {
        List<Guid> ids;
        await using (var db = store.Open())
        {
            ids = await db.Schedules.AsNoTracking().Where(s => !s.Paused).Select(s => s.Id).ToListAsync(ct);
        }

        var started = new List<Guid>();
        foreach (var id in ids)
        {
            started.AddRange(await TickAsync(id, ct));
        }

        return started;
    }

    /// <summary>Decides on what is due of one schedule. A schedule that cannot run keeps its nominal times until it can, and says why it cannot.</summary>
    public async Task<IReadOnlyList<Guid>> TickAsync(Guid scheduleId, CancellationToken ct)
    {
        if (!await IsDueAsync(scheduleId, ct))
        {
            return [];
        }

        var started = new List<Guid>();
        await store.Database.TransactAsync(
            async db =>
            {
                started.Clear();
                return await DecideAsync(db, scheduleId, started, ct);
            },
            ct);
        return started;
    }

    private async Task<bool> DecideAsync(PipelineDbContext db, Guid scheduleId, List<Guid> started, CancellationToken ct)
    {
        if (await db.Schedules.SingleOrDefaultAsync(s => s.Id == scheduleId && !s.Paused, ct) is not { } row)
        {
            return false;
        }

        var acts = new List<AuditEntry>();
        try
        {
            var (due, newest) = Due(row);
            if (newest is null)
            {
                return false;
            }

            var definition = await DefinitionAsync(row, ct);
            var misfire = MisfirePolicies.Parse(row.Misfire) ?? MisfirePolicy.RunOnce;
            foreach (var nominal in due)
            {
                var run = misfire.Runs(nominal, newest.Value, Now) ? Start(db, row, definition, nominal) : null;
                db.ScheduleTicks.Add(new ScheduleTickRow { ScheduleId = row.Id, NominalAt = nominal.ToUnixTimeMilliseconds(), RunId = run?.Id, DecidedAt = Now.ToUnixTimeMilliseconds() });
                if (run is not null)
                {
                    started.Add(run.Id);
                    acts.Add(Submitted(run, row, nominal, Actor.Schedule(row.Name)));
                }
            }

            (row.Cursor, row.Problem) = (due[^1].ToUnixTimeMilliseconds(), null);
            acts.ForEach(db.Remember);
        }
        catch (StageFailureException e)
        {
            // Tracked rows of this pass are dropped with the context; only the reason is kept.
            db.ChangeTracker.Clear();
            await db.Schedules.Where(s => s.Id == scheduleId).ExecuteUpdateAsync(u => u.SetProperty(s => s.Problem, e.Message), ct);
            started.Clear();
        }

        return true;
    }

    /// <summary>
    /// Starts a run for every nominal time from <paramref name="from"/> to <paramref name="to"/>, both included, that has none yet.
    /// </summary>
    /// <exception cref="StageFailureException">The range lies in the future, or is too large.</exception>
    public async Task<IReadOnlyList<(DateTimeOffset Nominal, Guid RunId)>> BackfillAsync(string name, DateTimeOffset from, DateTimeOffset to, CancellationToken ct)
    {
        if (to < from || to > Now)
        {
            throw new StageFailureException(FailureKind.Config, to < from ? "The end of the range lies before its beginning." : "The end of the range lies in the future: its runs will start by themselves.", "two times of the past, the earlier one first");
        }

        var started = new List<(DateTimeOffset, Guid)>();
        await store.Database.TransactAsync(
            async db =>
            {
                started.Clear();
                await BackfillAsync(db, name, from, to, started, ct);
                return true;
            },
            ct);
        return started;
    }

    private async Task BackfillAsync(PipelineDbContext db, string name, DateTimeOffset from, DateTimeOffset to, List<(DateTimeOffset, Guid)> started, CancellationToken ct)
    {
        var row = await db.Schedules.SingleOrDefaultAsync(s => s.Name == name, ct) ?? throw ScheduleStore.NotFound(name);
        var definition = await DefinitionAsync(row, ct);
        var nominals = Times(row).Between(from.AddMilliseconds(-1), to).Take(MaxDecisions + 1).ToList();
        if (nominals.Count > MaxDecisions)
        {
            throw new StageFailureException(FailureKind.Config, $"The range has more than {MaxDecisions} nominal times.", "a shorter range, several times");
        }

        foreach (var nominal in nominals)
        {
            var at = nominal.ToUnixTimeMilliseconds();
            var tick = await db.ScheduleTicks.FindAsync([row.Id, at], ct);
            if (tick?.RunId is not null)
            {
                continue;
            }

            var run = Start(db, row, definition, nominal);
            db.Remember(Submitted(run, row, nominal, null));
            tick ??= db.ScheduleTicks.Add(new ScheduleTickRow { ScheduleId = row.Id, NominalAt = at }).Entity;
            (tick.RunId, tick.IsBackfill, tick.DecidedAt) = (run.Id, true, Now.ToUnixTimeMilliseconds());
            started.Add((nominal, run.Id));
        }

        var range = new JsonObject { ["from"] = from.ToString("O", CultureInfo.InvariantCulture), ["to"] = to.ToString("O", CultureInfo.InvariantCulture), ["runs"] = started.Count };
        db.Remember(new AuditEntry(AuditAction.ScheduleBackfilled, name, Details: range));
    }

    internal static ScheduleTimes Times(ScheduleRow row) => ScheduleTimes.Of(
        Enum.TryParse<ScheduleKind>(row.Kind, out var kind) ? kind : throw new StageFailureException(FailureKind.Data, $"'{row.Kind}' is no kind of schedule."),
        row.Expression, row.TimeZone, DateTimeOffset.FromUnixTimeMilliseconds(row.CreatedAt));

    /// <summary>A look without the write lock, so that a host with nothing to do disturbs nobody.</summary>
    private async Task<bool> IsDueAsync(Guid scheduleId, CancellationToken ct)
    {
        await using var db = store.Open();
        var row = await db.Schedules.AsNoTracking().SingleOrDefaultAsync(s => s.Id == scheduleId && !s.Paused, ct);
        try
        {
            return row is not null && Times(row).Next(DateTimeOffset.FromUnixTimeMilliseconds(row.Cursor)) <= Now;
        }
        catch (StageFailureException e)
        {
            if (row!.Problem != e.Message)
            {
                await db.Schedules.Where(s => s.Id == scheduleId).ExecuteUpdateAsync(u => u.SetProperty(s => s.Problem, e.Message), ct);
            }

            return false;
        }
    }

    /// <summary>
    /// What to decide on now, and the newest nominal time that is due. Where each gets its run the oldest come first and the rest in the
    /// next look; elsewhere only the newest are written down, for the others are missed all the same.
    /// </summary>
    private (IReadOnlyList<DateTimeOffset> Due, DateTimeOffset? Newest) Due(ScheduleRow row)
    {
        var all = Times(row).Between(DateTimeOffset.FromUnixTimeMilliseconds(row.Cursor), Now);
        if (MisfirePolicies.Parse(row.Misfire) == MisfirePolicy.RunAll)
        {
            var first = all.Take(MaxDecisions).ToList();
            return (first, first.Count == 0 ? null : first[^1]);
        }

        var newest = new Queue<DateTimeOffset>();
        foreach (var nominal in all)
        {
            newest.Enqueue(nominal);
            if (newest.Count > MaxDecisions)
            {
                newest.Dequeue();
            }
        }

        return ([.. newest], newest.Count == 0 ? null : newest.Last());
    }

    private async Task<WorkflowDefinition> DefinitionAsync(ScheduleRow row, CancellationToken ct)
    {
        try
        {
            return row.DefinitionJson is { } json ? WorkflowDefinition.Parse(json)
                : (await definitions.FindPublishedAsync(row.DefinitionId!, ct))?.Parse()
                ?? throw new StageFailureException(FailureKind.Config, $"Workflow '{row.DefinitionId}' is not published.", "publish it");
        }
        catch (WorkflowFormatException e)
        {
            throw new StageFailureException(FailureKind.Config, $"The workflow of schedule '{row.Name}' cannot be read: {e.Message}", null, e);
        }
    }

    private static AuditEntry Submitted(RunRow run, ScheduleRow schedule, DateTimeOffset nominal, string? by) =>
        RunEngine.Submitted(run, new JsonObject { ["schedule"] = schedule.Name, ["nominal"] = nominal.ToString("O", CultureInfo.InvariantCulture) }, by);

    private RunRow Start(PipelineDbContext db, ScheduleRow row, WorkflowDefinition definition, DateTimeOffset nominal)
    {
        var id = Guid.CreateVersion7();
        Dictionary<string, JsonNode?> inputs;
        try
        {
            inputs = JsonSerializer.Deserialize<Dictionary<string, JsonNode?>>(row.InputsJson) ?? [];
        }
        catch (JsonException e)
        {
            throw new StageFailureException(FailureKind.Data, $"The inputs of schedule '{row.Name}' cannot be read: {e.Message}", "delete the schedule and create it again", e);
        }

        if (definition.Inputs.Any(i => i.Name == ScheduleStore.NominalTimeInput))
        {
            inputs[ScheduleStore.NominalTimeInput] = nominal.ToString("yyyy-MM-ddTHH:mm:ssK", CultureInfo.InvariantCulture);
        }

        var run = RunEngine.Pending(id, definition, inputs, new WorkflowStart(TriggerActivityId: row.ActivityId), Now);
        db.Runs.Add(run);
        return run;
    }
}
