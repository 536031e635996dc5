using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

/// <summary>
/// kill -9 of the real executable with real stages, at random instants. FASTDRAFT_KILLS=20 makes it the full series;
/// FASTDRAFT_SEED repeats one.
/// </summary>
public sealed class KillFacts(ITestOutputHelper output) : IDisposable
{
    private const int NumSteps = 600;
    private const string CheckpointFile = "training.safetensors";

    private static readonly string[] Order = ["ingest", "align", "pretrain", "generate", "finetune", "export"];

    private readonly TestPipeline pipeline = new();
    private readonly List<Process> started = [];

    public void Dispose()
    {
        foreach (var process in started)
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
                process.WaitForExit();
            }

            process.Dispose();
        }

        pipeline.Dispose();
    }

    [Fact]
    public async Task Whatever_is_killed_and_when_the_resumed_run_ends_with_the_same_bits()
    {
        var instants = Series.Instants(output.WriteLine);
        var began = TimeProvider.System.GetTimestamp();
        WriteCorpus(pipeline.PathOf("corpus.jsonl"));
        await EndsWellAsync(Start(Training(6), "--data", pipeline.Data));
        await using var store = await PipelineStore.OpenAsync(pipeline.Data);
        var undisturbed = (await store.Queries.FindRunAsync("latest"))!;
        Assert.Equal(RunState.Succeeded, undisturbed.State);
        var took = undisturbed.EndedAt!.Value - undisturbed.CreatedAt;
        var training = undisturbed.Stages.Single(s => s.ActivityId == "pretrain");
        output.WriteLine($"undisturbed run: {took.TotalSeconds:F1} s, of which training {(training.EndedAt - training.StartedAt)!.Value.TotalSeconds:F1} s");

        await KillWorkersAsync(store, undisturbed, instants);
        await KillHostsAsync(undisturbed, took, instants);
        await pipeline.AssertInvariantsAsync();
        output.WriteLine($"all in {TimeProvider.System.GetElapsedTime(began).TotalSeconds:F0} s");
    }

    private async Task KillWorkersAsync(PipelineStore store, RunView undisturbed, Random instants)
    {
        var (killed, resumed, wanted) = (0, 0, Series.Length(2));
        while (killed < wanted)
        {
            var host = Start(Training(3), "--data", pipeline.Data, "--no-cache");
            var step = instants.Next(NumSteps);
            var attempt = await FirstAttemptAsync(store, undisturbed.Id, host);

            // The first dies after a checkpoint, so that no series is without a resumption; the others at any step.
            await UntilAsync(async () => host.HasExited || (await LastStepAsync(store, attempt) >= step && (killed > 0 || HasCheckpoint())), $"step {step} is reached");
            var checkpointed = HasCheckpoint();
            Kill(Processes(e => e.Contains($"FASTDRAFT_ATTEMPT={attempt:N}\0", StringComparison.Ordinal)));
            await EndsWellAsync(host);
            var run = (await store.Queries.FindRunAsync("latest"))!;
            AssertSameBits(undisturbed, run, 3);
            var attempts = run.Stages.Single(s => s.ActivityId == "pretrain").Attempts;
            if (attempts.Count == 1)
            {
                // It had ended in the meantime.
                continue;
            }

            killed++;
            Assert.Equal([StageRunState.Crashed, StageRunState.Succeeded], attempts.Select(a => a.State));
            var log = await store.Queries.LogsAsync(run.Id, "pretrain");
            var wentOn = log.Any(l => l.Contains("Resumed at step", StringComparison.Ordinal));
            Assert.True(wentOn || !checkpointed, $"There was a checkpoint before step {step}, and the next attempt began at the first step.");
            resumed += wentOn ? 1 : 0;
        }

        Assert.NotEqual(0, resumed);
        output.WriteLine($"{killed} workers killed during training, all retried to the same weights; {resumed} went on from a checkpoint, the others died before the first");
    }

    private async Task KillHostsAsync(RunView undisturbed, TimeSpan took, Random instants)
    {
        var (killed, runs, wanted) = (0, 0, Series.Length(2));
        while (killed < wanted)
        {
            var data = pipeline.PathOf("hosts-" + runs++);
            var host = Start(Training(6), "--data", data);
            for (var n = 0; n < 4 && killed < wanted; n++)
            {
                // What is drawn is the moment of death; nothing is expected to have happened by then.
                var instant = Task.Delay(instants.NextDouble() * took * 0.6);
                var ended = host.WaitForExitAsync();
                if (await Task.WhenAny(ended, instant) == ended)
                {
                    // The machine is less busy than it was.
                    took /= 2;
                    break;
                }

                host.Kill();
                await ended;
                killed++;
                var submitted = await HasRunAsync(data);
                if (submitted && n % 2 == 1)
                {
                    // As after a power cut: nothing is alive, and what was never synced is gone.
                    await UntilAsync(async () => (await pipeline.WorkersAsync(data)).Count == 0, "no worker is alive");
                    DeleteScratch(data);
                }

                host = submitted ? Start(null, "--data", data, "--resume", "latest") : Start(Training(6), "--data", data);
            }

            await EndsWellAsync(host);
            await using var store = await PipelineStore.OpenAsync(data);
            var run = Assert.Single(await store.Queries.ListRunsAsync());
            AssertSameBits(undisturbed, (await store.Queries.GetRunAsync(run.Id))!, 6);
            Assert.Equal(
                undisturbed.Stages.SelectMany(s => s.Outputs).Select(o => o.Digest).ToHashSet(),
                (await store.Queries.ListArtifactsAsync()).Select(a => a.Digest).ToHashSet());
            await pipeline.AssertInvariantsAsync(data);
        }

        output.WriteLine($"{killed} hosts killed in {runs} runs, all resumed to the same weights");
    }

    /// <summary>As many stages as the workflow has, and every output the one of the undisturbed run.</summary>
    private static void AssertSameBits(RunView undisturbed, RunView actual, int numStages)
    {
        Assert.Equal(RunState.Succeeded, actual.State);
        Assert.Equal(Outputs(undisturbed).Take(numStages), Outputs(actual));

        static IEnumerable<string> Outputs(RunView run) =>
            run.Stages.OrderBy(s => Array.IndexOf(Order, s.ActivityId)).Select(s => $"{s.ActivityId} {string.Join(' ', s.Outputs.OrderBy(o => o.Port, StringComparer.Ordinal).Select(o => $"{o.Port}={o.Digest}"))}");
    }

    private static async Task<Guid> FirstAttemptAsync(PipelineStore store, Guid before, Process host)
    {
        AttemptView? first = null;
        await UntilAsync(async () =>
        {
            Assert.False(host.HasExited, "The host ended before it trained.");
            var run = (await store.Queries.FindRunAsync("latest"))!;
            first = run.Id == before || run.State != RunState.Running ? null : run.Stages.SingleOrDefault(s => s.ActivityId == "pretrain")?.Attempts is [var attempt, ..] ? attempt : null;
            return first is not null;
        }, "training begins");
        return first!.Id;
    }

    /// <summary>Steps rather than a time: the machine may be twice as busy as in the undisturbed run.</summary>
    private static async Task<int> LastStepAsync(PipelineStore store, Guid attempt) => (await store.Queries.LogAsync(attempt, 0)).Lines.Select(l => JsonNode.Parse(l)!)
        .Where(l => l["type"]!.GetValue<string>() == "progress").Select(l => l["done"]!.GetValue<int>()).DefaultIfEmpty().Max();

    private bool HasCheckpoint() => Directory.EnumerateFiles(Path.Combine(pipeline.Data, "resume"), CheckpointFile, SearchOption.AllDirectories).Any();

    private static async Task<bool> HasRunAsync(string data)
    {
        if (!File.Exists(Path.Combine(data, "pipeline.db")))
        {
            return false;
        }

        await using var store = await PipelineStore.OpenAsync(data);
        return (await store.Queries.ListRunsAsync()).Count > 0;
    }

    private static void DeleteScratch(string data)
    {
        if (Directory.Exists(Path.Combine(data, "scratch")))
        {
            Directory.Delete(Path.Combine(data, "scratch"), recursive: true);
        }
    }

    private static void Kill(IReadOnlyList<int> processes)
    {
        foreach (var id in processes)
        {
            try
            {
                using var process = Process.GetProcessById(id);
                process.Kill();
            }
            catch (ArgumentException)
            {
                // It had ended.
            }
        }
    }

    private static async Task EndsWellAsync(Process process)
    {
        var error = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, await error);
    }

    private Process Start(JsonObject? workflow, params string[] options)
    {
        var build = new DirectoryInfo(AppContext.BaseDirectory);
        var executable = Path.Combine(build.Parent!.Parent!.FullName, "FastDraft.Cli", build.Name, "fastdraft");
        var start = new ProcessStartInfo(executable) { RedirectStandardError = true, RedirectStandardOutput = true };
        start.ArgumentList.Add("run");

        // Tensors this small gain nothing from more threads, and on a busy machine these wait for each other.
        start.Environment["OMP_NUM_THREADS"] = "1";
        if (workflow is not null)
        {
            var file = pipeline.PathOf(Guid.CreateVersion7().ToString("N") + ".json");
            File.WriteAllText(file, workflow.ToJsonString());
            start.ArgumentList.Add(file);
        }

        foreach (var option in options.Append("-q"))
        {
            start.ArgumentList.Add(option);
        }

        var process = Process.Start(start)!;
        started.Add(process);
        return process;
    }

    /// <summary>The first stages of the pipeline, small: 600 steps with a checkpoint every half second or so, then generation in batches, fine-tuning, export.</summary>
    private JsonObject Training(int numStages)
    {
        var target = Literal("String", Path.Combine(RepositoryRoot(), "samples", "target-docs"));
        JsonObject[] stages =
        [
            Activity("ingest", "IngestCorpus", ("sources", new JsonObject
            {
                ["typeName"] = "String[]", ["expression"] = new JsonObject { ["type"] = "Object", ["value"] = new JsonArray(pipeline.PathOf("corpus.jsonl")).ToJsonString() },
            })),
            Activity("align", "AlignVocabulary", ("target", target)),
            Activity("pretrain", "PretrainDraft", ("target", target.DeepClone().AsObject()), ("parameters", Literal("Int64", 200_000)), ("numTokens", Literal("Int64", NumSteps * 16)), ("sequenceLength", Literal("Int64", 16)), ("batchSize", Literal("Int64", 1)), ("checkpointSeconds", Literal("Double", 0.5))),
            Activity("generate", "GenerateSynthetic", ("target", target.DeepClone().AsObject()), ("numRows", Literal("Int64", 32)), ("promptTokens", Literal("Int64", 8)), ("maxNewTokens", Literal("Int64", 8)), ("batchSize", Literal("Int64", 8))),
            Activity("finetune", "FinetuneDraft", ("target", target.DeepClone().AsObject()), ("numTokens", Literal("Int64", 200 * 16)), ("sequenceLength", Literal("Int64", 16)), ("batchSize", Literal("Int64", 1))),
            Activity("export", "ExportDraft"),
        ];
        return Sequence(stages[..numStages]);
    }

    private static string RepositoryRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "Pipeline.sln")))
        {
            folder = folder.Parent!;
        }

        return folder.FullName;
    }

    private static void WriteCorpus(string path)
    {
        var random = new Random(1);
        string[] words = ["the", "stream", "returns", "value", "when", "buffer", "is", "empty", "of", "type", "a", "method", "called", "reads", "bytes", "from", "next"];
        var lines = new StringBuilder();
        for (var i = 0; i < 300; i++)
        {
            var text = string.Join(' ', Enumerable.Range(0, 60).Select(_ => words[random.Next(words.Length)])) + i.ToString(CultureInfo.InvariantCulture);
            lines.Append(new JsonObject { ["text"] = text }.ToJsonString()).Append('\n');
        }

        File.WriteAllText(path, lines.ToString());
    }
}
