using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Projections;
using FastDraft.Server.Projections.Mlflow;
using FastDraft.TestKit;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests.Projections;

/// <summary>Against the real server, and where it has to misbehave, against the real server behind a proxy that does.</summary>
[Collection(MlflowBackends.Name)]
public sealed class MlflowFacts(MlflowBackend mlflow) : IDisposable
{
    private const int Points = 2500;

    private readonly TestPipeline pipeline = new();

    public void Dispose() => pipeline.Dispose();

    [Fact]
    public async Task A_run_is_shown_with_its_stages_settings_curves_inputs_and_report_and_the_links_go_both_ways()
    {
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        await using var host = await StartAsync(mlflow.Address, new Uri("http://fastdraft.test:5080"));
        var note = new string('n', 7000);
        var run = await FinishAsync(host, Measure(note, source: true));
        await MlflowBackend.DrainedAsync(host.Store);

        var parent = await mlflow.RunAsync(run);
        Assert.Equal("FINISHED", (string)parent["info"]!["status"]!);
        Assert.Equal($"http://fastdraft.test:5080/runs/{run.Id}", MlflowBackend.Tag(parent, "fastdraft.url"));
        Assert.Equal(run.DefinitionDigest, MlflowBackend.Tag(parent, "fastdraft.definitionDigest"));

        var stage = run.Stages.Single(s => s.Stage == "Measure");
        var child = await mlflow.StageRunAsync(stage);
        Assert.Equal((string)parent["info"]!["run_id"]!, MlflowBackend.Tag(child, "mlflow.parentRunId"));
        Assert.Equal(stage.Outputs[0].Digest, MlflowBackend.Tag(child, "fastdraft.output.made"));
        Assert.Equal(Points.ToString(System.Globalization.CultureInfo.InvariantCulture), MlflowBackend.Param(child, "points"));
        var cut = MlflowBackend.Param(child, "note")!;
        Assert.Equal((6000, "[cut: 7000 characters]"), (cut.Length, cut[^22..]));
        await AssertPointsAsync(host.Store, run);

        // What it read, and what people read of what it wrote.
        var copied = await mlflow.StageRunAsync(run.Stages.Single(s => s.Stage == "Copy"));
        var dataset = Assert.Single(copied["inputs"]!["dataset_inputs"]!.AsArray())!["dataset"]!;
        Assert.Equal(run.Stages.Single(s => s.Stage == "Make").Outputs[0].Digest["sha256:".Length..][..36], (string)dataset["digest"]!);
        Assert.Equal("<p>measured</p>", await mlflow.TextAsync(
            $"/api/2.0/mlflow-artifacts/artifacts/{(string)child["info"]!["experiment_id"]!}/{(string)child["info"]!["run_id"]!}/artifacts/made/report.html"));

        var links = await MlflowLinks.OfRunAsync(host.Store, run.Id);
        Assert.Equal(4, links.Count);
        Assert.EndsWith((string)child["info"]!["run_id"]!, links[stage.Id].ToString(), StringComparison.Ordinal);

        // A second run takes the outputs of the first; it is a run of its own that says so.
        var second = await FinishAsync(host, Measure(note, source: true));
        await MlflowBackend.DrainedAsync(host.Store);
        Assert.Equal(run.Id.ToString(), MlflowBackend.Tag(await mlflow.StageRunAsync(second.Stages.Single(s => s.Stage == "Measure")), "fastdraft.cachedFromRun"));
    }

    [Fact]
    public async Task A_run_that_fails_or_is_cancelled_is_shown_so()
    {
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        await using var host = await StartAsync(mlflow.Address);
        var failed = await FinishAsync(host, Sequence(Activity("measure", "Measure", ("note", Literal("String", "fail")))));
        var id = await SubmitAsync(host, MakeAndCopy(waitFor: pipeline.PathOf("never")));
        await LineAsync(host.Store, id, "waiting");
        await host.CancelAsync(id);
        var cancelled = await WaitAsync(host, id);
        await MlflowBackend.DrainedAsync(host.Store);
        Assert.Equal(("FAILED", "FAILED"), ((string)(await mlflow.RunAsync(failed))["info"]!["status"]!, (string)(await mlflow.StageRunAsync(failed.Stages[0]))["info"]!["status"]!));
        Assert.Contains("nothing to measure", MlflowBackend.Tag(await mlflow.StageRunAsync(failed.Stages[0]), "fastdraft.failure")!, StringComparison.Ordinal);
        Assert.Equal(("KILLED", "KILLED"), ((string)(await mlflow.RunAsync(cancelled))["info"]!["status"]!, (string)(await mlflow.StageRunAsync(cancelled.Stages[0]))["info"]!["status"]!));
    }

