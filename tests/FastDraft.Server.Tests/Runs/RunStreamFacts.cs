using System.Net;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Persistence.Security;

namespace FastDraft.Server.Tests.Runs;

[Collection(ServiceCollection.Name)]
public sealed class RunStreamFacts(RunningService service)
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_run_is_told_to_its_end_and_then_no_more()
    {
        var run = await SubmitAsync(RunsApiFacts.Line(RunsApiFacts.Name()));
        var events = await ReadAsync(run, null).ToListAsync(Ct);
        Assert.Contains(events, e => e is { Name: "line" } && (string?)e.Data["text"] == "'done'");
        Assert.Equal(("end", "end", "Succeeded"), (events[^1].Name, events[^1].Id, (string?)events[^1].Data["state"]));
        using var again = await OpenAsync(service.Http, run, "end");
        Assert.Equal(HttpStatusCode.NoContent, again.StatusCode);
    }

    [Fact]
    public async Task Who_comes_back_hears_what_came_since_and_nothing_twice()
    {
        var (run, attempt) = await WorkingAsync();
        await AddAsync(attempt, 1, 3);
        string? last = null;
        var heard = new List<string>();
        for (var chunk = 3; chunk <= 9; chunk += 3)
        {
            // Cut off after each chunk, wherever the connection is then.
            await foreach (var e in ReadAsync(run, last))
            {
                last = e.Id ?? last;
                heard.AddRange(e.Name == "log" ? e.Data["lines"]!.AsArray().Select(l => (string)l!["message"]!) : []);
                heard.AddRange(e.Name == "metric" ? e.Data["points"]!.AsArray().Select(p => "step " + (long)p!["step"]!) : []);
                if (heard.Count == 2 * chunk && e.Id is not null)
                {
                    break;
                }
            }

            await AddAsync(attempt, chunk + 1, chunk + 3);
        }

        Assert.Equal(Enumerable.Range(1, 9).Select(n => $"line {n}"), heard.Where(h => h[0] == 'l'));
        Assert.Equal(Enumerable.Range(1, 9).Select(n => $"step {n}"), heard.Where(h => h[0] == 's'));
    }

    [Fact]
    public async Task Whoever_is_new_gets_the_newest_and_pages_have_the_rest()
    {
        var (run, attempt) = await WorkingAsync();
        await AddAsync(attempt, 1, 2500);
        var points = new List<long>();
        await foreach (var e in ReadAsync(run, null))
        {
            points.AddRange(e.Name == "metric" ? e.Data["points"]!.AsArray().Select(p => (long)p!["step"]!) : []);
            if (points is [.., 2500])
            {
                break;
            }
        }

        Assert.Equal(Enumerable.Range(1501, 1000).Select(n => (long)n), points);
        var (steps, next) = (new List<long>(), 0L);
        while (steps.Count < 2500)
        {
            var (_, page) = await service.GetAsync($"/api/runs/{run}/stages/made/metrics?after={next}&limit=999");
            Assert.NotEmpty(page!["items"]!.AsArray());
            steps.AddRange(page["items"]!.AsArray().Select(p => (long)p!["step"]!));
            next = (long)page["next"]!;
        }

        Assert.Equal(Enumerable.Range(1, 2500).Select(n => (long)n), steps);
        var (lines, after) = (new List<string>(), 0);
        while (lines.Count < 2500)
        {
            var (_, page) = await service.GetAsync($"/api/runs/{run}/stages/made/logs?after={after}");
            lines.AddRange(page!["items"]!.AsArray().Select(l => (string)l!["message"]!));
            after = (int)page["next"]!;
        }

        Assert.Equal(Enumerable.Range(1, 2500).Select(n => $"line {n}"), lines);
    }

    [Fact]
    public async Task A_long_curve_is_as_short_as_a_short_one_and_has_its_ends()
    {
        var (run, attempt) = await WorkingAsync();
        await AddAsync(attempt, 1, 25_000, withLog: false);
        var (_, body) = await service.GetAsync($"/api/runs/{run}/stages/made/curves?points=200");
        var curve = Assert.Single(body!["curves"]!.AsArray())!;
        var steps = curve["points"]!.AsArray().Select(p => (long)(double)p![0]!).ToList();
        Assert.Equal("loss", (string?)curve["name"]);
        Assert.InRange(steps.Count, 190, 210);
        Assert.Equal((1, 25_000), (steps[0], steps[^1]));
        Assert.Equal(steps.Order(), steps);
    }

    [Fact]
    public async Task A_stream_ends_soon_after_its_token()
    {
        var (run, _) = await WorkingAsync();
        var name = RunsApiFacts.Name();
        using var http = service.Client(await service.TokenAsync(name, Role.Viewer));
        using var response = await OpenAsync(http, run, null);
        await service.Credentials.RevokeAsync(name, Ct);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(Ct);
        limit.CancelAfter(TimeSpan.FromSeconds(30));
        var text = await response.Content.ReadAsStringAsync(limit.Token);
        Assert.StartsWith("retry:", text, StringComparison.Ordinal);
        using var again = await OpenAsync(http, run, null);
        Assert.Equal(HttpStatusCode.Unauthorized, again.StatusCode);
    }

    internal static JsonObject Gated(string name)
    {
        var model = RunsApiFacts.Line(name);
        model["root"]!["activities"] = new JsonArray(new JsonObject
        {
            ["id"] = "gate", ["type"] = ActivityTypes.Gate, ["version"] = 1,
            ["title"] = new JsonObject { ["typeName"] = "String", ["expression"] = new JsonObject { ["type"] = "Literal", ["value"] = "Ship it?" } },
        });
        return model;
    }

    private async Task<string> SubmitAsync(JsonObject definition) => (string)(await service.PostAsync("/api/runs", new JsonObject { ["definition"] = definition })).Body!["id"]!;

    /// <summary>A run that waits for a person, and an attempt in it that still works for all its rows say.</summary>
    private async Task<(string Run, Guid Attempt)> WorkingAsync()
    {
        var run = await SubmitAsync(Gated(RunsApiFacts.Name()));
        await service.GateAsync(Guid.Parse(run));
        var (stage, attempt) = (Guid.CreateVersion7(), Guid.CreateVersion7());
        await using var db = Open();
        db.StageRuns.Add(new StageRunRow { Id = stage, RunId = Guid.Parse(run), ActivityInstanceId = "made#1", ActivityId = "made", Stage = "Made", State = StageRunState.Succeeded });
        await db.SaveChangesAsync(Ct);
        db.Attempts.Add(new AttemptRow { Id = attempt, StageRunId = stage, Number = 1, State = StageRunState.Running });
        await db.SaveChangesAsync(Ct);
        return (run, attempt);
    }

    /// <summary>A chunk of log with one line, and one point, for each number.</summary>
    private async Task AddAsync(Guid attempt, int first, int last, bool withLog = true)
    {
        await using var db = Open();
        db.ChangeTracker.AutoDetectChangesEnabled = false;
        for (var n = first; n <= last; n++)
        {
            if (withLog)
            {
                db.AttemptLog.Add(new AttemptLogRow { AttemptId = attempt, Number = n, Lines = $$"""{"type":"log","level":"Information","message":"line {{n}}","at":1}""" + "\n" });
            }

            db.Metrics.Add(new MetricRow { AttemptId = attempt, Name = "loss", Step = n, Value = 1.0 / n });
        }

        await db.SaveChangesAsync(Ct);
    }

    private PipelineDbContext Open() => PipelineStore.DatabaseOf(service.DataFolder, new PipelineSettings()).Open();

    private async IAsyncEnumerable<(string Name, string? Id, JsonNode Data)> ReadAsync(string run, string? last)
    {
        using var response = await OpenAsync(service.Http, run, last);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(Ct));
        string? name = null, id = null;
        while (await reader.ReadLineAsync(Ct) is { } line)
        {
            switch (line.Split(": ", 2))
            {
                case ["id", var text]:
                    id = text;
                    break;
                case ["event", var text]:
                    name = text;
                    break;
                case ["data", var text]:
                    yield return (name!, id, JsonNode.Parse(text)!);
                    (name, id) = (null, null);
                    break;
            }
        }
    }

    private static async Task<HttpResponseMessage> OpenAsync(HttpClient http, string run, string? last)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri($"/api/runs/{run}/events", UriKind.Relative));
        if (last is not null)
        {
            request.Headers.Add("Last-Event-ID", last);
        }

        return await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Ct);
    }
}
