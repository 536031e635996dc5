using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Designer.Instances;

internal sealed record TimestampFilter(string? Column, string? Operator, DateTimeOffset Timestamp);

internal sealed record ListInstancesRequest(
    int? Page, int? PageSize, string? SearchTerm, string? DefinitionId, string[]? DefinitionIds, string? CorrelationId, int? Version, bool? HasIncidents, bool? IsSystem,
    InstanceStatus? Status, InstanceStatus[]? Statuses, InstanceSubStatus? SubStatus, InstanceSubStatus[]? SubStatuses, string? OrderBy, string? OrderDirection,
    TimestampFilter[]? TimestampFilters);

internal sealed record InstancePage(IReadOnlyList<InstanceSummary> Items, int TotalCount);

/// <summary>The run list: filtered, ordered and paged in the database, without the definitions that each row carries.</summary>
internal static class ListInstances
{
    private const int MaxPageSize = 500;

    private static readonly StageRunState[] Busy =
        [.. Enum.GetValues<StageRunState>().Where(s => !RunStateMachine.IsTerminal(s))];

    public static void Map(IEndpointRouteBuilder api) =>
        api.MapPost("/workflow-instances", async (ListInstancesRequest request, PipelineStore store, CancellationToken ct) =>
        {
            await using var db = store.Open();
            var query = db.Runs.AsNoTracking().Where(r => r.DeletedAt == null);
            foreach (var filter in request.TimestampFilters ?? [])
            {
                if (Filtered(query, filter) is not { } filtered)
                {
                    return Problems.Result(StatusCodes.Status400BadRequest, "A timestamp filter has a column CreatedAt, UpdatedAt or FinishedAt and an operator of Elsa's.");
                }

                query = filtered;
            }

            query = Filtered(db, query, request);
            var total = await query.CountAsync(ct);
            var size = Math.Clamp(request.PageSize ?? 50, 1, MaxPageSize);
            var skip = (int)Math.Min((long)Math.Max(request.Page ?? 0, 0) * size, int.MaxValue);
            var rows = await Ordered(query, request.OrderBy, "Ascending".Equals(request.OrderDirection, StringComparison.OrdinalIgnoreCase)).Skip(skip).Take(size).Select(r => new
            {
                r.Id, r.DefinitionId, r.DefinitionVersion, r.WorkflowName, r.State, r.CorrelationId, r.CreatedAt, r.EndedAt,
                LastRecord = db.Journal.Where(j => j.RunId == r.Id).Max(j => (long?)j.At),
                Faults = db.Journal.Count(j => j.RunId == r.Id && j.Event == "Faulted"),
                Waits = db.Waits.Any(w => w.RunId == r.Id) && !db.StageRuns.Any(s => s.RunId == r.Id && Busy.Contains(s.State)),
            }).ToListAsync(ct);
            return Results.Ok(new InstancePage(
                [.. rows.Select(r => new InstanceSummary(
                    r.Id.ToString(), r.DefinitionId.Length > 0 ? r.DefinitionId : r.WorkflowName, InstanceReader.VersionIdOf(r.Id), r.DefinitionVersion, InstanceStatuses.Of(r.State),
                    InstanceStatuses.Of(r.State, r.Waits), r.CorrelationId, r.WorkflowName, r.Faults == 0 && r.State == RunState.Failed ? 1 : r.Faults, Time(r.CreatedAt),
                    Time(Math.Max(r.EndedAt ?? r.CreatedAt, r.LastRecord ?? 0)), r.EndedAt is { } end ? Time(end) : null))],
                total));
        });

