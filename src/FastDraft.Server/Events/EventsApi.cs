using System.Text.Json.Nodes;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Events;

internal sealed record EventRequest(JsonNode? Payload, string? CorrelationId);

/// <summary>Events from outside: what runs wait for, and what starts published workflows.</summary>
internal static class EventsApi
{
    private const int MaxText = 4000;

    public static void Map(IEndpointRouteBuilder app) => app.MapPost("/api/events/{name}", async (string name, EventRequest? request, IdempotencyKey? key, PipelineHost host, CancellationToken ct) =>
        name.Length > MaxText || request?.CorrelationId?.Length > MaxText
            ? Problems.Result(StatusCodes.Status400BadRequest, $"The name of an event and its correlation id have at most {MaxText} characters.")
            : Results.Ok(await host.PublishEventAsync(name, request?.Payload, request?.CorrelationId, key, ct))).Produces<EventReach>().WithSummary("Publish an event: answers the runs that wait for it and starts workflows that it triggers");
}
