using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Server.Designer.Descriptors;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Instances;

internal sealed record ExecutionState(InstanceStatus Status, InstanceSubStatus WorkflowSubStatus, DateTimeOffset UpdatedAt);

internal sealed record ResolvedVariable(string Id, string Name, JsonNode? Value);

internal sealed record Progress(string State, string Text, bool CanCancel, bool CanRetry, bool HasEnded);

/// <summary>One run. The designer asks for the execution state every few seconds and for the rest again when <c>updatedAt</c> has moved.</summary>
internal static class GetInstance
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/workflow-instances/{id}", async (string id, InstanceReader instances, CancellationToken ct) =>
            await instances.FindAsync(id, ct) is { } run ? Results.Ok(run.ToInstance()) : Problems.NotFound("such run"));

        api.MapGet("/workflow-instances/{id}/execution-state", async (string id, InstanceReader instances, CancellationToken ct) =>
            await instances.FindAsync(id, ct) is { } run
                ? Results.Ok(new ExecutionState(InstanceStatuses.Of(run.Run.State), run.SubStatus, run.UpdatedAt)) : Problems.NotFound("such run"));

        api.MapGet("/workflow-instances/{id}/variables", async (string id, InstanceReader instances, CancellationToken ct) =>
            await instances.FindAsync(id, ct) is { } run
                ? Results.Ok(new ListResponse<ResolvedVariable>([.. run.Variables().Select(v => new ResolvedVariable(v.Id, v.Name, v.Value))])) : Problems.NotFound("such run"));

        // For the line above the designer, which has no place for it: what goes on, and which buttons make sense.
        api.MapGet("/workflow-instances/{id}/progress", async (string id, InstanceReader instances, CancellationToken ct) =>
        {
            if (await instances.FindAsync(id, ct) is not { } run)
            {
                return Problems.NotFound("such run");
            }

            var state = run.Run.State;
            return Results.Ok(new Progress(
                state == RunState.Cancelling ? "Cancelled" : state.ToString(), run.Describe(), state is RunState.Pending or RunState.Running && !run.Run.CancelRequested,
                state is RunState.Failed or RunState.Cancelled, RunStateMachine.IsTerminal(state)));
        });
    }
}
