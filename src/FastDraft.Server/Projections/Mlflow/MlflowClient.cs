using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace FastDraft.Server.Projections.Mlflow;

/// <param name="At">Unix milliseconds.</param>
internal sealed record MlflowMetric(string Key, double Value, long At, long Step);

/// <summary>An input of a run. <paramref name="Context"/> says as what it was read.</summary>
internal sealed record MlflowDataset(string Name, string Digest, string Source, string Context);

internal sealed record MlflowRun(string Id, string ExperimentId, string ArtifactUri);

/// <summary>The server's own words: <paramref name="code"/> is its error code, such as RESOURCE_DOES_NOT_EXIST; empty where it had none.</summary>
internal sealed class MlflowException(DeliveryFault fault, string code, string message, TimeSpan? retryAfter) : DeliveryException(fault, message, retryAfter)
{
    public string Code { get; } = code;
}

/// <summary>
/// MLflow's REST API 2.0, what of it is needed here, within its limits. A metric point that is sent again is one point: the server's tables
/// have (run, key, time, step, value) as their key. A parameter sent again with its value is nothing new.
/// </summary>
internal sealed class MlflowClient : IDisposable
{
    public const int MaxMetrics = 1000;
    private const int MaxParamsOrTags = 100;
    private const int MaxParamValue = 6000;
    private const int MaxTagValue = 8000;
    private const int MaxKey = 250;
    private const int MaxExperimentName = 500;
    private const int MaxDatasetDigest = 36;
    private const string NotThere = "RESOURCE_DOES_NOT_EXIST";
    private const string There = "RESOURCE_ALREADY_EXISTS";

    private readonly HttpClient http;

