using FastDraft.Persistence.Audit;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Audit;

/// <summary>Who did what: read, never written. <c>fastdraft audit list|verify</c> says the same.</summary>
internal static class AuditApi
{
    public static void Map(IEndpointRouteBuilder app)
    {
        var api = app.MapGroup("/api/audit");
        api.MapGet("", async (PipelineStore store, string? actor, string? action, string? @object, DateTimeOffset? since, int? limit, CancellationToken ct) =>
            new { Items = await store.Queries.AuditAsync(new AuditFilter(actor, action, @object, since, Math.Clamp(limit ?? 50, 1, 500)), ct) }).WithSummary("Who did what, the newest first");
        api.MapGet("/verification", async (PipelineStore store, string? expect, CancellationToken ct) =>
        {
            try
            {
                return Results.Ok(await store.Queries.VerifyAuditAsync(expect, ct));
            }
            catch (FormatException e)
            {
                return Problems.Result(StatusCodes.Status400BadRequest, e.Message);
            }
        }).WithSummary("Whether the chain of the audit is whole");
    }
}
