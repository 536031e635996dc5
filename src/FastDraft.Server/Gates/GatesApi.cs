using FastDraft.Core.Stages;
using FastDraft.Persistence.Audit;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Gates;

internal sealed record GateAnswer(string? Reason);

/// <summary>What runs wait for a person for: listed, approved and rejected by whoever is signed in. The same answer twice is one answer; another one is a conflict.</summary>
internal static class GatesApi
{
    private const int MaxText = 4000;

    public static void Map(IEndpointRouteBuilder app)
    {
        var api = app.MapGroup("/api/gates");
        api.MapGet("", async (GateStore gates, bool? decided, int? limit, CancellationToken ct) =>
            new { Items = await gates.ListAsync(decided ?? false, Math.Clamp(limit ?? 50, 1, 500), ct) }).WithSummary("Gates that wait for a person, or that were answered");
        api.MapPost("/{run:guid}/{activity}/approve", (Guid run, string activity, GateAnswer? answer, GateStore gates, CancellationToken ct) => DecideAsync(gates, run, activity, true, answer, ct)).Produces<GateView>().WithSummary("Approve what a run waits for");
        api.MapPost("/{run:guid}/{activity}/reject", (Guid run, string activity, GateAnswer? answer, GateStore gates, CancellationToken ct) => DecideAsync(gates, run, activity, false, answer, ct)).Produces<GateView>().WithSummary("Reject what a run waits for");
    }

    private static async Task<IResult> DecideAsync(GateStore gates, Guid run, string activity, bool approved, GateAnswer? answer, CancellationToken ct)
    {
        if (answer?.Reason?.Length > MaxText)
        {
            return Problems.Result(StatusCodes.Status400BadRequest, $"'reason' has at most {MaxText} characters.");
        }

        try
        {
            return Results.Ok((await gates.DecideAsync(run, activity, approved, Actor.Current, answer?.Reason, ct)).Gate);
        }
        catch (StageFailureException e)
        {
            return Problems.Result(StatusCodes.Status409Conflict, e.Message);
        }
    }
}
