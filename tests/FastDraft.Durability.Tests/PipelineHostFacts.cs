using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Durability.Worker;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Dispatch;

namespace FastDraft.Durability.Tests;

public sealed class PipelineHostFacts : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public async Task Second_run_is_cached_and_a_changed_setting_reruns_only_its_dependents()
    {
        await using var host = await StartAsync();
        var first = await FinishAsync(host, Definition(1, "a"));
        Assert.Equal(RunState.Succeeded, first.State);
        Assert.All(first.Stages, s => Assert.Equal(StageRunState.Succeeded, s.State));
        Assert.Equal(0.5, Assert.Single(await host.Queries.MetricsAsync(first.Id)).Value);

        var second = await FinishAsync(host, Definition(1, "a"));
        Assert.All(second.Stages, s => Assert.Equal((StageRunState.Cached, (Guid?)first.Id), (s.State, s.CachedFromRunId)));

        var third = await FinishAsync(host, Definition(1, "b"));
        Assert.Equal([StageRunState.Cached, StageRunState.Succeeded], third.Stages.Select(s => s.State));
        Assert.Contains("option `suffix` changed", third.Stages[1].MissReasonsJson!.Replace("\\u0060", "`", StringComparison.Ordinal), StringComparison.Ordinal);

        var plan = await Planner.PlanAsync(host.Store, Options(), Definition(2, "a"), new Dictionary<string, JsonNode?>());
        Assert.Equal([PlanVerdict.Miss, PlanVerdict.Unknown], plan.Select(p => p.Verdict));
        var copied = Assert.Single(first.Stages[1].Outputs).Digest;
        Assert.Equal(4, (await host.Queries.LineageAsync(copied, upstream: true)).Nodes.Count);
    }

    [Fact]
    public async Task A_killed_worker_is_retried_and_the_run_succeeds()
    {
        await using var host = await StartAsync();
        var run = await FinishAsync(host, Definition(1, "a", dieOnce: true));
        Assert.Equal(RunState.Succeeded, run.State);
        Assert.Equal([StageRunState.Crashed, StageRunState.Succeeded], run.Stages[0].Attempts.Select(a => a.State));
    }

    [Fact]
    public async Task A_new_host_finishes_the_run_of_a_stopped_one()
    {
        var gate = Path.Combine(folder, "gate");
        Guid id;
        await using (var host = await StartAsync())
        {
            id = await host.SubmitAsync(Definition(1, "a", waitFor: gate), new Dictionary<string, JsonNode?>());
            await ChildAsync(host, id);
        }

        await File.WriteAllTextAsync(gate, "");
        await using var next = await StartAsync();
        Assert.Equal(RunState.Succeeded, (await WaitAsync(next, id)).State);
    }

    [Fact]
    public async Task Cancel_ends_the_process_tree_and_the_run_is_cancelled()
    {
        await using var host = await StartAsync();
        var id = await host.SubmitAsync(Definition(1, "a", waitFor: Path.Combine(folder, "never")), new Dictionary<string, JsonNode?>());
        var child = await ChildAsync(host, id);
        var began = TimeProvider.System.GetTimestamp();
        Assert.True(await host.CancelAsync(id));
        Assert.Equal(RunState.Cancelled, (await WaitAsync(host, id)).State);
        Assert.InRange(TimeProvider.System.GetElapsedTime(began).TotalSeconds, 0, 10);
        Assert.False(IsAlive(child));
    }

    [Fact]
    public async Task A_commit_of_an_old_epoch_is_refused()
    {
        await using var host = await StartAsync();
        var gate = Path.Combine(folder, "gate");
        var id = await host.SubmitAsync(Definition(1, "a", waitFor: gate), new Dictionary<string, JsonNode?>());
        await ChildAsync(host, id);
        var stage = (await host.Queries.GetRunAsync(id))!.Stages[0].Id;
        Assert.False(await host.Attempts.EndAsync(stage, 0, new WorkerResult(0, null, null, null, []), false, [], CancellationToken.None));
        await File.WriteAllTextAsync(gate, "");
        Assert.Equal(RunState.Succeeded, (await WaitAsync(host, id)).State);
    }

    [Fact]
    public async Task Verify_names_the_file_with_a_flipped_bit()
    {
        await using var host = await StartAsync();
        var run = await FinishAsync(host, Definition(1, "a"));
        var digest = Digest.Parse(run.Stages[0].Outputs[0].Digest);
        Assert.Empty(await host.Store.Artifacts.VerifyAsync(digest, CancellationToken.None));
        var file = Assert.Single((await host.Store.Artifacts.ManifestAsync(digest, CancellationToken.None)).Files);
        var blob = host.Store.Artifacts.BlobPath(file.Digest);
        var bytes = await File.ReadAllBytesAsync(blob);
        bytes[0] ^= 1;
        File.Delete(blob);
        await File.WriteAllBytesAsync(blob, bytes);
        Assert.Contains("'n.txt' is damaged", Assert.Single(await host.Store.Artifacts.VerifyAsync(digest, CancellationToken.None)), StringComparison.Ordinal);
    }

    private PipelineOptions Options() => new()
    {
        DataFolder = Path.Combine(folder, "data"), WorkerFile = "dotnet", WorkerArguments = [typeof(MakeStage).Assembly.Location],
        Stages = [MakeStage.Describe(), CopyStage.Describe()],
    };

    private Task<PipelineHost> StartAsync() => PipelineHost.StartAsync(Options());

    private static async Task<RunView> FinishAsync(PipelineHost host, WorkflowDefinition definition) =>
        await WaitAsync(host, await host.SubmitAsync(definition, new Dictionary<string, JsonNode?>()));

    private static async Task<RunView> WaitAsync(PipelineHost host, Guid id)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        await foreach (var _ in host.WatchAsync(id, limit.Token))
        {
        }

        return (await host.Queries.GetRunAsync(id))!;
    }

    private static async Task<int> ChildAsync(PipelineHost host, Guid id)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        await foreach (var e in host.WatchAsync(id, limit.Token))
        {
            if (e is StageLog log && log.Message.StartsWith("child ", StringComparison.Ordinal))
            {
                return int.Parse(log.Message["child ".Length..], CultureInfo.InvariantCulture);
            }
        }

        throw new InvalidOperationException("The run ended before its stage started a child.");
    }

    private static bool IsAlive(int process) =>
        File.Exists($"/proc/{process}/stat") && !File.ReadAllText($"/proc/{process}/stat").Contains(") Z ", StringComparison.Ordinal);

    private static WorkflowDefinition Definition(int number, string suffix, bool dieOnce = false, string waitFor = "")
    {
        static JsonObject Literal(string type, JsonNode value) => new()
        {
            ["typeName"] = type, ["expression"] = new JsonObject { ["type"] = "Literal", ["value"] = value },
        };
        return WorkflowDefinition.Parse(new JsonObject
        {
            ["id"] = "t-v1", ["definitionId"] = "t", ["name"] = "t", ["version"] = 1, ["variables"] = new JsonArray(), ["inputs"] = new JsonArray(),
            ["root"] = new JsonObject
            {
                ["id"] = "f", ["type"] = "Elsa.Flowchart", ["version"] = 1, ["variables"] = new JsonArray(),
                ["activities"] = new JsonArray(
                    new JsonObject
                    {
                        ["id"] = "make", ["type"] = "FastDraft.Make", ["version"] = 1, ["number"] = Literal("Int64", number),
                        ["dieOnce"] = Literal("Boolean", dieOnce), ["waitFor"] = Literal("String", waitFor),
                    },
                    new JsonObject { ["id"] = "copy", ["type"] = "FastDraft.Copy", ["version"] = 1, ["suffix"] = Literal("String", suffix) }),
                ["connections"] = new JsonArray(new JsonObject
                {
                    ["source"] = new JsonObject { ["activity"] = "make", ["port"] = "Done" }, ["target"] = new JsonObject { ["activity"] = "copy", ["port"] = "In" },
                }),
            },
        }.ToJsonString());
    }
}
