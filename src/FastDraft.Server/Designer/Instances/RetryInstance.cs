using FastDraft.Core.Runs;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Instances;

/// <summary>A new run of the same workflow and inputs: stages that had succeeded are reused, a stage that was stopped resumes.</summary>
internal static class RetryInstance
{
    public static void Map(IEndpointRouteBuilder api) =>
        api.MapPost("/workflow-instances/{id}/retry", async (string id, IdempotencyKey? key, PipelineHost host, InstanceReader instances, CancellationToken ct) =>
            await instances.FindAsync(id, ct) is not { } run ? Problems.NotFound("such run")
            : !RunStateMachine.IsTerminal(run.Run.State) ? Problems.Result(StatusCodes.Status409Conflict, "The run has not ended; cancel it first.")
            : Results.Ok(new { WorkflowInstanceId = await host.RetryAsync(run.Run.Id, new RunRetry(Key: key), ct) }));
}