    [Fact]
    public async Task A_point_that_is_sent_twice_is_one_point_and_infinite_and_undefined_ones_arrive()
    {
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        using var client = new MlflowClient(mlflow.Address, null, TimeSpan.FromSeconds(30));
        var run = await client.CreateRunAsync(await client.ExperimentAsync("twice", default), "twice", 1, new Dictionary<string, string>(), default);
        MlflowMetric[] batch = [new("loss", 0.5, 1000, 1), new("loss", 0.25, 1000, 2), new("odd name\u00fc?*", double.NaN, 1000, 1), new("huge", double.PositiveInfinity, 1000, 1)];
        await client.LogMetricsAsync(run.Id, batch, default);
        await client.LogMetricsAsync(run.Id, [.. batch, new MlflowMetric("loss", 0.125, 1000, 3)], default);
        var shown = (await mlflow.GetAsync("runs/get?run_id=" + run.Id))["run"]!;
        Assert.Equal([(1L, 0.5), (2L, 0.25), (3L, 0.125)], (await mlflow.PointsAsync(shown, "loss")).Select(p => (p.Step, p.Value)));
        Assert.Equal(3, shown["data"]!["metrics"]!.AsArray().Count);
    }

    [Fact]
    public async Task More_settings_than_a_batch_takes_arrive_all_and_again_does_nothing()
    {
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        using var client = new MlflowClient(mlflow.Address, null, TimeSpan.FromSeconds(30));
        var run = await client.CreateRunAsync(await client.ExperimentAsync("many", default), "many", 1, new Dictionary<string, string>(), default);
        var settings = Enumerable.Range(0, 250).ToDictionary(i => $"setting{i}", i => i % 2 == 0 ? "" : $"{i}");
        await client.LogParamsAsync(run.Id, settings, default);
        await client.LogParamsAsync(run.Id, settings, default);
        Assert.Equal(250, (await mlflow.GetAsync("runs/get?run_id=" + run.Id))["run"]!["data"]!["params"]!.AsArray().Count);
        var e = await Assert.ThrowsAsync<MlflowException>(() => client.LogParamsAsync(run.Id, new Dictionary<string, string> { ["setting1"] = "another" }, default));
        Assert.Equal((DeliveryFault.Refused, "INVALID_PARAMETER_VALUE"), (e.Fault, e.Code));
        Assert.Equal((DeliveryFault.Refused, "RESOURCE_DOES_NOT_EXIST"), await FaultAsync(() => client.UpdateRunAsync("0123", "FINISHED", 1, default)));
    }

    /// <summary>The host dies at the worst two moments: MLflow has what was sent, and nothing here remembers it.</summary>
    [Theory]
    [InlineData(Failpoint.MlflowRunCreated)]
    [InlineData(Failpoint.MetricsSent)]
    public async Task A_host_that_dies_between_sending_and_remembering_doubles_nothing(string point)
    {
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        using (var dying = pipeline.StartHostProcess(Measure(), failpoint: point, environment: ("FASTDRAFT_MLFLOW", mlflow.Address.ToString())))
        {
            await dying.WaitForExitAsync();
            Assert.Equal(128 + 9, dying.ExitCode);
        }

        await using var host = await StartAsync(mlflow.Address);
        var run = await WaitAsync(host, Assert.Single(await host.Queries.ListRunsAsync()).Id);
        await MlflowBackend.DrainedAsync(host.Store);
        Assert.Equal("FINISHED", (string)(await mlflow.RunAsync(run))["info"]!["status"]!);
        await AssertPointsAsync(host.Store, run);
    }

