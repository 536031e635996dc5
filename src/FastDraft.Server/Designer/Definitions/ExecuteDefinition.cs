using System.Text.Json.Nodes;
using FastDraft.Server.Definitions;
using FastDraft.Server.Designer.Instances;
using FastDraft.Server.Runs;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

internal sealed record ExecuteRequest(string? CorrelationId, string? TriggerActivityId, string? VersionOptions, JsonObject? Input, string? InstanceId);

/// <summary>
/// The run button. A run takes hours, so it starts in the background and the answer comes at once; the designer goes to the run by
/// the header that names it.
/// </summary>
internal static class ExecuteDefinition
{
    private const string InstanceHeader = "x-elsa-workflow-instance-id";
    private const string CannotStartHeader = "x-elsa-workflow-cannot-start";

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/workflow-definitions/{definitionId}/execute", async (
            string definitionId, ExecuteRequest? request, IdempotencyKey? key, HttpContext context, DefinitionStore definitions, PipelineHost host, PipelineOptions options, InstanceReader instances, CancellationToken ct) =>
        {
            var (run, refusal) = await StartAsync(definitionId, request, key, definitions, host, options, ct);
            context.Response.Headers[CannotStartHeader] = run is null ? "True" : "False";
            if (run is null)
            {
                return refusal!;
            }

            context.Response.Headers[InstanceHeader] = run.ToString();
            return Results.Ok(new { (await instances.FindAsync(run.ToString()!, ct))!.ToInstance().WorkflowState });
        });

        api.MapPost("/workflow-definitions/{definitionId}/dispatch", async (
            string definitionId, ExecuteRequest? request, IdempotencyKey? key, DefinitionStore definitions, PipelineHost host, PipelineOptions options, CancellationToken ct) =>
        {
            var (run, refusal) = await StartAsync(definitionId, request, key, definitions, host, options, ct);
            return run is null ? refusal! : Results.Ok(new { WorkflowInstanceId = run });
        });

        // The editor's test tab runs one activity by itself, which a stage cannot: it takes what the stages before it made.
        api.MapPost("/tests/activities", () => Problems.Result(
            StatusCodes.Status400BadRequest, "One activity is not run by itself here. Run the workflow: stages whose inputs have not changed are reused, so only this one and what follows takes time."));
    }

    private static async Task<(Guid? Run, IResult? Refusal)> StartAsync(
        string definitionId, ExecuteRequest? request, IdempotencyKey? key, DefinitionStore definitions, PipelineHost host, PipelineOptions options, CancellationToken ct)
    {
        if (VersionSelection.Parse(request?.VersionOptions ?? "Latest") is not { } selection || await definitions.FindAsync(definitionId, selection, ct) is not { } found)
        {
            return (null, Problems.NotFound("such workflow"));
        }

        if (definitions.Mistakes(found) is { Count: > 0 } mistakes)
        {
            return (null, Problems.Result(StatusCodes.Status400BadRequest, mistakes));
        }

        return await RunStart.TryAsync(found.Parse(), new StartRequest(request?.Input, TriggerActivityId: request?.TriggerActivityId, CorrelationId: request?.CorrelationId), key, host, options, ct);
    }
}
