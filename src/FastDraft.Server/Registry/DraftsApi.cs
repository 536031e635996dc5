using FastDraft.Core.Stages;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Registry;

/// <summary>Named drafts, their versions and aliases, by name or by target; who moved what and why. <c>fastdraft models</c> says the same.</summary>
internal static class DraftsApi
{
    public static void Map(IEndpointRouteBuilder app)
    {
        var api = app.MapGroup("/api/drafts");
        api.MapGet("", async (PipelineStore store, string? target, string? alias, CancellationToken ct) =>
            new { Items = (await DraftRegistry.ListAsync(store, null, target, ct)).Where(d => alias is null || d.Aliases.Contains(alias)) }).WithSummary("Named drafts, by target or alias");
        api.MapGet("/{name}", (string name, PipelineStore store, CancellationToken ct) => AnswerAsync(async () => new { Items = await DraftRegistry.ListAsync(store, name, null, ct) })).WithSummary("The versions of a named draft");
        api.MapGet("/{name}/history", (string name, PipelineStore store, CancellationToken ct) => AnswerAsync(async () => new { Items = await DraftRegistry.HistoryAsync(store, name, ct) })).WithSummary("Who moved an alias of a named draft, and why");
    }

    private static async Task<IResult> AnswerAsync<T>(Func<Task<T>> ask)
    {
        try
        {
            return Results.Ok(await ask());
        }
        catch (StageFailureException e)
        {
            return Problems.Result(StatusCodes.Status404NotFound, e.Message);
        }
    }
}
