using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Persistence;

namespace FastDraft.Server.Projections.OpenTelemetry;

/// <summary>What has ended as OTLP spans, JSON encoding of its 1.x protocol: run, stage, attempt, and what the worker says of itself.</summary>
internal static class TraceSpans
{
    private const int Internal = 1;
    private const int Ok = 1;
    private const int Error = 2;

    /// <summary>The request that tells of these spans.</summary>
    public static JsonObject Request(string service, IEnumerable<JsonObject> spans) => new()
    {
        ["resourceSpans"] = new JsonArray(new JsonObject
        {
            ["resource"] = new JsonObject { ["attributes"] = Attributes(("service.name", service)) },
            ["scopeSpans"] = new JsonArray(new JsonObject { ["scope"] = new JsonObject { ["name"] = "fastdraft" }, ["spans"] = new JsonArray([.. spans]) }),
        }),
    };

    public static JsonObject Of(RunRow run) => Span(
        run.Id, TraceIds.Span(run.Id), null, "run", run.CreatedAt, run.EndedAt ?? run.CreatedAt, run.State == RunState.Succeeded, run.Incident,
        ("fastdraft.workflow", run.WorkflowName), ("fastdraft.run", run.Id.ToString()), ("fastdraft.state", run.State.ToString()));

    public static JsonObject Of(RunRow run, StageRunRow stage) => Span(
        run.Id, TraceIds.Span(stage.Id), TraceIds.Span(run.Id), "stage", stage.CreatedAt, stage.EndedAt ?? stage.CreatedAt,
        stage.State is StageRunState.Succeeded or StageRunState.Cached or StageRunState.Skipped, stage.Failure,
        ("fastdraft.stage", stage.Stage), ("fastdraft.activity", stage.ActivityId), ("fastdraft.state", stage.State.ToString()), ("fastdraft.cached_from", stage.CachedFromRunId?.ToString()));

    public static JsonObject Of(RunRow run, AttemptRow attempt) => Span(
        run.Id, TraceIds.Span(attempt.Id), TraceIds.Span(attempt.StageRunId), "attempt", attempt.StartedAt, attempt.EndedAt ?? attempt.StartedAt, attempt.State == StageRunState.Succeeded, attempt.Failure,
        ("fastdraft.attempt", attempt.Number.ToString(CultureInfo.InvariantCulture)), ("fastdraft.state", attempt.State.ToString()), ("process.exit.code", attempt.ExitCode?.ToString(CultureInfo.InvariantCulture)));

    /// <summary>A worker's line of type <c>span</c>; null: it is none, or not of this attempt.</summary>
    public static JsonObject? OfLine(RunRow run, AttemptRow attempt, JsonObject line) =>
        (string?)line["type"] == "span" && (string?)line["parent"] == TraceIds.Parent(run.Id, attempt.Id) && (string?)line["id"] is { Length: 16 } id && id.All(char.IsAsciiHexDigitLower)
        && line["startedAt"] is JsonValue started && started.TryGetValue<long>(out var from) && line["at"] is JsonValue ended && ended.TryGetValue<long>(out var to)
            ? Span(run.Id, id, TraceIds.Span(attempt.Id), "work", from, to, (int?)line["exitCode"] == 0, null, ("process.pid", ((int?)line["process"])?.ToString(CultureInfo.InvariantCulture)))
            : null;

    private static JsonObject Span(Guid run, string id, string? parent, string name, long startedAt, long endedAt, bool isGood, string? failure, params (string Name, string? Value)[] attributes)
    {
        var span = new JsonObject { ["traceId"] = TraceIds.Trace(run), ["spanId"] = id };
        if (parent is not null)
        {
            span["parentSpanId"] = parent;
        }

        span["name"] = name;
        span["kind"] = Internal;
        span["startTimeUnixNano"] = Nanoseconds(startedAt);
        span["endTimeUnixNano"] = Nanoseconds(Math.Max(startedAt, endedAt));
        span["attributes"] = Attributes(attributes);
        span["status"] = isGood ? new JsonObject { ["code"] = Ok } : new JsonObject { ["code"] = Error, ["message"] = failure ?? "" };
        return span;
    }

    private static string Nanoseconds(long milliseconds) => (milliseconds * 1_000_000).ToString(CultureInfo.InvariantCulture);

    private static JsonArray Attributes(params (string Name, string? Value)[] attributes) =>
        [.. attributes.Where(a => a.Value is not null).Select(a => (JsonNode?)new JsonObject { ["key"] = a.Name, ["value"] = new JsonObject { ["stringValue"] = a.Value } })];
}
