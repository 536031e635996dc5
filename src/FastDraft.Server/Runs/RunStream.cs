using System.Text.Json;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server.Security;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Hosting;

namespace FastDraft.Server.Runs;

/// <summary>
/// <c>GET /api/runs/{run}/events</c>: a run as it happens, as server-sent events: <c>run</c>, <c>stage</c>, <c>gate</c>, <c>line</c>,
/// <c>log</c>, <c>metric</c>, <c>progress</c>, <c>read</c> (which has only the id of what was told so far), and <c>end</c> after which nothing comes. What is not read waits in the tables and not here:
/// a client that reads slowly holds up itself alone. One that comes back with <c>Last-Event-ID</c> gets states as they are now, and of logs
/// and metrics what came since; one that is new gets the newest of them, and the pages have the rest.
/// </summary>
internal sealed class RunStream
{
    private const string End = "end";
    private const int NewestChunks = 64;
    private const int NewestPoints = 1000;

    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan Trust = TimeSpan.FromSeconds(5);

    private readonly HttpResponse response;
    private readonly PipelineQueries queries;
    private readonly RunPosition position;
    private readonly bool isNew;
    private readonly Dictionary<Guid, (StageRunState State, int NumAttempts)> stages = [];
    private readonly HashSet<(string Reference, bool? Approved)> gates = [];
    private RunState? state;
    private bool isComplete;
    private long numEvents;

    private RunStream(HttpResponse response, PipelineQueries queries, RunPosition? position) =>
        (this.response, this.queries, this.position, isNew) = (response, queries, position ?? new RunPosition(), position is null);

