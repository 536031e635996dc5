using FastDraft.Server.Definitions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

internal sealed record BulkRetractResponse(IReadOnlyList<string> Retracted, IReadOnlyList<string> AlreadyRetracted, IReadOnlyList<string> NotFound);

/// <summary>Takes a published version back: nothing starts by its name or its triggers any more. Its runs go on.</summary>
internal static class RetractDefinition
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/workflow-definitions/{definitionId}/retract", async (string definitionId, DefinitionStore definitions, CancellationToken ct) =>
            DefinitionView.Of((await definitions.RetractAsync(definitionId, ct)).Definition));

        api.MapPost("/bulk-actions/retract/workflow-definitions/by-definition-ids", async (DefinitionIdsRequest request, DefinitionStore definitions, CancellationToken ct) =>
        {
            var (retracted, already, missing) = (new List<string>(), new List<string>(), new List<string>());
            foreach (var id in request.DefinitionIds ?? [])
            {
                try
                {
                    ((await definitions.RetractAsync(id, ct)).Already ? already : retracted).Add(id);
                }
                catch (DefinitionRefusedException)
                {
                    missing.Add(id);
                }
            }

            return new BulkRetractResponse(retracted, already, missing);
        });
    }
}
