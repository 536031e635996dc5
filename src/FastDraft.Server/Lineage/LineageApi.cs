using FastDraft.Core.Lineage;
using FastDraft.Persistence;
using FastDraft.Persistence.Lineage;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Lineage;

/// <summary>
/// <c>GET /api/artifacts/{digest}/lineage?direction=upstream|downstream&amp;depth=&amp;limit=</c>: what made something, or what was made of it.
/// Beyond the limit nodes are counted and not described; a smaller depth or another start shows them. <c>fastdraft lineage</c> says the same.
/// </summary>
internal static class LineageApi
{
    private const int MaxLimit = 5000;

    public static void Map(IEndpointRouteBuilder app) => app.MapGet(
        "/api/artifacts/{digest}/lineage", async (string digest, string? direction, int? depth, int? limit, PipelineStore store, CancellationToken ct) =>
        {
            if (!Enum.TryParse<LineageDirection>(direction ?? nameof(LineageDirection.Upstream), ignoreCase: true, out var wanted) || !Enum.IsDefined(wanted))
            {
                return Problems.Result(StatusCodes.Status400BadRequest, $"'direction' is upstream or downstream.");
            }

            try
            {
                return await store.Queries.FindLineageAsync(digest, ct) is { } start
                    ? Results.Ok(await store.Queries.LineageAsync(
                        new LineageQuery(start, wanted, Math.Clamp(depth ?? int.MaxValue, 1, int.MaxValue), Math.Clamp(limit ?? 1000, 1, MaxLimit)), ct))
                    : Problems.NotFound("such artifact, and no file that a run read has this digest");
            }
            catch (AmbiguousReferenceException e)
            {
                return Problems.Result(StatusCodes.Status400BadRequest, e.Message);
            }
        }).Produces<LineageView>().WithSummary("What made an artifact, or what was made of it");
}