    public static void Map(IEndpointRouteBuilder api) => api.MapGet("/{run:guid}/events", async (
        Guid run, HttpContext context, PipelineStore store, RunFeeds feeds, CredentialStore credentials, TimeProvider clock, IHostApplicationLifetime lifetime) =>
    {
        var last = context.Request.Headers["Last-Event-ID"].ToString();
        if (last == End)
        {
            // The one answer after which a browser does not come again.
            return Results.NoContent();
        }

        if (last.Length > 0 && RunPosition.Parse(last) is null)
        {
            return Problems.Result(StatusCodes.Status400BadRequest, "'Last-Event-ID' is the id of an event that came from here.");
        }

        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, lifetime.ApplicationStopping);
        if (await store.Queries.GetRunAsync(run, ending.Token) is null)
        {
            return Problems.NotFound($"run {run}");
        }

        context.Response.ContentType = "text/event-stream";
        context.Response.Headers.CacheControl = "no-store";

        // nginx would collect what is meant to come at once.
        context.Response.Headers["X-Accel-Buffering"] = "no";
        try
        {
            using var watcher = feeds.Join(run);
            await new RunStream(context.Response, store.Queries, RunPosition.Parse(last)).WriteAsync(
                watcher, async () => CredentialHandler.CredentialOf(context.User) is { } id && await credentials.IsGoodAsync(id, ending.Token), clock, ending.Token);
        }
        catch (OperationCanceledException) when (ending.IsCancellationRequested)
        {
            // The client has gone, or the service goes.
        }
        catch (Exception e) when (PipelineDatabase.IsTrouble(e) && context.Response.HasStarted)
        {
            // It comes again, and goes on where it was.
        }

        return Results.Empty;
    }).Produces<string>(StatusCodes.Status200OK, "text/event-stream").Produces(StatusCodes.Status204NoContent).WithSummary("A run as it happens, as server-sent events, to its end");

    private async Task WriteAsync(RunFeeds.Watcher watcher, Func<Task<bool>> isAllowed, TimeProvider clock, CancellationToken ct)
    {
        await response.WriteAsync("retry: 2000\n\n", ct);
        await response.Body.FlushAsync(ct);
        var (asked, written) = (clock.GetTimestamp(), clock.GetTimestamp());
        while (true)
        {
            if (clock.GetElapsedTime(asked) > Trust)
            {
                asked = clock.GetTimestamp();
                if (!await isAllowed())
                {
                    return;
                }
            }

            var look = await watcher.NextAsync(Trust, ct);
            if (look is { Run: null })
            {
                return;
            }

            var before = numEvents;
            var isOver = look is not null && await TellAsync(look, look.Run!, ct);
            if (numEvents > before)
            {
                written = clock.GetTimestamp();
            }
            else if (clock.GetElapsedTime(written) > Heartbeat)
            {
                written = clock.GetTimestamp();
                await response.WriteAsync(":\n\n", ct);
            }

            await response.Body.FlushAsync(ct);
            if (isOver)
            {
                return;
            }
        }
    }

    /// <returns>Whether the run has ended and all of it is told.</returns>
    private async Task<bool> TellAsync(RunLook look, RunView run, CancellationToken ct)
    {
        var attempts = run.Stages.SelectMany(s => s.Attempts).OrderBy(a => a.StartedAt).ThenBy(a => a.Id).ToList();
        if (!isComplete)
        {
            isComplete = true;
            position.Complete(attempts, look.HeadOf);
        }

        if (state != run.State && !RunStateMachine.IsTerminal(run.State))
        {
            await SendAsync("run", new { run.State }, null, ct);
            state = run.State;
        }

        foreach (var stage in run.Stages)
        {
            // Before what it does is told that it began, and after it that it ended.
            var isTerminal = RunStateMachine.IsTerminal(stage.State);
            if (!isTerminal)
            {
                await TellStateAsync(run, stage, ct);
            }

            foreach (var attempt in stage.Attempts)
            {
                await TellAttemptAsync(look, attempts, stage, attempt, ct);
            }

            if (isTerminal)
            {
                await TellStateAsync(run, stage, ct);
            }
        }

        foreach (var gate in look.Gates.Where(g => gates.Add((g.Reference, g.Approved))))
        {
            await SendAsync("gate", gate, null, ct);
        }

        while (await look.LinesAsync(position.Line) is { Count: > 0 } lines)
        {
            foreach (var (id, at, text) in lines)
            {
                position.Line = id;
                await SendAsync("line", new { At = at, Text = text }, position.ToText(attempts), ct);
            }
        }

        if (!RunStateMachine.IsTerminal(run.State))
        {
            return false;
        }

        await SendAsync(End, new { run.State, run.Incident, run.EndedAt }, End, ct);
        return true;
    }

    private async Task TellStateAsync(RunView run, StageRunView stage, CancellationToken ct)
    {
        var now = (stage.State, stage.Attempts.Count);
        if (!stages.TryGetValue(stage.Id, out var before) || before != now)
        {
            stages[stage.Id] = now;
            await SendAsync("stage", new
            {
                stage.ActivityInstanceId, stage.ActivityId, stage.Stage, stage.State, Attempt = stage.Attempts.Count, stage.CachedFromRunId,
                Failure = stage.Failure ?? (stage.Attempts is [.., var last] ? last.Failure : null), stage.Hint, At = stage.EndedAt ?? stage.StartedAt ?? run.CreatedAt,
            }, null, ct);
        }
    }

    private async Task TellAttemptAsync(RunLook look, IReadOnlyList<AttemptView> attempts, StageRunView stage, AttemptView attempt, CancellationToken ct)
    {
        var head = look.HeadOf(attempt.Id);
        var read = position[attempt.Id] ?? (isNew
            ? new AttemptHead(Math.Max(0, head.Chunk - NewestChunks), await queries.MetricBeforeAsync(attempt.Id, NewestPoints, ct)) : default);
        while (read.Chunk < head.Chunk)
        {
            var (events, last) = await look.LogAsync(stage, attempt, read.Chunk);
            if (last == read.Chunk)
            {
                break;
            }

            read = read with { Chunk = last };
            position[attempt.Id] = read;

            // The id is named when all before it is told, so that a client cut off in the middle hears the middle again and misses nothing.
            await WriteAsync(events + Event("read", "{}", position.ToText(attempts)), ct);
        }

        while (read.Metric < head.Metric)
        {
            var (data, last) = await look.MetricsAsync(stage, attempt, read.Metric);
            if (last == read.Metric)
            {
                break;
            }

            read = read with { Metric = last };
            position[attempt.Id] = read;
            await WriteAsync(Event("metric", data, position.ToText(attempts)), ct);
        }

        position[attempt.Id] = read;
    }

    public static string Data(object data) => JsonSerializer.Serialize(data, ApiJson.Options);

    public static string Event(string name, string data, string? id = null) => $"{(id is null ? "" : $"id: {id}\n")}event: {name}\ndata: {data}\n\n";

    private Task SendAsync(string name, object data, string? id, CancellationToken ct) => WriteAsync(Event(name, Data(data), id), ct);

    private Task WriteAsync(string events, CancellationToken ct)
    {
        numEvents++;
        return response.WriteAsync(events, ct);
    }
}
