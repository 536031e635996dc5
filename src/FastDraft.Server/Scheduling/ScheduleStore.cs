using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Scheduling;

/// <summary>What to create a schedule from: a workflow as it is now, or the published version of one.</summary>
public sealed record NewSchedule(
    string Name, WorkflowDefinition? Definition, string? DefinitionId, ScheduleKind Kind, string Expression, string TimeZone, MisfirePolicy Misfire,
    IReadOnlyDictionary<string, JsonNode?> Inputs);

/// <summary><paramref name="LastNominal"/> is the last nominal time that was decided on, <paramref name="LastRun"/> the last run.</summary>
public sealed record ScheduleView(
    Guid Id, string Name, string Workflow, ScheduleKind Kind, string Expression, string TimeZone, string Misfire, bool Paused, string? Problem,
    DateTimeOffset? Next, DateTimeOffset? LastNominal, Guid? LastRunId, RunState? LastRunState, int NumRuns, int NumMissed);

/// <summary>A nominal time that was decided on. <paramref name="RunId"/>: null where it was missed; <paramref name="State"/> is that of the run.</summary>
public sealed record ScheduleTickView(DateTimeOffset Nominal, Guid? RunId, RunState? State, bool IsBackfill, DateTimeOffset DecidedAt);

/// <summary>The schedules of a data folder. Works without a host: whichever host runs reads the same rows.</summary>
public sealed class ScheduleStore(PipelineStore store, TimeProvider clock)
{
    /// <summary>A workflow input of this name is given the nominal time, so that a backfilled run knows which one it stands for.</summary>
    public const string NominalTimeInput = "scheduledAt";

    /// <exception cref="StageFailureException">The name is taken, or the expression or time zone is wrong.</exception>
    public async Task<ScheduleView> CreateAsync(NewSchedule given, CancellationToken ct)
    {
        var now = clock.GetUtcNow();
        if (ScheduleTimes.Of(given.Kind, given.Expression, given.TimeZone, now).Next(now) is null)
        {
            throw new StageFailureException(FailureKind.Config, $"'{given.Expression}' never comes.", "a time of the future, or a date that exists");
        }

        await store.Database.TransactAsync(
            async db =>
            {
                if (await db.Schedules.AnyAsync(s => s.Name == given.Name, ct))
                {
                    throw new StageFailureException(FailureKind.Config, $"There is a schedule '{given.Name}' already.", "another --name, or fastdraft schedule delete " + given.Name);
                }

                db.Schedules.Add(new ScheduleRow
                {
                    Id = Guid.CreateVersion7(), Name = given.Name, DefinitionId = given.DefinitionId, DefinitionJson = given.Definition?.ToJson(), Kind = given.Kind.ToString(),
                    Expression = given.Expression, TimeZone = given.TimeZone, Misfire = given.Misfire.Name(), InputsJson = JsonSerializer.Serialize(given.Inputs),
                    CreatedAt = now.ToUnixTimeMilliseconds(), Cursor = now.ToUnixTimeMilliseconds(),
                });
                db.Remember(new AuditEntry(AuditAction.ScheduleCreated, given.Name, Details: new JsonObject
                {
                    ["workflow"] = given.DefinitionId ?? given.Definition!.Name, ["kind"] = given.Kind.ToString(), ["expression"] = given.Expression, ["timeZone"] = given.TimeZone, ["misfire"] = given.Misfire.Name(),
                }));
                return true;
            },
            ct);
        return await GetAsync(given.Name, ct);
    }

    public async Task<IReadOnlyList<ScheduleView>> ListAsync(CancellationToken ct)
    {
        await using var db = store.Open();
        var views = new List<ScheduleView>();
        foreach (var row in await db.Schedules.AsNoTracking().OrderBy(s => s.Name).ToListAsync(ct))
        {
            views.Add(await ViewAsync(db, row, ct));
        }

        return views;
    }

    /// <exception cref="StageFailureException">There is none.</exception>
    public async Task<ScheduleView> GetAsync(string name, CancellationToken ct)
    {
        await using var db = store.Open();
        return await ViewAsync(db, await RowAsync(db, name, ct), ct);
    }

    /// <summary>The next nominal times, from now on.</summary>
    /// <exception cref="StageFailureException">There is no such schedule, or its time zone is not known here.</exception>
    public async Task<IReadOnlyList<DateTimeOffset>> NextAsync(string name, int count, CancellationToken ct)
    {
        await using var db = store.Open();
        var row = await RowAsync(db, name, ct);
        return [.. Scheduler.Times(row).Between(From(row), DateTimeOffset.MaxValue).Take(count)];
    }

