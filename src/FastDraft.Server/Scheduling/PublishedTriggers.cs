using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Server.Definitions;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Scheduling;

/// <summary>
/// Keeps one schedule for each trigger activity of a published workflow that may start it. Derived from what is published, again and
/// again, so nothing has to call it and a kill loses nothing. Its nominal times begin with the publishing: none of the past is made up for.
/// </summary>
internal sealed class PublishedTriggers(PipelineStore store, DefinitionStore definitions, TimeProvider clock)
{
    private const string NotPublished = "The workflow is not published.";

    public async Task SynchroniseAsync(CancellationToken ct)
    {
        var wanted = (await StartActivities.PublishedAsync(definitions, ct)).Select(s => TriggerOf(s.Definition, s.Activity)).OfType<Trigger>().ToList();
        await using var look = store.Open();
        var present = await look.Schedules.AsNoTracking().Where(s => s.ActivityId != null).ToListAsync(ct);
        var isCurrent = wanted.All(w => present.Any(p => Fits(p, w) && IsSame(p, w)))
            && present.All(p => p.Problem == NotPublished || wanted.Any(w => Fits(p, w)));
        if (!isCurrent)
        {
            await store.Database.TransactAsync(db => WriteAsync(db, wanted, ct), ct);
        }
    }

    private static bool Fits(ScheduleRow row, Trigger trigger) => row.DefinitionId == trigger.DefinitionId && row.ActivityId == trigger.ActivityId;

    private static bool IsSame(ScheduleRow row, Trigger trigger) =>
        (row.Kind, row.Expression, row.TimeZone, row.Misfire) == (trigger.Kind.ToString(), trigger.Expression, trigger.TimeZone, trigger.Misfire) && row.Problem != NotPublished;

    private async Task<bool> WriteAsync(PipelineDbContext db, List<Trigger> wanted, CancellationToken ct)
    {
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        var all = await db.Schedules.ToListAsync(ct);
        var changed = new List<string>();
        foreach (var trigger in wanted)
        {
            var row = all.Find(s => Fits(s, trigger));
            if (row is null)
            {
                row = new ScheduleRow { Id = Guid.CreateVersion7(), Name = FreeName(trigger, all), DefinitionId = trigger.DefinitionId, ActivityId = trigger.ActivityId };
                all.Add(row);
                db.Schedules.Add(row);
            }
            else if (IsSame(row, trigger))
            {
                continue;
            }

            changed.Add(row.Name);
            (row.Kind, row.Expression, row.TimeZone, row.Misfire, row.Problem) = (trigger.Kind.ToString(), trigger.Expression, trigger.TimeZone, trigger.Misfire, null);
            (row.CreatedAt, row.Cursor) = (now, Math.Max(row.Cursor, now));
        }

        foreach (var gone in all.Where(s => s.ActivityId is not null && s.Problem != NotPublished && !wanted.Any(w => Fits(s, w))))
        {
            gone.Problem = NotPublished;
            changed.Add(gone.Name);
        }

        foreach (var name in changed)
        {
            db.Remember(new AuditEntry(AuditAction.ScheduleChanged, name, By: Actor.Workflow));
        }

        return true;
    }

    private static string FreeName(Trigger trigger, List<ScheduleRow> all) => all.Exists(s => s.Name == trigger.DefinitionId)
        ? Enumerable.Range(1, int.MaxValue).Select(n => n == 1 ? $"{trigger.DefinitionId}.{trigger.ActivityId}" : $"{trigger.DefinitionId}.{trigger.ActivityId}.{n}")
            .First(name => !all.Exists(s => s.Name == name))
        : trigger.DefinitionId;

    private static Trigger? TriggerOf(WorkflowDefinition definition, WorkflowActivity activity)
    {
        (ScheduleKind Kind, string? Expression)? trigger = activity.Type switch
        {
            ActivityTypes.Cron => (ScheduleKind.Cron, StartActivities.Literal(activity, "cronExpression")),
            ActivityTypes.Timer => (ScheduleKind.Interval, StartActivities.Literal(activity, "interval") ?? "00:01:00"),
            ActivityTypes.StartAt => (ScheduleKind.Once, StartActivities.Literal(activity, "dateTime")),
            _ => null,
        };
        var misfire = Custom(activity, "misfire");
        return trigger is not { } found ? null : new Trigger(
            definition.DefinitionId, activity.Id, found.Kind, found.Expression ?? "", Custom(activity, "timeZone") ?? "UTC",
            MisfirePolicies.Names.Contains(misfire) ? misfire! : MisfirePolicy.RunOnce.Name());
    }

    /// <summary>Elsa's triggers know no time zone; ours stands in the activity's <c>customProperties</c>, as does the misfire policy.</summary>
    private static string? Custom(WorkflowActivity activity, string name) =>
        (StartActivities.Member(activity.Json, "customProperties") as JsonObject)?[name] is JsonValue value && value.TryGetValue<string>(out var text) && text.Length > 0 ? text : null;

    private sealed record Trigger(string DefinitionId, string ActivityId, ScheduleKind Kind, string Expression, string TimeZone, string Misfire);
}
