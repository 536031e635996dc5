using FastDraft.Server.Definitions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

/// <summary>An earlier version's content becomes the draft; the version itself stays as it is.</summary>
internal static class RevertDefinition
{
    public static void Map(IEndpointRouteBuilder api) =>
        api.MapPost("/workflow-definitions/{definitionId}/revert/{version:int}", async (string definitionId, int version, DefinitionStore definitions, CancellationToken ct) =>
            DefinitionSummary.Of((await definitions.RevertAsync(definitionId, version, ct)).Head));
}
