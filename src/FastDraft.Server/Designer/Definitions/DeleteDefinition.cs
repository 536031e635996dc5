using FastDraft.Server.Definitions;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

internal sealed record IdsRequest(string[]? Ids);

internal sealed record DeletedResponse(int Deleted);

/// <summary>Deletes definitions or single versions. Runs keep their own copy of what they ran.</summary>
internal static class DeleteDefinition
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapDelete("/workflow-definitions/{definitionId}", async (string definitionId, DefinitionStore definitions, CancellationToken ct) =>
            await definitions.DeleteAsync(definitionId, ct) > 0 ? Results.NoContent() : Problems.NotFound("such workflow"));

        api.MapDelete("/workflow-definition-versions/{id}", async (string id, DefinitionStore definitions, CancellationToken ct) =>
            await definitions.DeleteVersionAsync(id, ct) ? Results.NoContent() : Problems.NotFound("such version"));

        api.MapPost("/bulk-actions/delete/workflow-definitions/by-definition-id", async (DefinitionIdsRequest request, DefinitionStore definitions, CancellationToken ct) =>
        {
            var deleted = 0;
            foreach (var id in request.DefinitionIds ?? [])
            {
                try
                {
                    deleted += await definitions.DeleteAsync(id, ct) > 0 ? 1 : 0;
                }
                catch (DefinitionRefusedException e) when (e.Refusal == Refusal.ReadOnly)
                {
                    // The dialog has said that read-only ones stay.
                }
            }

            return new DeletedResponse(deleted);
        });

        api.MapPost("/bulk-actions/delete/workflow-definitions/by-id", async (IdsRequest request, DefinitionStore definitions, CancellationToken ct) =>
        {
            var deleted = 0;
            foreach (var id in request.Ids ?? [])
            {
                deleted += await definitions.DeleteVersionAsync(id, ct) ? 1 : 0;
            }

            return new DeletedResponse(deleted);
        });
    }
}