    [Fact]
    public async Task A_server_that_does_what_it_is_told_and_does_not_say_so_gets_nothing_twice()
    {
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        await using var proxy = await FaultProxy.StartAsync(mlflow.Address);
        var lost = new HashSet<string>();
        proxy.Choose = request =>
            (request.Path.Value!.EndsWith("/runs/create", StringComparison.Ordinal) || request.Path.Value.EndsWith("/log-batch", StringComparison.Ordinal)) && lost.Add(request.Path) ? Fault.Reset : Fault.None;
        await using var host = await StartAsync(proxy.Address);
        var run = await FinishAsync(host, Measure());
        await MlflowBackend.DrainedAsync(host.Store);
        Assert.Equal(2, lost.Count);
        Assert.Equal("FINISHED", (string)(await mlflow.RunAsync(run))["info"]!["status"]!);
        await AssertPointsAsync(host.Store, run);
    }

    [Fact]
    public async Task A_server_that_is_down_and_then_slow_delays_no_run_and_has_every_point_once_afterwards()
    {
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        await using var proxy = await FaultProxy.StartAsync(mlflow.Address);
        await using var host = await StartAsync(proxy.Address);
        proxy.Choose = _ => Fault.Down;
        var down = await FinishAsync(host, Measure());
        Assert.Equal(RunState.Succeeded, down.State);
        await UntilAsync(async () => (await new ProjectionStore(host.Store, TimeProvider.System).ListAsync())[0] is { Problem: not null, Quarantined: 0 }, "the projection says what its problem is");

        (proxy.Choose, proxy.Lateness) = (_ => Fault.Late, TimeSpan.FromSeconds(30));
        await new ProjectionStore(host.Store, TimeProvider.System).RetryAsync("mlflow");
        var slow = await FinishAsync(host, Measure("slow"));
        Assert.Equal(RunState.Succeeded, slow.State);
        Assert.True(slow.EndedAt - slow.CreatedAt < TimeSpan.FromSeconds(30), "The run waited for MLflow.");

        // A call that hangs is not waited for when the host stops either; the next one ends it.
        await host.DisposeAsync();
        proxy.Choose = _ => Fault.None;
        await using var next = await StartAsync(proxy.Address);
        await MlflowBackend.DrainedAsync(next.Store);
        await AssertPointsAsync(next.Store, down);
        await AssertPointsAsync(next.Store, slow);
    }

    [Fact]
    public async Task What_a_person_deleted_in_mlflow_stays_deleted_and_is_seen_and_the_rest_goes_on()
    {
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        var gate = pipeline.PathOf("gate");
        await using var host = await StartAsync(mlflow.Address);
        var id = await SubmitAsync(host, MakeAndCopy(waitFor: gate));
        await LineAsync(host.Store, id, "waiting");
        await MlflowBackend.DrainedAsync(host.Store);
        var stage = (await host.Queries.GetRunAsync(id))!.Stages[0];
        await mlflow.PostAsync("runs/delete", new JsonObject { ["run_id"] = (string)(await mlflow.StageRunAsync(stage))["info"]!["run_id"]! });
        await File.WriteAllTextAsync(gate, "");
        var run = await WaitAsync(host, id);
        await MlflowBackend.DrainedAsync(host.Store, refused: 1);
        var view = (await new ProjectionStore(host.Store, TimeProvider.System).ListAsync())[0];
        Assert.Equal(OutboxEventKind.StageEnded, Assert.Single(view.Refused).Kind);
        Assert.Contains("400", view.Refused[0].Problem!, StringComparison.Ordinal);
        Assert.Equal("FINISHED", (string)(await mlflow.RunAsync(run))["info"]!["status"]!);
        Assert.Equal("FINISHED", (string)(await mlflow.StageRunAsync(run.Stages[1]))["info"]!["status"]!);
    }

