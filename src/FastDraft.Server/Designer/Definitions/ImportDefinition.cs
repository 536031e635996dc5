using System.Text.Json.Nodes;
using FastDraft.Server.Definitions;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

/// <summary>Definitions from files become drafts, whatever they were elsewhere: publishing one may start it by its triggers.</summary>
internal static class ImportDefinition
{
    private const int MaxUploadBytes = 16 << 20;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/workflow-definitions/import", ImportAsync);
        api.MapPut("/workflow-definitions/{definitionId}/import", ImportAsync);

        api.MapPost("/workflow-definitions/import-files", async (HttpContext context, DefinitionStore definitions, CancellationToken ct) =>
        {
            if (!context.Request.HasFormContentType)
            {
                return Problems.Result(StatusCodes.Status400BadRequest, "Files are sent as multipart/form-data.");
            }

            context.Features.Get<IHttpMaxRequestBodySizeFeature>()!.MaxRequestBodySize = MaxUploadBytes;
            var form = await context.Request.ReadFormAsync(ct);
            var count = 0;
            foreach (var file in form.Files)
            {
                if (file.Length > DefinitionDocument.MaxBytes)
                {
                    throw new DefinitionRefusedException(Refusal.Invalid, [$"A file of the upload has {file.Length} bytes; at most {DefinitionDocument.MaxBytes} are read."]);
                }

                using var reader = new StreamReader(file.OpenReadStream());
                await definitions.ImportAsync(DefinitionDocument.Parse(await reader.ReadToEndAsync(ct)), ct: ct);
                count++;
            }

            return Results.Ok(new { Count = count });
        }).DisableAntiforgery();
    }

    private static async Task<IResult> ImportAsync(JsonObject model, IdempotencyKey? key, DefinitionStore definitions, PipelineOptions options, CancellationToken ct) =>
        Results.Ok(DefinitionView.Of(await definitions.ImportAsync(SentDefinition.Read(model, options.Stages), key, ct)));
}
