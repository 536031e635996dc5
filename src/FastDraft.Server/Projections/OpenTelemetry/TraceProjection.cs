using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Persistence;

namespace FastDraft.Server.Projections.OpenTelemetry;

/// <summary>
/// Sends spans to a collector as OTLP over HTTP. They are told when what they measure has ended, from the tables: a collector that was away
/// gets them later, and no run waits for it.
/// </summary>
internal sealed class TraceProjection : IProjection
{
    private const int LogTail = 64 << 10;

    private readonly PipelineStore store;
    private readonly Uri address;
    private readonly string service;
    private readonly HttpClient http;

    public TraceProjection(ProjectionOptions options, PipelineStore store)
    {
        this.store = store;
        address = new Uri(options.Traces!.AbsoluteUri.TrimEnd('/') + "/v1/traces");
        service = options.TraceService;
        http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, PooledConnectionLifetime = TimeSpan.FromMinutes(5) }) { Timeout = options.Timeout };
        foreach (var (name, value) in options.TraceHeaders)
        {
            http.DefaultRequestHeaders.TryAddWithoutValidation(name, value);
        }
    }

    public string Name => "traces";

    public void Dispose() => http.Dispose();

    public async Task DeliverAsync(OutboxEventRow told, CancellationToken ct)
    {
        if (told.Kind is not (OutboxEventKind.RunEnded or OutboxEventKind.StageEnded or OutboxEventKind.StageCached))
        {
            return;
        }

        var of = await ToldRun.ReadAsync(store, told, ct);
        var spans = of.StageRun is { } stage ? [TraceSpans.Of(of.Run, stage)] : new List<JsonObject> { TraceSpans.Of(of.Run) };
        foreach (var attempt in of.Attempts)
        {
            spans.Add(TraceSpans.Of(of.Run, attempt));

            // A worker says last what it was.
            var (lines, _, _) = await store.Queries.LogTailAsync(attempt.Id, LogTail, ct);
            spans.AddRange(lines.Where(l => l.StartsWith("{\"type\":\"span\"", StringComparison.Ordinal)).Select(l => TraceSpans.OfLine(of.Run, attempt, Object(l))).OfType<JsonObject>());
        }

        using var request = new HttpRequestMessage(HttpMethod.Post, address) { Content = new StringContent(TraceSpans.Request(service, spans).ToJsonString(), Encoding.UTF8, "application/json") };
        using var response = await DeliveryException.SendAsync(http, request, ct);
        await DeliveryException.EnsureTakenAsync(response, ct);
    }

    private static JsonObject Object(string line)
    {
        try
        {
            return JsonNode.Parse(line) as JsonObject ?? [];
        }
        catch (JsonException)
        {
            return [];
        }
    }
}
