using FastDraft.Persistence;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Web;

/// <summary><c>/health/live</c>: the process answers. <c>/health/ready</c>: it can also read its tables, so runs go on.</summary>
internal static class Health
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapGet("/health/live", () => Results.Text("live"));
        routes.MapGet("/health/ready", async (PipelineStore store, CancellationToken ct) =>
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(ct);
            limit.CancelAfter(Patience);
            try
            {
                await using var db = store.Open();
                await db.Runs.Select(r => r.Id).FirstOrDefaultAsync(limit.Token);
                return Results.Text("ready");
            }
            catch (Exception e) when (PipelineDatabase.IsTrouble(e) || (limit.IsCancellationRequested && !ct.IsCancellationRequested))
            {
                return Problems.Result(StatusCodes.Status503ServiceUnavailable, $"{store.Database.Name} cannot be read: {e.Message}");
            }
        });
    }
}
