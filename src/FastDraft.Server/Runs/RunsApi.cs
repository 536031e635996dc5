using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Definitions;
using FastDraft.Server.Gates;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Runs;

/// <summary>A new run: of a published workflow by its id, or of a definition that comes along.</summary>
internal sealed record SubmitRequest(string? Workflow, JsonObject? Definition, JsonObject? Inputs, bool BypassCache = false, string? CorrelationId = null);

/// <param name="Settings">By activity id of a stage: settings and their new values; null takes a value back to what it is by default.</param>
/// <param name="BypassCache">Run every stage, reuse nothing.</param>
internal sealed record RetryRequest(Dictionary<string, JsonObject?>? Settings, bool BypassCache = false);

/// <param name="Older">Where the next page begins; absent on the last.</param>
/// <param name="Newer">Where the page before ends; absent on the first.</param>
internal sealed record RunsAnswer(IReadOnlyList<ListedRun> Items, string? Older, string? Newer);

internal sealed record StartedAnswer(Guid Id);

/// <summary>A run as the API tells of it: what the tables hold, with JSON as JSON.</summary>
internal sealed record RunAnswer(
    Guid Id, string Workflow, string DefinitionDigest, RunState State, string? Incident, DateTimeOffset CreatedAt, DateTimeOffset? EndedAt, JsonNode? Inputs,
    IReadOnlyList<StageAnswer> Stages, IReadOnlyList<GateView> Gates)
{
    public static RunAnswer Of(RunView run, IReadOnlyList<GateView> gates) => new(
        run.Id, run.WorkflowName, run.DefinitionDigest, run.State, run.Incident, run.CreatedAt, run.EndedAt, JsonNode.Parse(run.InputsJson), [.. run.Stages.Select(StageAnswer.Of)], gates);
}

/// <param name="Why">Why it ran and was not reused.</param>
internal sealed record StageAnswer(
    Guid Id, string ActivityInstanceId, string ActivityId, string Stage, int Version, StageRunState State, JsonNode? Settings, Guid? CachedFromRunId, IReadOnlyList<string> Why,
    string? Failure, string? Hint, DateTimeOffset? StartedAt, DateTimeOffset? EndedAt, IReadOnlyList<AttemptView> Attempts, IReadOnlyList<PortArtifactView> Inputs, IReadOnlyList<PortArtifactView> Outputs)
{
    public static StageAnswer Of(StageRunView stage) => new(
        stage.Id, stage.ActivityInstanceId, stage.ActivityId, stage.Stage, stage.StageVersion, stage.State, JsonNode.Parse(stage.SettingsJson), stage.CachedFromRunId,
        Explanation.Reasons(stage), stage.Failure, stage.Hint, stage.StartedAt, stage.EndedAt, stage.Attempts, stage.Inputs, stage.Outputs);
}

/// <summary>Runs: listed, looked at, begun, cancelled and repeated. <c>fastdraft run</c> and <c>fastdraft runs</c> do the same.</summary>
internal static class RunsApi
{
    private const int MaxText = 4000;

    public static void Map(IEndpointRouteBuilder app)
    {
        var api = app.MapGroup("/api/runs");
        api.MapGet("", ListAsync).Produces<RunsAnswer>().WithSummary("A page of runs, the newest first");
        api.MapPost("", SubmitAsync).Produces<StartedAnswer>(StatusCodes.Status201Created).WithSummary("Begin a run of a published workflow or of a definition that comes along");
        api.MapGet("/{run:guid}", async (Guid run, PipelineStore store, GateStore gates, CancellationToken ct) =>
            await store.Queries.GetRunAsync(run, ct) is { } view ? Results.Ok(RunAnswer.Of(view, await gates.OfRunAsync(run, ct))) : Problems.NotFound($"run {run}"))
            .Produces<RunAnswer>().WithSummary("A run with its stages, attempts, artifacts and gates");
        api.MapGet("/{run:guid}/definition", async (Guid run, PipelineStore store, CancellationToken ct) =>
            await store.Queries.GetRunAsync(run, ct) is { } view ? Results.Text(view.DefinitionJson, "application/json") : Problems.NotFound($"run {run}"))
            .Produces<JsonObject>().WithSummary("The definition that a run is of, as it was when the run began");
        api.MapPost("/{run:guid}/cancel", async (Guid run, PipelineHost host, CancellationToken ct) =>
            await host.Queries.GetRunAsync(run, ct) is not { } view ? Problems.NotFound($"run {run}")
            : await host.CancelAsync(run, ct) ? Results.Accepted($"/api/runs/{run}", new StartedAnswer(run))
            : Problems.Result(StatusCodes.Status409Conflict, $"The run has ended ({view.State}); there is nothing to cancel."))
            .Produces<StartedAnswer>(StatusCodes.Status202Accepted).WithSummary("Ask a run to end; its stages stop within ten seconds");
        api.MapPost("/{run:guid}/retry", RetryAsync).Produces<StartedAnswer>(StatusCodes.Status201Created).WithSummary("Repeat a run that has ended, with other settings of its stages where they are given");
        RunPages.Map(api);
        RunStream.Map(api);
    }

