using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Persistence.Security;
using FastDraft.Server.Security;
using FastDraft.Server.Web;
using FastDraft.Stages;
using Microsoft.AspNetCore.Routing;
using Microsoft.Data.Sqlite;

namespace FastDraft.Server.Tests;

/// <summary>The service as it is: Kestrel on a free port, SQLite in a folder, the repository's workflow files. Workers are not needed by these facts.</summary>
public sealed class RunningService : IAsyncLifetime
{
    public const string Api = "/elsa/api";
    public const string Admin = "tests";
    private readonly TestFolder folder = new();
    private PipelineHost host = null!;
    private PipelineWeb web = null!;

    public string DataFolder => Path.Join(folder.Path, "data");

    /// <summary>Whether some file stands where the designer's are, beside the data folder.</summary>
    public bool HasStudio { get; init; }

    /// <summary>Signed in as an admin named <see cref="Admin"/>.</summary>
    public HttpClient Http { get; private set; } = null!;

    public Uri Address => web.Address;

    public CredentialStore Credentials { get; private set; } = null!;

    internal IEnumerable<RouteEndpoint> Endpoints => web.Endpoints;

    public IReadOnlyList<string> Routes => web.Routes;

    public async ValueTask InitializeAsync()
    {
        var options = new PipelineOptions
        {
            DataFolder = DataFolder,
            WorkerFile = "/bin/false",
            Stages = BuiltinStages.Descriptors,
            WorkflowFolder = Path.Join(TestFolder.Repository, "workflows"),
        };
        var studio = Path.Join(folder.Path, "studio");
        if (HasStudio)
        {
            await File.WriteAllTextAsync(Path.Join(Directory.CreateDirectory(studio).FullName, "known.js"), "known");
        }

        host = await PipelineHost.StartAsync(options);
        web = await PipelineWeb.StartAsync(host, options, new WebOptions { Url = new Uri("http://127.0.0.1:0"), StudioFolder = HasStudio ? studio : null });
        Credentials = new CredentialStore(host.Store, options.Clock);
        Http = Client(await TokenAsync(Admin, Role.Admin));
    }

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await web.DisposeAsync();
        await host.DisposeAsync();
        folder.Dispose();
    }

    /// <summary>A token that lasts an hour.</summary>
    public async Task<string> TokenAsync(string name, Role role) => (await Credentials.CreateTokenAsync(name, role, TimeSpan.FromHours(1), TestContext.Current.CancellationToken)).Secret;

    /// <summary>A caller who follows no redirect and keeps no cookie.</summary>
    /// <param name="token">Null: who is not signed in.</param>
    /// <param name="from">The address of this machine that the caller has.</param>
    public HttpClient Client(string? token, string from = "127.0.0.1")
    {
        var http = new HttpClient(new SocketsHttpHandler
        {
            AllowAutoRedirect = false, UseCookies = false, ConnectCallback = async (context, ct) =>
            {
                var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
                socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
                await socket.ConnectAsync(context.DnsEndPoint, ct);
                return new NetworkStream(socket, ownsSocket: true);
            },
        }) { BaseAddress = web.Address };
        if (token is not null)
        {
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
        }

        return http;
    }

    public async Task<(int Status, JsonNode? Body)> GetAsync(string path)
    {
        using var response = await Http.GetAsync(new Uri(path, UriKind.Relative));
        return ((int)response.StatusCode, await BodyAsync(response));
    }

    public async Task<(int Status, JsonNode? Body)> PostAsync(string path, JsonNode? body)
    {
        using var response = await Http.PostAsync(new Uri(path, UriKind.Relative), new StringContent(body?.ToJsonString() ?? "null", Encoding.UTF8, "application/json"));
        return ((int)response.StatusCode, await BodyAsync(response));
    }

    public Task<(int Status, JsonNode? Body)> SaveAsync(JsonObject model, bool publish) => PostAsync(Api + "/workflow-definitions", new JsonObject { ["model"] = model.DeepClone(), ["publish"] = publish });

    /// <summary>Completes when the run has ended: it begins some moments after it was asked for.</summary>
    public async Task EndAsync(Guid run)
    {
        await foreach (var _ in host.WatchAsync(run, TestContext.Current.CancellationToken))
        {
        }
    }

    /// <summary>The activity instance of the run's gate, once it waits there.</summary>
    public async Task<string> GateAsync(Guid run)
    {
        await foreach (var e in host.WatchAsync(run, TestContext.Current.CancellationToken))
        {
            if (e is GateOpened opened)
            {
                return opened.Reference[(opened.Reference.IndexOf('/', StringComparison.Ordinal) + 1)..];
            }
        }

        throw new InvalidOperationException($"Run {run} ended without a gate.");
    }

    /// <summary>What an administrator, a crash or an older version may have left in the tables.</summary>
    public void Sql(string command)
    {
        using var connection = new SqliteConnection($"Data Source={Path.Join(DataFolder, "pipeline.db")}");
        connection.Open();
        using var execute = connection.CreateCommand();
        execute.CommandText = command;
        execute.ExecuteNonQuery();
    }

    public static JsonObject Workflow(string id, string name, string text) => JsonNode.Parse($$"""
        { "definitionId": "{{id}}", "name": "{{name}}", "root": { "id": "Flowchart1", "name": "Flowchart1", "type": "Elsa.Flowchart", "version": 1, "activities": [
          { "id": "write", "name": "write", "type": "Elsa.WriteLine", "version": 1, "text": { "typeName": "String", "expression": { "type": "Literal", "value": "{{text}}" } } } ], "connections": [] } }
        """)!.AsObject();

    private static async Task<JsonNode?> BodyAsync(HttpResponseMessage response) =>
        response.Content.Headers.ContentType?.MediaType is "application/json" or "application/problem+json" ? await response.Content.ReadFromJsonAsync<JsonNode>() : null;
}