    public MlflowClient(Uri server, string? token, TimeSpan timeout)
    {
        Server = server.AbsoluteUri.TrimEnd('/');
        http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false, PooledConnectionLifetime = TimeSpan.FromMinutes(5) })
        {
            BaseAddress = new Uri(Server + "/api/2.0/"),
            Timeout = timeout,
        };
        if (token is not null)
        {
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
        }
    }

    /// <summary>Its address, without a slash at the end.</summary>
    public string Server { get; }

    public void Dispose() => http.Dispose();

    /// <summary>The experiment of that name, made or restored where need be.</summary>
    public async Task<string> ExperimentAsync(string name, CancellationToken ct)
    {
        name = Cut(name, MaxExperimentName);
        if (await FindExperimentAsync(name, ct) is not { } found)
        {
            try
            {
                return (string)(await PostAsync("mlflow/experiments/create", new JsonObject { ["name"] = name }, ct))["experiment_id"]!;
            }
            catch (MlflowException e) when (e.Code == There)
            {
                // Somebody else made it in between.
                found = await FindExperimentAsync(name, ct) ?? throw new DeliveryException(DeliveryFault.Failed, $"Experiment '{name}' is there and is not.");
            }
        }

        var id = (string)found["experiment_id"]!;
        if ((string?)found["lifecycle_stage"] == "deleted")
        {
            await PostAsync("mlflow/experiments/restore", new JsonObject { ["experiment_id"] = id }, ct);
        }

        return id;
    }

    /// <summary>The oldest run of an experiment that has this tag.</summary>
    public async Task<MlflowRun?> FindRunAsync(string experiment, string tag, string value, CancellationToken ct)
    {
        var found = await PostAsync(
            "mlflow/runs/search",
            new JsonObject
            {
                ["experiment_ids"] = new JsonArray(experiment), ["filter"] = $"tags.\"{tag}\" = '{value}'", ["run_view_type"] = "ALL", ["max_results"] = 1,
                ["order_by"] = new JsonArray("attributes.start_time ASC"),
            },
            ct);
        return found["runs"] is JsonArray { Count: > 0 } runs ? Run(runs[0]!) : null;
    }

    public async Task<MlflowRun> GetRunAsync(string run, CancellationToken ct) => Run((await GetAsync($"mlflow/runs/get?run_id={Uri.EscapeDataString(run)}", ct))["run"]!);

    public async Task<MlflowRun> CreateRunAsync(string experiment, string name, long startedAt, IReadOnlyDictionary<string, string> tags, CancellationToken ct) => Run((await PostAsync(
        "mlflow/runs/create",
        new JsonObject { ["experiment_id"] = experiment, ["run_name"] = name, ["start_time"] = startedAt, ["tags"] = Pairs(tags, MaxTagValue) }, ct))["run"]!);

    /// <param name="status">RUNNING, FINISHED, FAILED or KILLED.</param>
    /// <param name="endedAt">Null: it runs.</param>
    public Task UpdateRunAsync(string run, string status, long? endedAt, CancellationToken ct) =>
        PostAsync("mlflow/runs/update", new JsonObject { ["run_id"] = run, ["status"] = status, ["end_time"] = endedAt }, ct);

    /// <param name="metrics">At most <see cref="MaxMetrics"/>.</param>
    public Task LogMetricsAsync(string run, IEnumerable<MlflowMetric> metrics, CancellationToken ct) => PostAsync(
        "mlflow/runs/log-batch",
        new JsonObject
        {
            ["run_id"] = run,
            ["metrics"] = new JsonArray([.. metrics.Select(m => new JsonObject { ["key"] = Key(m.Key), ["value"] = Number(m.Value), ["timestamp"] = m.At, ["step"] = m.Step })]),
        },
        ct);

    public Task LogParamsAsync(string run, IReadOnlyDictionary<string, string> values, CancellationToken ct) => LogPairsAsync(run, "params", values, MaxParamValue, ct);

    public Task SetTagsAsync(string run, IReadOnlyDictionary<string, string> values, CancellationToken ct) => LogPairsAsync(run, "tags", values, MaxTagValue, ct);

    public async Task LogInputsAsync(string run, IReadOnlyList<MlflowDataset> datasets, CancellationToken ct)
    {
        if (datasets.Count > 0)
        {
            await PostAsync(
                "mlflow/runs/log-inputs",
                new JsonObject
                {
                    ["run_id"] = run,
                    ["datasets"] = new JsonArray([.. datasets.Select(d => new JsonObject
                    {
                        ["tags"] = new JsonArray(new JsonObject { ["key"] = "mlflow.data.context", ["value"] = d.Context }),
                        ["dataset"] = new JsonObject
                        {
                            ["name"] = d.Name, ["digest"] = Hex(d.Digest)[..Math.Min(MaxDatasetDigest, Hex(d.Digest).Length)], ["source_type"] = "fastdraft",
                            ["source"] = new JsonObject { ["digest"] = d.Digest, ["from"] = d.Source }.ToJsonString(),
                        },
                    })]),
                },
                ct);
        }
    }

    /// <summary>Through the server's proxy. False: its artifacts do not go through it.</summary>
    public async Task<bool> UploadAsync(MlflowRun run, string path, byte[] content, CancellationToken ct)
    {
        const string Proxied = "mlflow-artifacts:";
        if (!run.ArtifactUri.StartsWith(Proxied, StringComparison.Ordinal) || !Uri.TryCreate(run.ArtifactUri, UriKind.Absolute, out var root))
        {
            return false;
        }

        using var request = new HttpRequestMessage(HttpMethod.Put, $"mlflow-artifacts/artifacts{root.AbsolutePath.TrimEnd('/')}/{string.Join('/', path.Split('/').Select(Uri.EscapeDataString))}")
        {
            Content = new ByteArrayContent(content),
        };
        await SendTextAsync(request, ct);
        return true;
    }

    public async Task RegisterModelAsync(string name, string description, CancellationToken ct)
    {
        try
        {
            await PostAsync("mlflow/registered-models/create", new JsonObject { ["name"] = name, ["description"] = description }, ct);
        }
        catch (MlflowException e) when (e.Code == There)
        {
            // As it should be.
        }
    }

    /// <summary>The version of a registered model that has this tag.</summary>
    public async Task<string?> FindVersionAsync(string model, string tag, string value, CancellationToken ct)
    {
        var page = "";
        do
        {
            var found = await GetAsync(
                $"mlflow/model-versions/search?max_results=200&filter={Uri.EscapeDataString($"name = '{model.Replace("'", "\\'", StringComparison.Ordinal)}'")}{(page.Length > 0 ? "&page_token=" + Uri.EscapeDataString(page) : "")}", ct);
            foreach (var version in found["model_versions"]?.AsArray() ?? [])
            {
                if (version!["tags"]?.AsArray().Any(t => (string?)t!["key"] == tag && (string?)t["value"] == value) is true)
                {
                    return (string)version["version"]!;
                }
            }

            page = (string?)found["next_page_token"] ?? "";
        }
        while (page.Length > 0);
        return null;
    }

    public async Task<string> CreateVersionAsync(string model, string run, string source, string description, IReadOnlyDictionary<string, string> tags, CancellationToken ct) => (string)(await PostAsync(
        "mlflow/model-versions/create",
        new JsonObject { ["name"] = model, ["source"] = source, ["run_id"] = run, ["description"] = description, ["tags"] = Pairs(tags, MaxTagValue) }, ct))["model_version"]!["version"]!;

    public Task SetAliasAsync(string model, string alias, string version, CancellationToken ct) =>
        PostAsync("mlflow/registered-models/alias", new JsonObject { ["name"] = model, ["alias"] = alias, ["version"] = version }, ct);

    public async Task DeleteAliasAsync(string model, string alias, CancellationToken ct)
    {
        using var request = new HttpRequestMessage(HttpMethod.Delete, "mlflow/registered-models/alias") { Content = Json(new JsonObject { ["name"] = model, ["alias"] = alias }) };
        try
        {
            await SendTextAsync(request, ct);
        }
        catch (MlflowException e) when (e.Code is NotThere or "INVALID_PARAMETER_VALUE")
        {
            // It named nothing.
        }
    }

    private async Task LogPairsAsync(string run, string kind, IReadOnlyDictionary<string, string> values, int max, CancellationToken ct)
    {
        foreach (var chunk in values.Chunk(MaxParamsOrTags))
        {
            await PostAsync("mlflow/runs/log-batch", new JsonObject { ["run_id"] = run, [kind] = Pairs(chunk, max) }, ct);
        }
    }

    private async Task<JsonNode?> FindExperimentAsync(string name, CancellationToken ct)
    {
        try
        {
            return (await GetAsync("mlflow/experiments/get-by-name?experiment_name=" + Uri.EscapeDataString(name), ct))["experiment"];
        }
        catch (MlflowException e) when (e.Code == NotThere)
        {
            return null;
        }
    }

    private async Task<JsonNode> PostAsync(string path, JsonObject body, CancellationToken ct)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = Json(body) };
        return await SendAsync(request, ct);
    }

    private async Task<JsonNode> GetAsync(string path, CancellationToken ct)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        return await SendAsync(request, ct);
    }

    private async Task<JsonNode> SendAsync(HttpRequestMessage request, CancellationToken ct)
    {
        try
        {
            return JsonNode.Parse(await SendTextAsync(request, ct)) ?? new JsonObject();
        }
        catch (JsonException e)
        {
            throw new DeliveryException(DeliveryFault.Away, $"{DeliveryException.Place(request)} answered something that is not JSON: is it an MLflow server?", inner: e);
        }
    }

    private async Task<string> SendTextAsync(HttpRequestMessage request, CancellationToken ct)
    {
        using var response = await DeliveryException.SendAsync(http, request, ct);
        if (!response.IsSuccessStatusCode)
        {
            throw await ErrorAsync(response, ct);
        }

        try
        {
            return await response.Content.ReadAsStringAsync(ct);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new DeliveryException(DeliveryFault.Away, $"{DeliveryException.Place(response.RequestMessage!)} broke off its answer: {e.Message}", inner: e);
        }
    }

    private static async Task<MlflowException> ErrorAsync(HttpResponseMessage response, CancellationToken ct)
    {
        var (code, text) = ("", await DeliveryException.TextAsync(response, ct));
        try
        {
            var error = JsonNode.Parse(text);
            (code, text) = ((string?)error?["error_code"] ?? "", (string?)error?["message"] ?? text);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // A proxy in between, or a text that was too long to be read whole.
        }

        // A 404 with a code is the server's word about a thing; one without is the word of an address that is no MLflow.
        var fault = code == NotThere && response.StatusCode == HttpStatusCode.NotFound ? DeliveryFault.Refused : DeliveryException.Judge(response.StatusCode);
        var words = $"MLflow answered {(int)response.StatusCode}{(code.Length > 0 ? " " + code : "")} to {DeliveryException.Place(response.RequestMessage!)}: {text}";
        return new MlflowException(fault, code, words, DeliveryException.Wait(response));
    }

    private static MlflowRun Run(JsonNode run) => new((string)run["info"]!["run_id"]!, (string)run["info"]!["experiment_id"]!, (string?)run["info"]!["artifact_uri"] ?? "");

    private static JsonArray Pairs(IEnumerable<KeyValuePair<string, string>> values, int max) =>
        new([.. values.Select(v => new JsonObject { ["key"] = Key(v.Key), ["value"] = Cut(v.Value, max) })]);

    private static StringContent Json(JsonObject body) => new(body.ToJsonString(), Encoding.UTF8, "application/json");

    /// <summary>JSON has no NaN; the server reads the words.</summary>
    private static JsonNode Number(double value) => double.IsFinite(value) ? JsonValue.Create(value) : JsonValue.Create(value switch { double.PositiveInfinity => "Infinity", double.NegativeInfinity => "-Infinity", _ => "NaN" });

    /// <summary>Other characters than the server takes in names become underscores.</summary>
    internal static string Key(string name)
    {
        var key = new string([.. name.Select(c => char.IsLetterOrDigit(c) || c is '_' or '-' or '.' or ' ' or '/' or ':' ? c : '_')]);
        return key.Length <= MaxKey ? key : key[..MaxKey];
    }

    /// <summary>A text that is too long ends with a mark that says so.</summary>
    internal static string Cut(string text, int max)
    {
        if (text.Length <= max)
        {
            return text;
        }

        var mark = string.Create(CultureInfo.InvariantCulture, $" [cut: {text.Length} characters]");
        var end = max - mark.Length;
        return text[..(char.IsHighSurrogate(text[end - 1]) ? end - 1 : end)] + mark;
    }

    private static string Hex(string digest) => digest[(digest.IndexOf(':', StringComparison.Ordinal) + 1)..];
}