    private static IQueryable<RunRow> Filtered(PipelineDbContext db, IQueryable<RunRow> query, ListInstancesRequest request)
    {
        if (request.SearchTerm?.Trim() is { Length: > 0 } term)
        {
            query = Guid.TryParse(term, out var id) ? query.Where(r => r.Id == id)
                : query.Where(r => r.WorkflowName.Contains(term) || r.DefinitionId.Contains(term) || r.CorrelationId == term);
        }

        string[] definitions = [.. request.DefinitionIds ?? [], .. request.DefinitionId is { Length: > 0 } one ? [one] : (string[])[]];
        if (definitions.Length > 0)
        {
            query = query.Where(r => definitions.Contains(r.DefinitionId));
        }

        if (!string.IsNullOrEmpty(request.CorrelationId))
        {
            query = query.Where(r => r.CorrelationId == request.CorrelationId);
        }

        if (request.Version is { } version)
        {
            query = query.Where(r => r.DefinitionVersion == version);
        }

        if (request.HasIncidents is { } incidents)
        {
            query = query.Where(r => (r.State == RunState.Failed || db.Journal.Any(j => j.RunId == r.Id && j.Event == "Faulted")) == incidents);
        }

        if (request.IsSystem == true)
        {
            query = query.Where(r => false);
        }

        InstanceStatus[] statuses = [.. request.Statuses ?? [], .. request.Status is { } status ? [status] : (InstanceStatus[])[]];
        if (statuses.Length > 0)
        {
            RunState[] states = [.. Enum.GetValues<RunState>().Where(s => statuses.Contains(InstanceStatuses.Of(s)))];
            query = query.Where(r => states.Contains(r.State));
        }

        InstanceSubStatus[] subStatuses = [.. request.SubStatuses ?? [], .. request.SubStatus is { } subStatus ? [subStatus] : (InstanceSubStatus[])[]];
        if (subStatuses.Length > 0)
        {
            RunState[] waiting = [.. Enum.GetValues<RunState>().Where(s => subStatuses.Contains(InstanceStatuses.Of(s, onlyWaits: true)))];
            RunState[] working = [.. Enum.GetValues<RunState>().Where(s => subStatuses.Contains(InstanceStatuses.Of(s, onlyWaits: false)))];
            query = query.Where(r => db.Waits.Any(w => w.RunId == r.Id) && !db.StageRuns.Any(s => s.RunId == r.Id && Busy.Contains(s.State))
                ? waiting.Contains(r.State) : working.Contains(r.State));
        }

        return query;
    }

    private static IQueryable<RunRow>? Filtered(IQueryable<RunRow> query, TimestampFilter filter)
    {
        var at = filter.Timestamp.ToUnixTimeMilliseconds();
        return (filter.Column?.ToUpperInvariant(), filter.Operator?.ToUpperInvariant()) switch
        {
            ("CREATEDAT", "IS") => query.Where(r => r.CreatedAt == at),
            ("CREATEDAT", "ISNOT") => query.Where(r => r.CreatedAt != at),
            ("CREATEDAT", "LESSTHAN") => query.Where(r => r.CreatedAt < at),
            ("CREATEDAT", "GREATERTHAN") => query.Where(r => r.CreatedAt > at),
            ("CREATEDAT", "LESSTHANOREQUAL") => query.Where(r => r.CreatedAt <= at),
            ("CREATEDAT", "GREATERTHANOREQUAL") => query.Where(r => r.CreatedAt >= at),
            ("UPDATEDAT" or "FINISHEDAT", "IS") => query.Where(r => r.EndedAt == at),
            ("UPDATEDAT" or "FINISHEDAT", "ISNOT") => query.Where(r => r.EndedAt != at),
            ("UPDATEDAT" or "FINISHEDAT", "LESSTHAN") => query.Where(r => r.EndedAt < at),
            ("UPDATEDAT" or "FINISHEDAT", "GREATERTHAN") => query.Where(r => r.EndedAt > at),
            ("UPDATEDAT" or "FINISHEDAT", "LESSTHANOREQUAL") => query.Where(r => r.EndedAt <= at),
            ("UPDATEDAT" or "FINISHEDAT", "GREATERTHANOREQUAL") => query.Where(r => r.EndedAt >= at),
            _ => null,
        };
    }

    private static IQueryable<RunRow> Ordered(IQueryable<RunRow> query, string? by, bool ascending) => by?.ToUpperInvariant() switch
    {
        "NAME" => ascending ? query.OrderBy(r => r.WorkflowName).ThenBy(r => r.Id) : query.OrderByDescending(r => r.WorkflowName).ThenBy(r => r.Id),
        "FINISHED" or "LASTEXECUTED" => ascending ? query.OrderBy(r => r.EndedAt).ThenBy(r => r.CreatedAt) : query.OrderByDescending(r => r.EndedAt == null).ThenByDescending(r => r.EndedAt).ThenByDescending(r => r.CreatedAt),
        _ => ascending ? query.OrderBy(r => r.CreatedAt).ThenBy(r => r.Id) : query.OrderByDescending(r => r.CreatedAt).ThenBy(r => r.Id),
    };

    private static DateTimeOffset Time(long milliseconds) => DateTimeOffset.FromUnixTimeMilliseconds(milliseconds);
}