    [Fact]
    public async Task A_draft_is_a_registered_model_whose_aliases_follow()
    {
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        await using var host = await StartAsync(mlflow.Address);
        var run = await FinishAsync(host, MakeAndCopy());
        var name = "draft-" + run.Id.ToString("N");
        var target = "sha256:" + new string('a', 64);
        await using (var db = host.Store.Open())
        {
            foreach (var version in new[] { 1, 2 })
            {
                db.Drafts.Add(new DraftRow
                {
                    Id = Guid.CreateVersion7(), Name = name, Version = version, TargetDigest = target, ModelDigest = run.Stages[version - 1].Outputs[0].Digest, EvaluationDigest = "", RunId = run.Id,
                });
                await db.SaveChangesAsync();
            }

            foreach (var (alias, version) in new[] { ("champion", 1), ("challenger", 2) })
            {
                db.DraftAliases.Add(new DraftAliasRow { Name = name, TargetDigest = target, Alias = alias, Version = version });
                db.DraftAliasMoves.Add(new DraftAliasMoveRow { Name = name, TargetDigest = target, Alias = alias, ToVersion = version });
                await db.SaveChangesAsync();
            }
        }

        await MlflowBackend.DrainedAsync(host.Store);
        Assert.Equal([("challenger", "2"), ("champion", "1")], await AliasesAsync(name));
        await FastDraft.Server.Registry.DraftRegistry.PromoteAsync(host.Store, name, 2, "a person", "It is better.", DateTimeOffset.UnixEpoch, default);
        await MlflowBackend.DrainedAsync(host.Store);
        Assert.Equal([("champion", "2")], await AliasesAsync(name));
        var version2 = (await mlflow.GetAsync($"registered-models/alias?name={name}&alias=champion"))["model_version"]!;
        Assert.Contains(version2["tags"]!.AsArray(), t => (string)t!["key"]! == "fastdraft.modelDigest" && (string)t["value"]! == run.Stages[1].Outputs[0].Digest);
        Assert.Equal((string)(await mlflow.StageRunAsync(run.Stages[1]))["info"]!["run_id"]!, (string)version2["run_id"]!);
    }

    [Fact]
    public async Task An_address_that_is_no_mlflow_is_a_problem_and_not_the_fault_of_what_was_sent()
    {
        await using var receiver = await HttpReceiver.StartAsync();
        using var client = new MlflowClient(receiver.Address, null, TimeSpan.FromSeconds(5));
        foreach (var (status, fault) in new[] { (200, DeliveryFault.Away), (302, DeliveryFault.Away), (401, DeliveryFault.Away), (404, DeliveryFault.Away), (429, DeliveryFault.Away), (503, DeliveryFault.Away), (500, DeliveryFault.Failed), (400, DeliveryFault.Refused) })
        {
            receiver.Answer = _ => status;
            Assert.Equal(fault, (await Assert.ThrowsAnyAsync<DeliveryException>(() => client.ExperimentAsync("x", default))).Fault);
        }
    }

    private static async Task<(DeliveryFault, string)> FaultAsync(Func<Task> act)
    {
        var e = await Assert.ThrowsAsync<MlflowException>(act);
        return (e.Fault, e.Code);
    }

    private async Task<IEnumerable<(string, string)>> AliasesAsync(string name) =>
        ((await mlflow.GetAsync("registered-models/get?name=" + name))["registered_model"]!["aliases"] as JsonArray ?? []).Select(a => ((string)a!["alias"]!, (string)a["version"]!)).Order();

    private Task<PipelineHost> StartAsync(Uri address, Uri? url = null) =>
        PipelineHost.StartAsync(pipeline.Options() with { Projections = new ProjectionOptions { Mlflow = address, PublicUrl = url } });

    private static JsonObject Measure(string note = "", bool source = false)
    {
        var measure = Activity("measure", "Measure", ("points", Literal("Int64", Points)), ("note", Literal("String", note)));
        return source
            ? Sequence(Activity("make", "Make", ("number", Literal("Int64", 1))), Activity("copy", "Copy", ("suffix", Literal("String", "a"))), measure)
            : Sequence(measure);
    }

    /// <summary>MLflow has exactly the points of the tables.</summary>
    private async Task AssertPointsAsync(PipelineStore store, RunView run)
    {
        var shown = await mlflow.PointsAsync(await mlflow.StageRunAsync(run.Stages.Single(s => s.Stage == "Measure")), "loss");
        var made = (await store.Queries.MetricsAsync(run.Id)).Where(m => m.Stage == "Measure").Select(m => (m.Step, m.Value)).Order().ToList();

        // An attempt that died with its host left some of its own.
        Assert.InRange(made.Count, Points, 2 * Points);
        Assert.Equal(made, shown.Select(p => (p.Step, p.Value)));
        Assert.All(shown, p => Assert.InRange(DateTimeOffset.FromUnixTimeMilliseconds(p.At), run.CreatedAt, run.EndedAt!.Value));
    }
}
