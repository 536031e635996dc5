using FastDraft.Persistence;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Runs;

/// <param name="Next">What to ask for next as <c>after</c>; absent when there will be no more.</param>
internal sealed record LogAnswer(int Attempt, IReadOnlyList<LogAnswer.Line> Items, int? Next)
{
    internal sealed record Line(DateTimeOffset At, string Level, string Message);
}

/// <param name="Next">What to ask for next as <c>after</c>; absent when there will be no more.</param>
internal sealed record MetricsAnswer(int Attempt, IReadOnlyList<MetricsAnswer.Point> Items, long? Next)
{
    internal sealed record Point(string Name, long Step, double Value);
}

/// <param name="Last">From here on <c>metrics</c> has what is newer than the curves.</param>
internal sealed record CurvesAnswer(int Attempt, IReadOnlyList<CurvesAnswer.Curve> Curves, long Last)
{
    /// <param name="Points">Step and value.</param>
    internal sealed record Curve(string Name, IReadOnlyList<double[]> Points);
}

/// <summary>What an attempt of a stage wrote and measured, page by page, and its curves.</summary>
internal static class RunPages
{
    private const int MaxLogChars = 256 << 10;
    private const int MaxPoints = 10_000;

    public static void Map(IEndpointRouteBuilder api)
    {
        var stage = api.MapGroup("/{run:guid}/stages/{stage}");
        stage.MapGet("/logs", (Guid run, string stage, int? attempt, int? after, PipelineStore store, CancellationToken ct) => AnswerAsync(store, run, stage, attempt, async (shown, activity) =>
        {
            var (lines, last) = await store.Queries.LogPageAsync(shown.Id, after ?? 0, MaxLogChars, ct);
            var items = lines.Select(l => PipelineStore.ParseLine(activity, l)).OfType<StageLog>().Select(l => new LogAnswer.Line(l.At, l.Level, l.Message)).ToList();

            // What is still being written has a next page, too, though an empty one for now.
            return Results.Ok(new LogAnswer(shown.Number, items, lines.Count == 0 && shown.EndedAt is not null ? null : last));
        }, ct)).Produces<LogAnswer>().WithSummary("What an attempt of a stage wrote: lines after a place");
        stage.MapGet("/metrics", (Guid run, string stage, int? attempt, string? name, long? after, int? limit, PipelineStore store, CancellationToken ct) => AnswerAsync(store, run, stage, attempt, async (shown, _) =>
        {
            var points = await store.Queries.MetricsAsync(shown.Id, after ?? 0, name, Math.Clamp(limit ?? 1000, 1, MaxPoints), ct);
            return Results.Ok(new MetricsAnswer(
                shown.Number, [.. points.Select(p => new MetricsAnswer.Point(p.Name, p.Step, p.Value))], points.Count > 0 ? points[^1].Last : shown.EndedAt is null ? after ?? 0 : null));
        }, ct)).Produces<MetricsAnswer>().WithSummary("What an attempt of a stage measured: points after a place, of all metrics or of one");
        stage.MapGet("/curves", (Guid run, string stage, int? attempt, int? points, PipelineStore store, CancellationToken ct) => AnswerAsync(store, run, stage, attempt, async (shown, _) =>
        {
            var curves = await store.Queries.CurvesAsync(shown.Id, Math.Clamp(points ?? 400, 2, 2000), ct);
            return Results.Ok(new CurvesAnswer(
                shown.Number,
                [.. curves.GroupBy(p => p.Name).OrderBy(g => g.Key, StringComparer.Ordinal).Select(g => new CurvesAnswer.Curve(g.Key, [.. g.Select(p => (double[])[p.Step, p.Value])]))],
                curves.Count == 0 ? 0 : curves.Max(p => p.Last)));
        }, ct)).Produces<CurvesAnswer>().WithSummary("The curves of an attempt, each thinned to about so many points");
    }

    /// <param name="stage">An activity instance, or an activity: then the last of its instances.</param>
    /// <param name="attempt">Null: the last.</param>
    private static async Task<IResult> AnswerAsync(
        PipelineStore store, Guid run, string stage, int? attempt, Func<AttemptView, string, Task<IResult>> answer, CancellationToken ct)
    {
        if (await store.Queries.GetRunAsync(run, ct) is not { } view)
        {
            return Problems.NotFound($"run {run}");
        }

        if (view.Stages.LastOrDefault(s => s.ActivityInstanceId == stage || s.ActivityId == stage) is not { } found)
        {
            return Problems.NotFound($"stage '{stage}' in run {run} so far");
        }

        return found.Attempts.LastOrDefault(a => attempt is null || a.Number == attempt) is { } shown
            ? await answer(shown, found.ActivityId)
            : Problems.NotFound(found.CachedFromRunId is { } from ? $"attempt of '{stage}': its result was taken from run {from}" : $"such attempt of '{stage}'");
    }
}
