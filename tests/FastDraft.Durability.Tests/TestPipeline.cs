using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Durability.Worker;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Storage;

namespace FastDraft.Durability.Tests;

/// <summary>A data folder and a database of its own, hosts on them in this process and in others, and what must hold whatever happened to them.</summary>
internal sealed class TestPipeline(TestDatabase database = TestDatabase.Sqlite, bool isEmpty = false) : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    public PipelineSettings Settings { get; } = TestDatabases.New(database, isEmpty);

    public string Folder { get; } = Directory.CreateTempSubdirectory("fastdraft-").FullName;

    public string Data => Path.Combine(Folder, "data");

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    public string PathOf(string name) => Path.Combine(Folder, name);

    public PipelineOptions Options(double leaseSeconds = 30) => HostProgram.Options(Data, leaseSeconds) with { Settings = Settings };

    public Task<PipelineStore> OpenAsync(string? data = null, PipelineSettings? settings = null) => PipelineStore.OpenAsync(data ?? Data, settings ?? Settings);

    public Task<PipelineHost> StartAsync(double leaseSeconds = 30) => PipelineHost.StartAsync(Options(leaseSeconds));

    /// <summary>A host in a process of its own that runs one workflow; null: that ends what others left.</summary>
    public Process StartHostProcess(JsonObject? workflow, double leaseSeconds = 30, string? failpoint = null, params (string Name, string Value)[] environment)
    {
        var file = PathOf(Guid.CreateVersion7().ToString("N") + ".json");
        if (workflow is not null)
        {
            File.WriteAllText(file, workflow.ToJsonString());
        }

        var start = new ProcessStartInfo("dotnet") { RedirectStandardError = true, RedirectStandardOutput = true };
        foreach (var argument in new[] { typeof(HostProgram).Assembly.Location, "host", Data, file, leaseSeconds.ToString(CultureInfo.InvariantCulture) })
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["FASTDRAFT_DATABASE"] = Settings.Database ?? "";
        if (failpoint is not null)
        {
            start.Environment["FASTDRAFT_FAILPOINT"] = failpoint;
        }

        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }

    public static async Task<RunView> FinishAsync(PipelineHost host, JsonObject workflow, bool bypassCache = false) =>
        await WaitAsync(host, await SubmitAsync(host, workflow, bypassCache));

    public static Task<Guid> SubmitAsync(PipelineHost host, JsonObject workflow, bool bypassCache = false) =>
        host.SubmitAsync(WorkflowDefinition.Parse(workflow.ToJsonString()), new Dictionary<string, JsonNode?>(), bypassCache);

    public static async Task<RunView> WaitAsync(PipelineHost host, Guid id)
    {
        using var limit = new CancellationTokenSource(Patience);
        await foreach (var _ in host.WatchAsync(id, limit.Token))
        {
        }

        return (await host.Queries.GetRunAsync(id))!;
    }

    /// <summary>The text of the first line of a run that starts so.</summary>
    public static async Task<string> LineAsync(PipelineStore store, Guid id, string start)
    {
        using var limit = new CancellationTokenSource(Patience);
        await foreach (var e in store.WatchAsync(id, limit.Token))
        {
            if (e is StageLog log && log.Message.StartsWith(start, StringComparison.Ordinal))
            {
                return log.Message;
            }
        }

        throw new InvalidOperationException($"The run ended before a line that starts with '{start}'.");
    }

    public static async Task UntilAsync(Func<Task<bool>> happened, string what)
    {
        var began = TimeProvider.System.GetTimestamp();
        while (!await happened())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(began) < Patience, $"Waited in vain until {what}.");
            await Task.Delay(50);
        }
    }

    /// <summary>Processes of attempts of this data folder that are alive.</summary>
    public async Task<IReadOnlyList<int>> WorkersAsync(string? data = null, PipelineSettings? settings = null)
    {
        await using var store = await OpenAsync(data, settings);
        var attempts = new List<string>();
        foreach (var run in await store.Queries.ListRunsAsync(1000))
        {
            attempts.AddRange((await store.Queries.GetRunAsync(run.Id))!.Stages.SelectMany(s => s.Attempts).Select(a => $"FASTDRAFT_ATTEMPT={a.Id:N}\0"));
        }

        return Processes(environment => attempts.Any(a => environment.Contains(a, StringComparison.Ordinal)));
    }

    /// <summary>Processes whose environment is so; one that has ended, a zombie too, has none.</summary>
    public static IReadOnlyList<int> Processes(Func<string, bool> environment)
    {
        var found = new List<int>();
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            try
            {
                if (int.TryParse(Path.GetFileName(folder), out var id) && File.ReadAllText(Path.Combine(folder, "environ")) is { Length: > 0 } text && environment(text))
                {
                    found.Add(id);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Gone, or somebody else's.
            }
        }

        return found;
    }

    /// <summary>What holds after any fault: all ended, one commit for each success, one artifact for each output, every byte right, nothing alive.</summary>
    public async Task AssertInvariantsAsync(string? data = null, PipelineSettings? settings = null)
    {
        await using var store = await OpenAsync(data, settings);
        foreach (var listed in await store.Queries.ListRunsAsync(1000))
        {
            var run = (await store.Queries.GetRunAsync(listed.Id))!;
            Assert.True(RunStateMachine.IsTerminal(run.State), $"Run {run.Id} is {run.State}.");
            foreach (var stage in run.Stages)
            {
                Assert.True(RunStateMachine.IsTerminal(stage.State), $"Stage {stage.ActivityId} is {stage.State}.");
                Assert.Equal(stage.State == StageRunState.Succeeded ? 1 : 0, stage.Attempts.Count(a => a.State == StageRunState.Succeeded));
                Assert.All(stage.Attempts, a => Assert.NotNull(a.EndedAt));
                Assert.Equal(stage.Outputs.Count, stage.Outputs.Select(o => o.Port).Distinct().Count());
                foreach (var output in stage.Outputs)
                {
                    Assert.Empty(await store.Artifacts.VerifyAsync(Digest.Parse(output.Digest), VerifyDepth.Full, CancellationToken.None));
                    Assert.NotNull(await store.Queries.GetArtifactAsync(output.Digest));
                }
            }
        }

        await UntilAsync(async () => (await WorkersAsync(data, settings)).Count == 0, "no worker is alive");
    }
}
