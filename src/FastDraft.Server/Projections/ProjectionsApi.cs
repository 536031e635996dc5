using FastDraft.Core.Stages;
using FastDraft.Server.Projections.Mlflow;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Projections;

/// <summary>How far receivers outside are, what they refused, and where they show a run.</summary>
internal static class ProjectionsApi
{
    public static void Map(IEndpointRouteBuilder app)
    {
        app.MapGet("/api/projections", async (ProjectionStore projections, CancellationToken ct) => new { Items = await projections.ListAsync(ct) }).WithSummary("Receivers outside: how far each is, and what hinders it");
        app.MapPost("/api/projections/{name}/retry", async (string name, ProjectionStore projections, CancellationToken ct) =>
        {
            try
            {
                return Results.Ok(new { Events = await projections.RetryAsync(name, ct) });
            }
            catch (StageFailureException)
            {
                return Problems.NotFound($"projection '{name}'");
            }
        }).WithSummary("Try at once what a receiver has still to get or refused");

        // The run's own address and, by activity instance, those of its stage runs.
        app.MapGet("/api/runs/{run:guid}/mlflow", async (Guid run, PipelineStore store, CancellationToken ct) =>
        {
            if (await store.Queries.GetRunAsync(run, ct) is not { } view)
            {
                return Problems.NotFound($"run {run}");
            }

            var links = await MlflowLinks.OfRunAsync(store, run, ct);
            return Results.Ok(new { Run = links.GetValueOrDefault(run), Stages = view.Stages.Where(s => links.ContainsKey(s.Id)).ToDictionary(s => s.ActivityInstanceId, s => links[s.Id]) });
        }).WithSummary("Where MLflow shows a run and its stages");
    }
}
