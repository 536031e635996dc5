using System.Text.Json.Nodes;
using FastDraft.Server.Definitions;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

internal sealed record SaveRequest(JsonObject? Model, bool? Publish);

/// <summary>
/// <c>POST /workflow-definitions</c>: the save and publish buttons, the auto-save half a second after each change, and the create and
/// duplicate dialogs. The answer's definition takes the place of what the editor holds.
/// </summary>
internal static class SaveDefinition
{
    public static void Map(IEndpointRouteBuilder api) =>
        api.MapPost("/workflow-definitions", async (SaveRequest request, IdempotencyKey? key, DefinitionStore definitions, PipelineOptions options, CancellationToken ct) =>
        {
            if (request.Model is null)
            {
                return Problems.Result(StatusCodes.Status400BadRequest, "The request has no member 'model'.");
            }

            var saved = await definitions.SaveAsync(SentDefinition.Read(request.Model, options.Stages), request.Publish ?? false, key, ct);
            return Results.Ok(new SaveResponse(DefinitionView.Of(saved), false));
        });
}
