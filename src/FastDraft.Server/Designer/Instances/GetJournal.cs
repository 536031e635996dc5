using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Instances;

internal sealed record JournalFilter(string[]? ActivityIds, string[]? ActivityNodeIds, string[]? ExcludedActivityTypes, string[]? EventNames);

internal sealed record JournalRequest(JournalFilter? Filter);

internal sealed record JournalPage(IReadOnlyList<JournalRecord> Items, int TotalCount);

/// <summary>What happened in a run, record by record.</summary>
internal static class GetJournal
{
    private const int MaxRecords = 1000;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/workflow-instances/{id}/journal", (string id, int? skip, int? take, InstanceReader instances, CancellationToken ct) => ReadAsync(id, null, skip, take, instances, ct));
        api.MapPost("/workflow-instances/{id}/journal", (string id, JournalRequest? request, int? skip, int? take, InstanceReader instances, CancellationToken ct) =>
            ReadAsync(id, request?.Filter, skip, take, instances, ct));
    }

    private static async Task<IResult> ReadAsync(string id, JournalFilter? filter, int? skip, int? take, InstanceReader instances, CancellationToken ct)
    {
        if (await instances.FindAsync(id, ct) is not { } run)
        {
            return Problems.NotFound("such run");
        }

        var found = run.Journal().Where(r =>
            IsMeant(filter?.ActivityIds, r.ActivityId) && IsMeant(filter?.ActivityNodeIds, r.NodeId) && IsMeant(filter?.EventNames, r.EventName)
            && filter?.ExcludedActivityTypes?.Contains(r.ActivityType) is not true).ToList();
        return Results.Ok(new JournalPage([.. found.Skip(Math.Max(skip ?? 0, 0)).Take(Math.Clamp(take ?? MaxRecords, 0, MaxRecords))], found.Count));
    }

    private static bool IsMeant(string[]? wanted, string value) => wanted is not { Length: > 0 } || wanted.Contains(value);
}
