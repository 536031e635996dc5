using FastDraft.Persistence;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Web;

/// <summary><c>/health/live</c>: the process answers. <c>/health/ready</c>: it can also read its tables, so runs go on.</summary>
internal static class Health
{
    public static void Map(IEndpointRouteBuilder routes)
    {
        routes.MapGet("/health/live", () => Results.Text("live"));
        routes.MapGet("/health/ready", async (PipelineStore store, CancellationToken ct) =>
        {
            try
            {
                await using var db = store.Open();
                await db.Runs.Select(r => r.Id).FirstOrDefaultAsync(ct);
                return Results.Text("ready");
            }
            catch (System.Data.Common.DbException e)
            {
                return Problems.Result(StatusCodes.Status503ServiceUnavailable, $"The database of {store.DataFolder} cannot be read: {e.Message}");
            }
        });
    }
}
