using FastDraft.Server.Designer.Descriptors;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Instances;

internal sealed record ReportRequest(string? WorkflowInstanceId, string[]? ActivityNodeIds);

/// <summary>How often each activity of a run ran and how it ended (the badges of the graph), and the details of each time.</summary>
internal static class GetActivityExecutions
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapPost("/activity-executions/report", async (ReportRequest request, InstanceReader instances, CancellationToken ct) =>
            await instances.FindAsync(request.WorkflowInstanceId ?? "", ct) is { } run
                ? Results.Ok(new { Stats = run.Stats(request.ActivityNodeIds ?? []) }) : Problems.NotFound("such run"));

        api.MapGet("/activity-executions/list", ListAsync);
        api.MapGet("/activity-execution-summaries/list", ListAsync);

        api.MapGet("/activity-executions/by-id", async (string id, InstanceReader instances, CancellationToken ct) =>
            await FindAsync(id, instances, ct) is { } found ? Results.Ok(found) : Problems.NotFound("such execution"));

        api.MapGet("/activity-executions/{id}/call-stack", async (string id, InstanceReader instances, CancellationToken ct) =>
        {
            if (await FindAsync(id, instances, ct) is not { } found)
            {
                return Problems.NotFound("such execution");
            }

            // From the workflow down to the activity: each one whose node id begins the next one's.
            var run = (await instances.FindAsync(InstanceReader.RunOfExecution(id)!, ct))!;
            var above = run.Executions().Where(e => found.ActivityNodeId.StartsWith(e.ActivityNodeId + ":", StringComparison.Ordinal)).Append(found).ToList();
            return Results.Ok(new { ActivityExecutionId = id, Items = above, TotalCount = above.Count });
        });
    }

    private static async Task<ActivityExecution?> FindAsync(string id, InstanceReader instances, CancellationToken ct) =>
        InstanceReader.RunOfExecution(id) is { } run && await instances.FindAsync(run, ct) is { } instance ? instance.Executions().FirstOrDefault(e => e.Id == id) : null;

    private static async Task<IResult> ListAsync(string workflowInstanceId, string? activityNodeId, InstanceReader instances, CancellationToken ct) =>
        await instances.FindAsync(workflowInstanceId, ct) is { } run
            ? Results.Ok(new ListResponse<ActivityExecution>([.. run.Executions().Where(e => activityNodeId is null || e.ActivityNodeId == activityNodeId)]))
            : Problems.NotFound("such run");
}
