using System.Text.Json.Nodes;
using FastDraft.Server.Definitions;
using FastDraft.Server.Dispatch;

namespace FastDraft.Server.Events;

/// <summary>How many waits an event answered, and how many runs it started.</summary>
public sealed record EventReach(int Waits, int Runs);

/// <summary>Publishes events from outside of runs. What they lead to is in the tables before this returns, and whichever host lives does it.</summary>
public sealed class EventPublisher(PipelineOptions options, PipelineStore store, DefinitionStore definitions)
{
    /// <param name="correlationId">Only runs that have this correlation id are meant; null means any run.</param>
    public Task<EventReach> PublishAsync(string eventName, JsonNode? payload, string? correlationId, CancellationToken ct) =>
        new RunEngine(options, store, definitions).PublishAsync(eventName, payload, correlationId, null, ct);
}
