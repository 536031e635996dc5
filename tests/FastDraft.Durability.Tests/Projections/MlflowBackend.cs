using System.Net.Http.Json;
using System.Text.Json.Nodes;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Projections;
using FastDraft.TestKit;

namespace FastDraft.Durability.Tests.Projections;

/// <summary>The real server, one for all facts, and questions to it that do not pass through what is tested.</summary>
public sealed class MlflowBackend : IAsyncLifetime
{
    private readonly HttpClient http = new();
    private MlflowServer? server;

    public Uri Address => server!.Address;

    public async ValueTask InitializeAsync()
    {
        if (MlflowServer.Missing is null)
        {
            server = await MlflowServer.StartAsync();
        }
    }

    public async ValueTask DisposeAsync()
    {
        http.Dispose();
        if (server is not null)
        {
            await server.DisposeAsync();
        }
    }

    /// <summary>Every run of an experiment with this tag.</summary>
    public async Task<IReadOnlyList<JsonNode>> RunsAsync(string experiment, string tag, string value)
    {
        var id = (string)(await GetAsync("experiments/get-by-name?experiment_name=" + Uri.EscapeDataString(experiment)))["experiment"]!["experiment_id"]!;
        var found = await PostAsync("runs/search", new JsonObject { ["experiment_ids"] = new JsonArray(id), ["filter"] = $"tags.\"{tag}\" = '{value}'", ["run_view_type"] = "ALL" });
        return [.. (found["runs"] as JsonArray ?? []).Select(r => r!)];
    }

    public async Task<JsonNode> StageRunAsync(StageRunView stage, string experiment = "t") => Assert.Single(await RunsAsync(experiment, "fastdraft.stageRunId", stage.Id.ToString()));

    public async Task<JsonNode> RunAsync(RunView run) => Assert.Single(await RunsAsync(run.WorkflowName, "fastdraft.runId", run.Id.ToString()));

    /// <summary>Every point of a metric, in the order of its steps.</summary>
    public async Task<IReadOnlyList<(long Step, double Value, long At)>> PointsAsync(JsonNode run, string metric)
    {
        var (points, page) = (new List<(long, double, long)>(), "");
        do
        {
            var found = await GetAsync($"metrics/get-history?run_id={(string)run["info"]!["run_id"]!}&metric_key={metric}&max_results=1000" + (page.Length > 0 ? "&page_token=" + Uri.EscapeDataString(page) : ""));
            points.AddRange((found["metrics"] as JsonArray ?? []).Select(m => (long.Parse(m!["step"]!.ToString(), null), (double)m["value"]!, long.Parse(m["timestamp"]!.ToString(), null))));
            page = (string?)found["next_page_token"] ?? "";
        }
        while (page.Length > 0);
        return [.. points.Order()];
    }

    public static string? Tag(JsonNode run, string name) => run["data"]!["tags"]!.AsArray().Where(t => (string)t!["key"]! == name).Select(t => (string)t!["value"]!).SingleOrDefault();

    public static string? Param(JsonNode run, string name) => (run["data"]!["params"] as JsonArray ?? []).Where(t => (string)t!["key"]! == name).Select(t => (string)t!["value"]!).SingleOrDefault();

    public async Task<JsonNode> GetAsync(string path) => (await http.GetFromJsonAsync<JsonNode>(new Uri(Address, "/api/2.0/mlflow/" + path)))!;

    public Task<string> TextAsync(string path) => http.GetStringAsync(new Uri(Address, path));

    public async Task<JsonNode> PostAsync(string path, JsonObject body)
    {
        // With its length: the server reads nothing of a body that is sent in chunks.
        using var content = new StringContent(body.ToJsonString(), System.Text.Encoding.UTF8, "application/json");
        using var response = await http.PostAsync(new Uri(Address, "/api/2.0/mlflow/" + path), content);
        response.EnsureSuccessStatusCode();
        return (await response.Content.ReadFromJsonAsync<JsonNode>())!;
    }

    /// <summary>Completes when nothing waits any more.</summary>
    /// <param name="refused">How many events may have been given up.</param>
    internal static async Task DrainedAsync(PipelineStore store, int refused = 0)
    {
        var projections = new ProjectionStore(store, TimeProvider.System);
        await TestPipeline.UntilAsync(async () => (await projections.ListAsync()).All(p => p.Waiting == 0), "MLflow was told everything");
        var given = (await projections.ListAsync()).SelectMany(p => p.Refused).ToList();
        Assert.True(given.Count == refused, string.Join('\n', given.Select(g => $"{g.Kind}: {g.Problem}")));
    }
}

[CollectionDefinition(Name)]
public sealed class MlflowBackends : ICollectionFixture<MlflowBackend>
{
    public const string Name = "mlflow";
}
