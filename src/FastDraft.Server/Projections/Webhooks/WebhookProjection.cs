using System.Globalization;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Persistence;

namespace FastDraft.Server.Projections.Webhooks;

/// <summary>
/// Posts events to one subscriber. The id of a delivery stays the same however often it is tried, so a receiver can tell what it has had;
/// the time is that of the try, and both it and the body are signed, so an old request cannot be played again.
/// </summary>
internal sealed class WebhookProjection(
    WebhookSubscription subscription, ProjectionOptions options, PipelineStore store, TimeProvider clock, Func<string, CancellationToken, Task<System.Net.IPAddress[]>>? resolve = null) : IProjection
{
    public const string EventHeader = "FastDraft-Event";
    public const string DeliveryHeader = "FastDraft-Delivery";
    public const string TimestampHeader = "FastDraft-Timestamp";
    public const string SignatureHeader = "FastDraft-Signature";

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    private readonly HttpClient http = new(new EgressGuard(subscription.Allow, resolve).Handler()) { Timeout = options.Timeout < Patience ? options.Timeout : Patience, MaxResponseContentBufferSize = 64 << 10 };

    public string Name => "webhook:" + subscription.Name;

    public void Dispose() => http.Dispose();

    public async Task DeliverAsync(OutboxEventRow told, CancellationToken ct)
    {
        if (subscription.Events.Count > 0 && !subscription.Events.Contains(told.Kind))
        {
            return;
        }

        var secret = subscription.Secret ?? throw new DeliveryException(
            DeliveryFault.Away, $"The environment variable '{subscription.SecretName}' is not set, and without the secret in it nothing can be signed. Set it and start the host again.");
        var delivery = string.Create(CultureInfo.InvariantCulture, $"{told.Id}-{told.At:x}");
        var body = JsonSerializer.SerializeToUtf8Bytes(await BodyAsync(told, delivery, ct));
        var timestamp = clock.GetUtcNow().ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture);
        using var request = new HttpRequestMessage(HttpMethod.Post, subscription.Url) { Content = new ByteArrayContent(body) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        request.Headers.Add(EventHeader, told.Kind);
        request.Headers.Add(DeliveryHeader, delivery);
        request.Headers.Add(TimestampHeader, timestamp);
        request.Headers.Add(SignatureHeader, Sign(secret, timestamp, body));
        using var response = await DeliveryException.SendAsync(http, request, ct);
        await DeliveryException.EnsureTakenAsync(response, ct);
    }

    /// <summary><c>v1=</c> and the lower-case hex of HMAC-SHA256 over <c>TIMESTAMP.BODY</c>.</summary>
    public static string Sign(string secret, string timestamp, ReadOnlySpan<byte> body) =>
        "v1=" + Convert.ToHexStringLower(HMACSHA256.HashData(Encoding.UTF8.GetBytes(secret), (byte[])[.. Encoding.UTF8.GetBytes(timestamp + "."), .. body]));

    private async Task<JsonObject> BodyAsync(OutboxEventRow told, string delivery, CancellationToken ct)
    {
        var body = new JsonObject { ["id"] = delivery, ["event"] = told.Kind, ["at"] = DateTimeOffset.FromUnixTimeMilliseconds(told.At).ToString("O", CultureInfo.InvariantCulture) };
        if (told.DataJson is not null)
        {
            body["draft"] = JsonSerializer.SerializeToNode(JsonSerializer.Deserialize<OutboxDraft>(told.DataJson), JsonSerializerOptions.Web);
        }

        if (told.RunId is not { } runId)
        {
            return body;
        }

        var of = await ToldRun.ReadAsync(store, told, ct);
        body["run"] = new JsonObject
        {
            ["id"] = runId.ToString(), ["workflow"] = of.Run.WorkflowName, ["definition"] = of.Run.DefinitionDigest,
            ["url"] = RunPage.Of(options.PublicUrl, runId)?.ToString(),
        };
        if (told.Kind == OutboxEventKind.RunEnded)
        {
            (body["run"]!["state"], body["run"]!["incident"]) = (of.Run.State.ToString(), of.Run.Incident);
        }

        if (of.StageRun is { } stage)
        {
            var isEnd = told.Kind is OutboxEventKind.StageEnded or OutboxEventKind.StageCached;
            body["stageRun"] = new JsonObject
            {
                ["id"] = stage.Id.ToString(), ["activity"] = stage.ActivityId, ["stage"] = stage.Stage,
                ["attempt"] = told.AttemptId is { } attempt ? of.Attempts.FirstOrDefault(a => a.Id == attempt)?.Number : of.Attempts.Count,
                ["state"] = isEnd ? stage.State.ToString() : null, ["failure"] = isEnd ? stage.Failure : null, ["hint"] = isEnd ? stage.Hint : null,
                ["cachedFromRun"] = stage.CachedFromRunId?.ToString(),
                ["outputs"] = new JsonArray([.. (isEnd ? of.Outputs : []).Select(o => new JsonObject { ["port"] = o.Port, ["kind"] = o.Kind, ["digest"] = o.Digest })]),
            };
        }

        return body;
    }
}
