using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Persistence.Security;
using FastDraft.Server.Web;

namespace FastDraft.Server.Tests.Runs;

[Collection(ServiceCollection.Name)]
public sealed class RunsApiFacts(RunningService service)
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_list_is_read_page_by_page_in_both_directions_while_runs_begin()
    {
        var name = Name();
        var made = new List<string>();
        for (var i = 0; i < 5; i++)
        {
            made.Add(await SubmitAsync(Line(name)));
        }

        var (seen, older, newer) = (new List<string>(), "", "");
        do
        {
            var (_, page) = await service.GetAsync($"/api/runs?workflow={name}&limit=2{older}");
            seen.AddRange(page!["items"]!.AsArray().Select(r => (string)r!["id"]!));
            older = page["older"] is { } next ? "&older=" + (string)next! : "";
            newer = (string?)page["newer"] ?? newer;
            await SubmitAsync(Line(Name()));
        }
        while (older.Length > 0);
        Assert.Equal(Enumerable.Reverse(made), seen);
        var (_, back) = await service.GetAsync($"/api/runs?workflow={name}&limit=2&newer={newer}");
        Assert.Equal([made[2], made[1]], back!["items"]!.AsArray().Select(r => (string)r!["id"]!));
    }

    [Theory]
    [InlineData("GET", "/api/runs?older=nonsense", 400)]
    [InlineData("GET", "/api/runs?state=Sleeping", 400)]
    [InlineData("GET", "/api/runs?since=yesterday", 400)]
    [InlineData("GET", "/api/runs/latest", 404)]
    [InlineData("GET", "/api/runs/00000000-0000-0000-0000-000000000001", 404)]
    [InlineData("GET", "/api/runs/00000000-0000-0000-0000-000000000001/events", 404)]
    [InlineData("GET", "/api/runs/00000000-0000-0000-0000-000000000001/stages/x/logs", 404)]
    [InlineData("POST", "/api/runs/00000000-0000-0000-0000-000000000001/retry", 404)]
    [InlineData("POST", "/api/runs", 400)]
    public async Task What_cannot_be_answered_is_a_problem(string method, string path, int status)
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), new Uri(path, UriKind.Relative)) { Content = method == "GET" ? null : JsonContent.Create(new { }) };
        using var response = await service.Http.SendAsync(request, Ct);
        var problem = await response.Content.ReadFromJsonAsync<JsonNode>(Ct);
        Assert.Equal((status, "application/problem+json"), ((int)response.StatusCode, response.Content.Headers.ContentType?.MediaType));
        Assert.NotEmpty(problem!["errors"]!["GeneralErrors"]!.AsArray());
    }

    [Fact]
    public async Task A_published_workflow_runs_by_its_id_and_one_that_is_not_there_is_named()
    {
        var name = Name();
        await service.SaveAsync(Line(name), publish: true);
        var (status, answer) = await service.PostAsync("/api/runs", new JsonObject { ["workflow"] = name, ["correlationId"] = "order-7" });
        Assert.Equal(201, status);
        await service.EndAsync(Guid.Parse((string)answer!["id"]!));
        var (_, run) = await service.GetAsync($"/api/runs/{(string)answer["id"]!}");
        Assert.Equal((name, "Succeeded"), ((string?)run!["workflow"], (string?)run["state"]));
        Assert.Equal(name, (string?)(await service.GetAsync($"/api/runs/{(string)answer["id"]!}/definition")).Body!["definitionId"]);
        (status, answer) = await service.PostAsync("/api/runs", new JsonObject { ["workflow"] = name + "x" });
        Assert.Equal(404, status);
        Assert.Contains(name + "x", answer!.ToJsonString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_same_key_makes_one_run_however_often_and_at_once_it_comes()
    {
        var (name, key) = (Name(), Guid.CreateVersion7().ToString());
        var answers = await Task.WhenAll(Enumerable.Range(0, 10).Select(_ => KeyedAsync(service.Http, "/api/runs", key, Submission(name))));
        Assert.All(answers, a => Assert.Equal(201, a.Status));
        var id = Assert.Single(answers.Select(a => (string)a.Body!["id"]!).Distinct());
        Assert.Equal(id, (string?)(await KeyedAsync(service.Http, "/api/runs", key, Submission(name))).Body!["id"]);
        Assert.Equal(id, (string?)Assert.Single((await service.GetAsync($"/api/runs?workflow={name}")).Body!["items"]!.AsArray())!["id"]);

        // The end of the run is waited for, so that a repetition can repeat it.
        await service.EndAsync(Guid.Parse(id));
        var again = Guid.CreateVersion7().ToString();
        var first = await KeyedAsync(service.Http, $"/api/runs/{id}/retry", again, []);
        Assert.Equal((string?)first.Body!["id"], (string?)(await KeyedAsync(service.Http, $"/api/runs/{id}/retry", again, [])).Body!["id"]);
    }

    [Fact]
    public async Task A_key_with_another_request_is_refused_and_one_of_another_caller_is_another()
    {
        var (name, key) = (Name(), Guid.CreateVersion7().ToString());
        var first = await KeyedAsync(service.Http, "/api/runs", key, Submission(name));
        var (status, problem) = await KeyedAsync(service.Http, "/api/runs", key, Submission(name + "x"));
        Assert.Equal(422, status);
        Assert.Contains(key, problem!.ToJsonString(), StringComparison.Ordinal);
        Assert.Equal(422, (await KeyedAsync(service.Http, $"/api/events/{name}", key, [])).Status);
        using var other = service.Client(await service.TokenAsync(Name(), Role.Operator));
        Assert.NotEqual((string?)first.Body!["id"], (string?)(await KeyedAsync(other, "/api/runs", key, Submission(name))).Body!["id"]);
        Assert.Equal(400, (await KeyedAsync(service.Http, "/api/runs", "not a key", Submission(name))).Status);
    }

    [Fact]
    public async Task A_refused_request_keeps_no_key_and_a_key_is_over_after_a_day()
    {
        var (name, key) = (Name(), Guid.CreateVersion7().ToString());
        var refused = Submission(name);
        refused["inputs"] = new JsonObject { ["unknown"] = 1 };
        Assert.Equal(400, (await KeyedAsync(service.Http, "/api/runs", key, refused)).Status);
        var first = await KeyedAsync(service.Http, "/api/runs", key, Submission(name));
        Assert.Equal(201, first.Status);
        service.Sql($"UPDATE idempotency_keys SET \"CreatedAt\" = \"CreatedAt\" - 86401000 WHERE \"Key\" = '{key}'");
        var second = await KeyedAsync(service.Http, "/api/runs", Guid.CreateVersion7().ToString(), Submission(name));
        Assert.Equal(201, second.Status);
        await using var db = PipelineStore.DatabaseOf(service.DataFolder, new PipelineSettings()).Open();
        Assert.DoesNotContain(db.IdempotencyKeys, k => k.Key == key);
        Assert.NotEqual((string?)first.Body!["id"], (string?)(await KeyedAsync(service.Http, "/api/runs", key, Submission(name))).Body!["id"]);
    }

    [Theory]
    [InlineData("/import")]
    [InlineData("")]
    public async Task A_workflow_without_an_id_is_made_once_for_one_key(string path)
    {
        var (name, key) = (Name(), Guid.CreateVersion7().ToString());
        var model = Line(name);
        model.Remove("definitionId");
        var request = path.Length > 0 ? model : new JsonObject { ["model"] = model, ["publish"] = true };
        var made = new List<string?>();
        foreach (var k in (string[])[key, key, key + "x"])
        {
            var (status, answer) = await KeyedAsync(service.Http, RunningService.Api + "/workflow-definitions" + path, k, request);
            Assert.True(status == 200, answer?.ToJsonString());
            made.Add((string?)(answer!["workflowDefinition"] ?? answer)["definitionId"]);
        }

        Assert.Equal(made[0], made[1]);
        Assert.NotEqual(made[0], made[2]);
    }

    [Fact]
    public async Task An_event_with_a_key_is_published_once()
    {
        var (name, key) = (Name(), Guid.CreateVersion7().ToString());
        for (var i = 0; i < 2; i++)
        {
            Assert.Equal(200, (await KeyedAsync(service.Http, $"/api/events/{name}", key, [])).Status);
        }

        Assert.Single((await service.GetAsync($"/api/audit?object={name}")).Body!["items"]!.AsArray());
    }

    [Fact]
    public async Task A_run_is_repeated_with_other_settings_of_its_stages()
    {
        var run = await SubmitAsync(Ingest(Name()));
        await service.EndAsync(Guid.Parse(run));
        var edits = new JsonObject { ["settings"] = new JsonObject { ["ingest"] = new JsonObject { ["seed"] = 17 } }, ["bypassCache"] = true };
        var (status, answer) = await service.PostAsync($"/api/runs/{run}/retry", edits);
        Assert.True(status == 201, answer?.ToJsonString());
        var again = (string)answer!["id"]!;
        await service.EndAsync(Guid.Parse(again));
        var (_, before) = await service.GetAsync($"/api/runs/{run}");
        var (_, after) = await service.GetAsync($"/api/runs/{again}");
        Assert.NotEqual(17, (long?)before!["stages"]![0]!["settings"]!["seed"]);
        Assert.Equal(17, (long?)after!["stages"]![0]!["settings"]!["seed"]);
        Assert.NotEqual((string?)before["definitionDigest"], (string?)after["definitionDigest"]);
        var row = (await service.GetAsync($"/api/audit?object={again}")).Body!["items"]![0]!;
        Assert.Contains("\"seed\":17", row.ToJsonString(), StringComparison.Ordinal);
        Assert.Contains("\"bypassCache\":true", row.ToJsonString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("ingst", "seed", "1", "'ingest'")]
    [InlineData("ingest", "sead", "1", "'seed'")]
    [InlineData("ingest", "seed", "many", "whole number")]
    public async Task A_setting_that_cannot_be_is_refused_with_what_was_meant(string stage, string setting, string value, string said)
    {
        var run = await SubmitAsync(Ingest(Name()));
        await service.EndAsync(Guid.Parse(run));
        var (status, problem) = await service.PostAsync($"/api/runs/{run}/retry", new JsonObject { ["settings"] = new JsonObject { [stage] = new JsonObject { [setting] = value } } });
        Assert.Equal(400, status);
        Assert.Contains(said, (string)problem!["errors"]!["GeneralErrors"]![0]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_run_that_has_ended_is_not_cancelled_and_one_that_has_not_is_not_repeated()
    {
        var done = await SubmitAsync(Line(Name()));
        await service.EndAsync(Guid.Parse(done));
        Assert.Equal(409, (await service.PostAsync($"/api/runs/{done}/cancel", null)).Status);
        var waiting = await SubmitAsync(RunStreamFacts.Gated(Name()));
        await service.GateAsync(Guid.Parse(waiting));
        Assert.Equal(409, (await service.PostAsync($"/api/runs/{waiting}/retry", null)).Status);
        Assert.Equal(202, (await service.PostAsync($"/api/runs/{waiting}/cancel", null)).Status);
        await service.EndAsync(Guid.Parse(waiting));
        Assert.Equal("Cancelled", (string?)(await service.GetAsync($"/api/runs/{waiting}")).Body!["state"]);
    }

    internal static string Name() => "r" + Guid.CreateVersion7().ToString("N");

    internal static JsonObject Line(string name) => RunningService.Workflow(name, name, "'done'");

    /// <summary>One stage, whose worker ends at once.</summary>
    private static JsonObject Ingest(string name)
    {
        var model = Line(name);
        model["root"]!["activities"] = new JsonArray(new JsonObject
        {
            ["id"] = "ingest", ["type"] = "FastDraft.IngestCorpus", ["version"] = 1,
            ["sources"] = new JsonObject { ["typeName"] = "String[]", ["expression"] = new JsonObject { ["type"] = "Object", ["value"] = new JsonArray(Path.Join(TestFolder.Repository, "README.md")).ToJsonString() } },
        });
        return model;
    }

    private static JsonObject Submission(string name) => new() { ["definition"] = Line(name) };

    private async Task<string> SubmitAsync(JsonObject definition)
    {
        var (status, answer) = await service.PostAsync("/api/runs", new JsonObject { ["definition"] = definition });
        Assert.True(status == 201, answer?.ToJsonString());
        return (string)answer!["id"]!;
    }

    private static async Task<(int Status, JsonNode? Body)> KeyedAsync(HttpClient http, string path, string key, JsonObject body)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(path, UriKind.Relative)) { Content = new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json") };
        request.Headers.TryAddWithoutValidation(IdempotencyKey.Header, key);
        using var response = await http.SendAsync(request, Ct);
        return ((int)response.StatusCode, await response.Content.ReadFromJsonAsync<JsonNode>(Ct));
    }
}
