using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Server;
using FastDraft.Server.Projections;
using FastDraft.TestKit;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests.Projections;

public sealed class OpenLineageFacts : IDisposable
{
    private readonly TestPipeline pipeline = new();

    private string EventFile => pipeline.PathOf("lineage/events.jsonl");

    public void Dispose() => pipeline.Dispose();

    [Fact]
    public async Task Every_event_is_what_the_published_schemas_say_and_every_run_that_starts_ends()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var events = await RunAllKindsAsync();
        var schemas = OpenLineageSchemas.Read();
        foreach (var told in events)
        {
            Assert.Empty(await schemas.ProblemsAsync(told));
        }

        foreach (var run in events.GroupBy(e => (string)e["run"]!["runId"]!))
        {
            var types = run.Select(e => (string)e["eventType"]!).ToList();
            Assert.Equal(2, types.Count);
            Assert.Equal("START", types[0]);
        }

        Assert.Equal(["ABORT", "COMPLETE", "FAIL", "START"], events.Select(e => (string)e["eventType"]!).Distinct().Order(StringComparer.Ordinal));

        // Stage runs name their run as parent, and what one wrote is what the next read.
        var copied = events.First(e => (string)e["job"]!["name"]! == "t.copy" && (string)e["eventType"]! == "COMPLETE");
        var made = events.First(e => (string)e["job"]!["name"]! == "t.make" && (string)e["eventType"]! == "COMPLETE");
        Assert.Equal((string)made["outputs"]![0]!["name"]!, (string)copied["inputs"]![0]!["name"]!);
        var parent = copied["run"]!["facets"]!["parent"]!;
        Assert.Contains(events, e => (string)e["run"]!["runId"]! == (string)parent["run"]!["runId"]! && (string)e["job"]!["name"]! == (string)parent["job"]!["name"]!);
    }

    [Fact]
    public async Task The_validator_finds_what_is_wrong_with_an_event()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var whole = (await RunAllKindsAsync()).First(e => (string)e["eventType"]! == "FAIL" && e["run"]!["facets"]!["parent"] is not null);
        var schemas = OpenLineageSchemas.Read();
        (string What, Action<JsonObject> Spoil)[] spoilt =
        [
            ("no time", e => e.Remove("eventTime")), ("no producer", e => e.Remove("producer")), ("no run", e => e.Remove("run")), ("no job", e => e.Remove("job")),
            ("a time that is none", e => e["eventTime"] = "yesterday"), ("a type that is none", e => e["eventType"] = "ENDED"), ("a run id that is none", e => e["run"]!["runId"] = "7"),
            ("a job without a namespace", e => e["job"]!.AsObject().Remove("namespace")), ("inputs that are none", e => e["inputs"] = "none"),
            ("a dataset without a name", e => e["outputs"] = new JsonArray(new JsonObject { ["namespace"] = "x" })),
            ("a facet without a producer", e => e["run"]!["facets"]!["parent"]!.AsObject().Remove("_producer")),
            ("a facet without its content", e => e["run"]!["facets"]!["errorMessage"]!.AsObject().Remove("message")),
            ("a parent without a run", e => e["run"]!["facets"]!["parent"]!["run"]!.AsObject().Remove("runId")),
            ("our facet without its content", e => e["run"]!["facets"]!["fastDraft_stage"]!.AsObject().Remove("stage")),
            ("our facet with the wrong content", e => e["run"]!["facets"]!["fastDraft_stage"]!["version"] = "one"),
        ];
        foreach (var (what, spoil) in spoilt)
        {
            var copy = whole.DeepClone().AsObject();
            spoil(copy);
            Assert.True((await schemas.ProblemsAsync(copy)).Count > 0, $"Not noticed: {what}.");
        }
    }

    [Fact]
    public async Task A_line_that_was_torn_by_a_crash_is_cut_and_its_event_told_whole()
    {
        Directory.CreateDirectory(Path.GetDirectoryName(EventFile)!);
        await File.WriteAllTextAsync(EventFile, "{\"whole\":true}\n{\"torn\":tr");
        await RunAllKindsAsync(MakeAndCopy());
        var lines = await File.ReadAllLinesAsync(EventFile);
        Assert.Equal("{\"whole\":true}", lines[0]);
        Assert.Equal(7, lines.Length);
        Assert.All(lines, line => Assert.NotNull(JsonNode.Parse(line)));
    }

    [Fact]
    public async Task Events_go_to_an_address_with_a_token_and_the_same_event_is_the_same_text()
    {
        await using var receiver = await HttpReceiver.StartAsync();
        receiver.Answer = n => n is 1 or 2 ? 500 : 201;
        var projections = new ProjectionOptions { OpenLineage = receiver.Address.ToString(), OpenLineageToken = "canary-7f3a" };
        await using var host = await PipelineHost.StartAsync(pipeline.Options() with { Projections = projections });
        await FinishAsync(host, MakeAndCopy());
        await UntilAsync(async () => (await new ProjectionStore(host.Store, TimeProvider.System).ListAsync())[0].Waiting == 0, "all were told");
        var calls = receiver.Calls.ToList();
        Assert.Equal(8, calls.Count);
        Assert.All(calls, c => Assert.Equal("Bearer canary-7f3a", c.Headers["Authorization"]));
        Assert.Equal(6, calls.Select(c => c.Body).Distinct().Count());

        // The token is in no row.
        Assert.DoesNotContain("canary", await File.ReadAllTextAsync(Path.Combine(pipeline.Data, "pipeline.db"), System.Text.Encoding.Latin1), StringComparison.Ordinal);
    }

    /// <summary>Runs that succeed, are cached, fail while they are prepared and while they work, are retried, and are cancelled; or one workflow.</summary>
    private async Task<IReadOnlyList<JsonObject>> RunAllKindsAsync(JsonObject? only = null)
    {
        await using (var host = await PipelineHost.StartAsync(pipeline.Options() with { Projections = new ProjectionOptions { OpenLineage = EventFile } }))
        {
            if (only is not null)
            {
                await FinishAsync(host, only);
            }
            else
            {
                await FinishAsync(host, MakeAndCopy(dieOnce: true));
                await FinishAsync(host, MakeAndCopy());
                await FinishAsync(host, MakeAndCopy(source: pipeline.PathOf("absent")));
                await FinishAsync(host, Sequence(Activity("fail", "Measure", ("note", Literal("String", "fail")))));
                var id = await SubmitAsync(host, MakeAndCopy(number: 3, waitFor: pipeline.PathOf("never")));
                await LineAsync(host.Store, id, "waiting");
                await host.CancelAsync(id);
                Assert.Equal(RunState.Cancelled, (await WaitAsync(host, id)).State);
            }
        }

        return [.. File.ReadLines(EventFile).Select(l => JsonNode.Parse(l)!.AsObject()).Where(e => e.ContainsKey("eventType"))];
    }
}
