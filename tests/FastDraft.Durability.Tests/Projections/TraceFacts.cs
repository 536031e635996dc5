using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Projections;
using FastDraft.TestKit;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests.Projections;

public sealed class TraceFacts : IDisposable
{
    private readonly TestPipeline pipeline = new();

    public void Dispose() => pipeline.Dispose();

    [Fact]
    public async Task A_run_is_one_tree_of_spans_over_the_host_and_its_workers()
    {
        await using var receiver = await HttpReceiver.StartAsync();

        // What was not taken is told again, as the same spans.
        receiver.Answer = n => n % 3 == 0 ? 503 : 200;
        var projections = new ProjectionOptions { Traces = receiver.Address, TraceHeaders = [KeyValuePair.Create("api-key", "canary-91c2")], TraceService = "drafts" };
        RunView run;
        await using (var host = await PipelineHost.StartAsync(pipeline.Options() with { Projections = projections }))
        {
            run = await FinishAsync(host, MakeAndCopy(dieOnce: true));
            await UntilAsync(async () => (await new ProjectionStore(host.Store, TimeProvider.System).ListAsync())[0].Waiting == 0, "all spans are told");
        }

        Assert.All(receiver.Calls, c => Assert.Equal(("/v1/traces", "canary-91c2"), (c.Path, c.Headers["api-key"])));
        Assert.All(receiver.Calls, c => Assert.Contains("\"stringValue\":\"drafts\"", c.Body, StringComparison.Ordinal));
        var spans = receiver.Calls.SelectMany(c => JsonNode.Parse(c.Body)!["resourceSpans"]![0]!["scopeSpans"]![0]!["spans"]!.AsArray())
            .GroupBy(s => (string)s!["spanId"]!).ToDictionary(g => g.Key, g => Assert.Single(g.Select(s => s!.ToJsonString()).Distinct()), StringComparer.Ordinal)
            .ToDictionary(s => s.Key, s => JsonNode.Parse(s.Value)!);
        Assert.All(spans.Values, s => Assert.Equal(run.Id.ToString("N"), (string?)s["traceId"]));
        Assert.Equal("run", (string?)Assert.Single(spans.Values, s => s["parentSpanId"] is null)["name"]);
        foreach (var span in spans.Values.Where(s => s["parentSpanId"] is not null))
        {
            var parent = spans[(string)span["parentSpanId"]!];
            Assert.Equal(((string)span["name"]!) switch { "stage" => "run", "attempt" => "stage", _ => "attempt" }, (string?)parent["name"]);
            Assert.True(Time(span, "startTimeUnixNano") >= Time(parent, "startTimeUnixNano"));
        }

        var attempts = run.Stages.SelectMany(s => s.Attempts).ToList();
        Assert.Equal(run.Stages.Count, spans.Values.Count(s => (string?)s["name"] == "stage"));
        Assert.Equal(attempts.Count, spans.Values.Count(s => (string?)s["name"] == "attempt"));
        Assert.True(attempts.Count > run.Stages.Count);

        // A worker that was killed says nothing; those that ended tell which process they were, and it was not this one.
        var works = spans.Values.Where(s => (string?)s["name"] == "work").ToList();
        Assert.Equal(attempts.Count(a => a.State == StageRunState.Succeeded), works.Count);
        Assert.All(works, w => Assert.NotEqual(
            Environment.ProcessId.ToString(CultureInfo.InvariantCulture), (string?)w["attributes"]!.AsArray().Single(a => (string?)a!["key"] == "process.pid")!["value"]!["stringValue"]));
        Assert.DoesNotContain("canary", await File.ReadAllTextAsync(Path.Combine(pipeline.Data, "pipeline.db"), System.Text.Encoding.Latin1), StringComparison.Ordinal);
    }

    [Fact]
    public void Headers_are_read_as_OpenTelemetry_writes_them_and_a_wrong_one_is_not_repeated()
    {
        var read = ProjectionOptions.Read(Variables("http://127.0.0.1:4318", "api-key=a%20b, tenant=7"));
        Assert.Equal([KeyValuePair.Create("api-key", "a b"), KeyValuePair.Create("tenant", "7")], read.TraceHeaders);
        Assert.DoesNotContain("secret", Assert.Throws<Core.Stages.StageFailureException>(() => ProjectionOptions.Read(Variables("http://127.0.0.1:4318", "secret"))).Message, StringComparison.Ordinal);
        Assert.Null(ProjectionOptions.Read(_ => null).Traces);
    }

    private static Func<string, string?> Variables(string endpoint, string headers) => name => name switch
    {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS" => headers,
        _ => null,
    };

    private static long Time(JsonNode span, string name) => long.Parse((string)span[name]!, CultureInfo.InvariantCulture);
}
