using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Provenance;

/// <summary>What is told of an artifact to the outside, made when it is asked for. <c>fastdraft artifacts provenance|card</c> says the same.</summary>
internal static class ProvenanceApi
{
    public static void Map(IEndpointRouteBuilder app)
    {
        app.MapGet("/api/artifacts/{digest}/provenance", (string digest, PipelineStore store, CancellationToken ct) => AnswerAsync(
            store, digest, async found => Results.Text((await ProvenanceStatement.OfAsync(store, found, ct)).ToJsonString(), ProvenanceStatement.MediaType), ct)).Produces<string>(StatusCodes.Status200OK, ProvenanceStatement.MediaType).WithSummary("Where an artifact came from, as an in-toto statement");
        app.MapGet("/api/artifacts/{digest}/card", (string digest, PipelineStore store, CancellationToken ct) => AnswerAsync(
            store, digest, async found => Results.Text(await ModelCard.OfAsync(store, found, ct), "text/markdown; charset=utf-8"), ct)).Produces<string>(StatusCodes.Status200OK, "text/markdown").WithSummary("The card of a model");
    }

    private static async Task<IResult> AnswerAsync(PipelineStore store, string digest, Func<string, Task<IResult>> answer, CancellationToken ct)
    {
        try
        {
            return await store.Queries.GetArtifactAsync(digest, ct) is { } found ? await answer(found.Digest) : Problems.NotFound("such artifact");
        }
        catch (AmbiguousReferenceException e)
        {
            return Problems.Result(StatusCodes.Status400BadRequest, e.Message);
        }
        catch (StageFailureException e)
        {
            return Problems.Result(StatusCodes.Status409Conflict, e.Message);
        }
    }
}
