using FastDraft.Core.Runs;
using FastDraft.Persistence.Audit;
using FastDraft.Server.Designer.Definitions;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Designer.Instances;

/// <summary>
/// Takes ended runs out of the lists. Their rows stay, for what they made may be in use: where an artifact comes from can be asked as
/// long as it exists.
/// </summary>
internal static class DeleteInstance
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapDelete("/workflow-instances/{id}", async (string id, PipelineStore store, PipelineOptions options, InstanceReader instances, CancellationToken ct) =>
            await instances.FindAsync(id, ct) is not { } run ? Problems.NotFound("such run")
            : await DeleteAsync(run.Run.Id, store, options, ct) ? Results.NoContent()
            : Problems.Result(StatusCodes.Status409Conflict, "The run has not ended; cancel it first."));

        api.MapPost("/bulk-actions/delete/workflow-instances/by-id", async (IdsRequest request, PipelineStore store, PipelineOptions options, CancellationToken ct) =>
        {
            var deleted = 0;
            foreach (var id in request.Ids ?? [])
            {
                deleted += Guid.TryParse(id, out var run) && await DeleteAsync(run, store, options, ct) ? 1 : 0;
            }

            return new DeletedResponse(deleted);
        });
    }

    private static Task<bool> DeleteAsync(Guid run, PipelineStore store, PipelineOptions options, CancellationToken ct) => store.Database.TransactAsync(
        async db =>
        {
            var now = options.Clock.GetUtcNow().ToUnixTimeMilliseconds();
            db.Remember(new AuditEntry(AuditAction.RunDeleted, run.ToString()));
            return await db.Runs.Where(r => r.Id == run && r.DeletedAt == null && (r.State == RunState.Succeeded || r.State == RunState.Failed || r.State == RunState.Cancelled))
                .ExecuteUpdateAsync(u => u.SetProperty(r => r.DeletedAt, now), ct) == 1;
        },
        ct);
}
