using System.Text.Json;

namespace FastDraft.Server.Worker;

/// <param name="At">Unix milliseconds by the worker's clock.</param>
internal readonly record struct MetricPoint(string Name, long Step, double Value, long At);

/// <summary>
/// One line of a worker. Only an object whose members have the right types is part of the protocol; everything else that a
/// process may write to its output is text.
/// </summary>
internal sealed record WorkerLine(string Json, MetricPoint? Metric = null, (string Message, string? Hint)? Failure = null, string? Outcome = null, long? PeakRssBytes = null)
{
    /// <param name="isProtocol">False for a stream that carries text only.</param>
    public static WorkerLine Read(string line, bool isProtocol, long now)
    {
        if (isProtocol && line.StartsWith('{') && TryRead(line, now) is { } known)
        {
            return known;
        }

        return new WorkerLine(JsonSerializer.Serialize(new { type = "log", level = "Information", message = line, at = now }));
    }

    private static WorkerLine? TryRead(string line, long now)
    {
        try
        {
            using var document = JsonDocument.Parse(line);
            var root = document.RootElement;
            return Text(root, "type") switch
            {
                "metric" => Text(root, "name") is { } name && Number(root, "value") is { } value && double.IsFinite(value) && Whole(root, "step") is { } step
                    ? new(line, Metric: new(name, step, value, Whole(root, "at") is { } at and > 0 ? at : now)) : null,
                "progress" => Whole(root, "done") is not null && Text(root, "unit") is not null ? new(line) : null,
                "log" => Text(root, "message") is not null && Text(root, "level") is not null ? new(line) : null,
                "outcome" => Text(root, "name") is { } outcome ? new(line, Outcome: outcome) : null,
                "span" => Text(root, "parent") is not null && Text(root, "id") is not null ? new(line) : null,
                "memory" => Whole(root, "peakRssBytes") is { } peak ? new(line, PeakRssBytes: peak) : null,
                "failure" => Text(root, "message") is { } message ? new(line, Failure: (message, Text(root, "hint"))) : null,
                _ => null,
            };
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // Not JSON, or a string that is no valid Unicode.
            return null;
        }
    }

    private static string? Text(JsonElement root, string name) =>
        root.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private static double? Number(JsonElement root, string name) =>
        root.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) ? number : null;

    private static long? Whole(JsonElement root, string name) =>
        root.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out var number) ? number : null;
}
