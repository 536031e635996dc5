using FastDraft.Server.Definitions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

internal sealed record DefinitionIdsRequest(string[]? DefinitionIds);

internal sealed record BulkPublishResponse(IReadOnlyList<string> Published, IReadOnlyList<string> AlreadyPublished, IReadOnlyList<string> NotFound, IReadOnlyList<string> Refused)
{
    public IReadOnlyList<string> UpdatedConsumers => [];
}

/// <summary>Publishes the latest draft, of one definition or of many; of many, those with mistakes stay drafts.</summary>
internal static class PublishDefinition
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/workflow-definitions/{definitionId}/publish", async (string definitionId, DefinitionStore definitions, CancellationToken ct) =>
        {
            var (published, already) = await definitions.PublishAsync(definitionId, ct);
            return new SaveResponse(DefinitionView.Of(published), already);
        });

        api.MapPost("/bulk-actions/publish/workflow-definitions/by-definition-ids", async (DefinitionIdsRequest request, DefinitionStore definitions, CancellationToken ct) =>
        {
            var (published, already, missing, refused) = (new List<string>(), new List<string>(), new List<string>(), new List<string>());
            foreach (var id in request.DefinitionIds ?? [])
            {
                try
                {
                    ((await definitions.PublishAsync(id, ct)).Already ? already : published).Add(id);
                }
                catch (DefinitionRefusedException e)
                {
                    (e.Refusal == Refusal.NotFound ? missing : refused).Add(id);
                }
            }

            return new BulkPublishResponse(published, already, missing, refused);
        });
    }
}