    private static async Task<IResult> ListAsync(
        PipelineStore store, string? workflow, RunState? state, DateTimeOffset? since, DateTimeOffset? until, string? text, string? older, string? newer, int? limit, CancellationToken ct)
    {
        var (olderThan, newerThan) = (RunCursor.Parse(older), RunCursor.Parse(newer));
        if ((older is not null && olderThan is null) || (newer is not null && newerThan is null) || (older is not null && newer is not null))
        {
            return Problems.Result(StatusCodes.Status400BadRequest, "'older' and 'newer' are places that an earlier page named, and one of them is given.");
        }

        var page = await store.Queries.ListRunsAsync(new RunFilter(workflow, state, since, until, text), olderThan, newerThan, Math.Clamp(limit ?? 50, 1, 500), ct);
        return Results.Ok(new RunsAnswer(page.Runs, page.Older?.ToString(), page.Newer?.ToString()));
    }

    private static async Task<IResult> SubmitAsync(
        SubmitRequest request, IdempotencyKey? key, DefinitionStore definitions, PipelineHost host, PipelineOptions options, CancellationToken ct)
    {
        if (request.Workflow is null == request.Definition is null || request.CorrelationId?.Length > MaxText)
        {
            return Problems.Result(StatusCodes.Status400BadRequest, $"A run is of one 'workflow', by the id of a published one, or of a 'definition'; its 'correlationId' has at most {MaxText} characters.");
        }

        WorkflowDefinition definition;
        if (request.Definition is { } given)
        {
            if (WorkflowValidator.Validate(given.ToJsonString(), "definition", options.Stages) is { Count: > 0 } errors)
            {
                return Problems.Result(StatusCodes.Status400BadRequest, [.. errors.Select(e => e.Try is null ? e.Message : $"{e.Message.TrimEnd('.')}. Try: {e.Try}")]);
            }

            definition = WorkflowDefinition.Parse(given.ToJsonString());
        }
        else if (await definitions.FindPublishedAsync(request.Workflow!, ct) is not { } found)
        {
            return Problems.NotFound($"published workflow '{request.Workflow}'");
        }
        else if (definitions.Mistakes(found) is { Count: > 0 } mistakes)
        {
            return Problems.Result(StatusCodes.Status400BadRequest, mistakes);
        }
        else
        {
            definition = found.Parse();
        }

        var (run, refusal) = await RunStart.TryAsync(definition, new StartRequest(request.Inputs, request.BypassCache, CorrelationId: request.CorrelationId), key, host, options, ct);
        return refusal ?? Results.Created($"/api/runs/{run}", new StartedAnswer(run!.Value));
    }

    private static async Task<IResult> RetryAsync(Guid run, RetryRequest? request, IdempotencyKey? key, PipelineHost host, CancellationToken ct)
    {
        if (await host.Queries.GetRunAsync(run, ct) is not { } view)
        {
            return Problems.NotFound($"run {run}");
        }

        if (!RunStateMachine.IsTerminal(view.State))
        {
            return Problems.Result(StatusCodes.Status409Conflict, "The run has not ended; cancel it first.");
        }

        try
        {
            var settings = request?.Settings?.ToDictionary(s => s.Key, s => s.Value ?? [], StringComparer.Ordinal);
            var again = await host.RetryAsync(run, new RunRetry(settings, request?.BypassCache ?? false, key), ct);
            return Results.Created($"/api/runs/{again}", new StartedAnswer(again));
        }
        catch (StageFailureException e)
        {
            return Problems.Result(StatusCodes.Status400BadRequest, e.Hint is null ? e.Message : $"{e.Message.TrimEnd('.')}. Try: {e.Hint}");
        }
    }
}
