using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Designer.Instances;

internal sealed record BulkCancelRequest(string[]? Ids, string? DefinitionId, string? DefinitionVersionId);

/// <summary>Asks runs to end: their processes are stopped, what they finished stays.</summary>
internal static class CancelInstance
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/cancel/workflow-instances/{id}", async (string id, PipelineHost host, InstanceReader instances, CancellationToken ct) =>
            await instances.FindAsync(id, ct) is not { } run ? Problems.NotFound("such run")
            : await host.CancelAsync(run.Run.Id, ct) ? Results.Ok(new { })
            : Problems.Result(StatusCodes.Status409Conflict, $"The run has ended ({run.Run.State}); there is nothing to cancel."));

        api.MapPost("/bulk-actions/cancel/workflow-instances", async (BulkCancelRequest request, PipelineHost host, PipelineStore store, CancellationToken ct) =>
        {
            var count = 0;
            foreach (var run in await MeantAsync(request, store, ct))
            {
                count += await host.CancelAsync(run, ct) ? 1 : 0;
            }

            return new { CancelledCount = count };
        });
    }

    // The list of workflows names a definition's version; what it means by it is every run of that definition.
    private static async Task<IReadOnlyList<Guid>> MeantAsync(BulkCancelRequest request, PipelineStore store, CancellationToken ct)
    {
        if (request.Ids is { Length: > 0 } ids)
        {
            return [.. ids.Select(i => Guid.TryParse(i, out var id) ? id : (Guid?)null).OfType<Guid>()];
        }

        await using var db = store.Open();
        var definitionId = request.DefinitionId ?? await db.WorkflowDefinitions.Where(d => d.Id == request.DefinitionVersionId).Select(d => d.DefinitionId).SingleOrDefaultAsync(ct);
        return definitionId is null ? [] : await db.Runs.Where(r => r.DefinitionId == definitionId && (r.State == RunState.Pending || r.State == RunState.Running)).Select(r => r.Id).ToListAsync(ct);
    }
}