    /// <summary>The nominal times that were decided on, the newest first.</summary>
    /// <param name="before">Only earlier ones: where the page before ended.</param>
    /// <exception cref="StageFailureException">There is no such schedule.</exception>
    public async Task<IReadOnlyList<ScheduleTickView>> TicksAsync(string name, DateTimeOffset? before, int limit, CancellationToken ct)
    {
        await using var db = store.Open();
        var id = (await RowAsync(db, name, ct)).Id;
        var until = before?.ToUnixTimeMilliseconds() ?? long.MaxValue;
        var rows = await (from t in db.ScheduleTicks.AsNoTracking()
                          join r in db.Runs on t.RunId equals (Guid?)r.Id into runs
                          from r in runs.DefaultIfEmpty()
                          where t.ScheduleId == id && t.NominalAt < until
                          orderby t.NominalAt descending
                          select new { Tick = t, State = (RunState?)r.State }).Take(limit).ToListAsync(ct);
        return [.. rows.Select(r => new ScheduleTickView(
            DateTimeOffset.FromUnixTimeMilliseconds(r.Tick.NominalAt), r.Tick.RunId, r.State, r.Tick.IsBackfill, DateTimeOffset.FromUnixTimeMilliseconds(r.Tick.DecidedAt)))];
    }

    /// <exception cref="StageFailureException">There is none.</exception>
    public Task PauseAsync(string name, CancellationToken ct) => ChangeAsync(name, AuditAction.SchedulePaused, row => row.Paused = true, ct);

    /// <summary>Goes on from now: what came due in the pause is not made up for (a backfill does that).</summary>
    /// <exception cref="StageFailureException">There is none.</exception>
    public Task ResumeAsync(string name, CancellationToken ct) => ChangeAsync(name, AuditAction.ScheduleResumed, row =>
    {
        if (row.Paused)
        {
            (row.Paused, row.Cursor) = (false, Math.Max(row.Cursor, clock.GetUtcNow().ToUnixTimeMilliseconds()));
        }
    }, ct);

    /// <summary>Its runs stay.</summary>
    /// <exception cref="StageFailureException">There is none, or a published workflow would bring it back at once.</exception>
    public Task DeleteAsync(string name, CancellationToken ct) => store.Database.TransactAsync(
        async db =>
        {
            var row = await RowAsync(db, name, ct);
            if (row.ActivityId is not null && await db.WorkflowDefinitions.AnyAsync(d => d.DefinitionId == row.DefinitionId && d.IsPublished, ct))
            {
                throw new StageFailureException(FailureKind.Config, $"Schedule '{name}' comes from the published workflow '{row.DefinitionId}'.", $"fastdraft schedule pause {name}, or retract the workflow");
            }

            db.Remember(new AuditEntry(AuditAction.ScheduleDeleted, name));
            return await db.Schedules.Where(s => s.Id == row.Id).ExecuteDeleteAsync(ct) == 1;
        },
        ct);

    internal static StageFailureException NotFound(string name) => new(FailureKind.Config, $"There is no schedule '{name}'.", "fastdraft schedule list");

    private static async Task<ScheduleRow> RowAsync(PipelineDbContext db, string name, CancellationToken ct) =>
        await db.Schedules.AsNoTracking().SingleOrDefaultAsync(s => s.Name == name, ct) ?? throw NotFound(name);

    private Task ChangeAsync(string name, string action, Action<ScheduleRow> change, CancellationToken ct) => store.Database.TransactAsync(
        async db =>
        {
            change(await db.Schedules.SingleOrDefaultAsync(s => s.Name == name, ct) ?? throw NotFound(name));
            db.Remember(new AuditEntry(action, name));
            return true;
        },
        ct);

    // A clock set back must not announce what has been decided.
    private DateTimeOffset From(ScheduleRow row) => DateTimeOffset.FromUnixTimeMilliseconds(Math.Max(row.Cursor, clock.GetUtcNow().ToUnixTimeMilliseconds()));

    private async Task<ScheduleView> ViewAsync(PipelineDbContext db, ScheduleRow row, CancellationToken ct)
    {
        var last = await db.ScheduleTicks.AsNoTracking().Where(t => t.ScheduleId == row.Id).OrderByDescending(t => t.NominalAt).FirstOrDefaultAsync(ct);
        var lastRun = await (from t in db.ScheduleTicks
                             join r in db.Runs on t.RunId equals r.Id
                             where t.ScheduleId == row.Id
                             orderby t.NominalAt descending
                             select new { r.Id, r.State }).FirstOrDefaultAsync(ct);
        var (problem, next) = (row.Problem, (DateTimeOffset?)null);
        try
        {
            next = row.Paused ? null : Scheduler.Times(row).Next(From(row));
        }
        catch (StageFailureException e)
        {
            problem = e.Message;
        }

        return new ScheduleView(
            row.Id, row.Name, row.DefinitionId ?? WorkflowDefinition.Parse(row.DefinitionJson!).Name, Enum.Parse<ScheduleKind>(row.Kind), row.Expression, row.TimeZone, row.Misfire,
            row.Paused, problem, next, last is null ? null : DateTimeOffset.FromUnixTimeMilliseconds(last.NominalAt), lastRun?.Id, lastRun?.State,
            await db.ScheduleTicks.CountAsync(t => t.ScheduleId == row.Id && t.RunId != null, ct), await db.ScheduleTicks.CountAsync(t => t.ScheduleId == row.Id && t.RunId == null, ct));
    }
}
