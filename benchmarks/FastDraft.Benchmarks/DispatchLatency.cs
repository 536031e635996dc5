using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Server;
using FastDraft.Stages;

namespace FastDraft.Benchmarks;

/// <summary>
/// From the submission of a run to the first line of its worker, with the real <c>fastdraft worker</c>: one light stage at a time on
/// an otherwise idle host, and where the time goes. Usage: dispatch [stages=100]
/// </summary>
internal static class DispatchLatency
{
    public static async Task<int> RunAsync(string[] args)
    {
        var count = args is [var given, ..] ? int.Parse(given, System.Globalization.CultureInfo.InvariantCulture) : 100;
        var executable = BuiltCli.File;
        var folder = Directory.CreateTempSubdirectory("fastdraft-dispatch-");
        try
        {
            var corpus = Path.Combine(folder.FullName, "corpus.jsonl");
            await File.WriteAllTextAsync(corpus, string.Concat(Enumerable.Range(0, 20).Select(n => $$"""{"text":"A document of some length, which no other document repeats: number {{n}}."}""" + "\n")));
            var definition = Ingest(corpus);
            await using var host = await PipelineHost.StartAsync(new PipelineOptions
            {
                DataFolder = Path.Combine(folder.FullName, "data"),
                WorkerFile = executable,
                WorkerArguments = ["worker"],
                Stages = BuiltinStages.Descriptors,
                ExpandPath = PathSettings.Files,
                ResolvePath = PathSettings.Resolve,
            });
            var first = await MeasureAsync(host, definition);
            Console.WriteLine($"first run of a host: {first.Total:F0} ms");
            var times = new List<(double Total, double ToAttempt, double ToLine)>();
            for (var i = 0; i < count; i++)
            {
                times.Add(await MeasureAsync(host, definition));
            }

            Print("submission to the worker's first line", times.Select(t => t.Total));
            Print("  of which to the attempt (key, queue, lease)", times.Select(t => t.ToAttempt));
            Print("  of which to the line (inputs, process start)", times.Select(t => t.ToLine));
            var starts = Enumerable.Range(0, 21).Select(_ => ProcessStart(executable)).Skip(1).ToList();
            Print("for comparison: start and end of the bare worker process", starts);
            return 0;
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static async Task<(double Total, double ToAttempt, double ToLine)> MeasureAsync(PipelineHost host, WorkflowDefinition definition)
    {
        var submitted = TimeProvider.System.GetUtcNow();
        var id = await host.SubmitAsync(definition, new Dictionary<string, JsonNode?>(), bypassCache: true);
        await foreach (var _ in host.WatchAsync(id))
        {
        }

        var run = (await host.Queries.GetRunAsync(id))!;
        if (run.State != RunState.Succeeded)
        {
            throw new InvalidOperationException($"The run ended {run.State}: {run.Stages[0].Failure ?? run.Incident}");
        }

        // The worker stamps each line as it writes it.
        var line = JsonNode.Parse((await host.Queries.LogsAsync(id, "ingest"))[0])!;
        var at = DateTimeOffset.FromUnixTimeMilliseconds(line["at"]!.GetValue<long>());
        var attempt = run.Stages[0].Attempts[0].StartedAt;
        return ((at - submitted).TotalMilliseconds, (attempt - submitted).TotalMilliseconds, (at - attempt).TotalMilliseconds);
    }

    /// <summary>Milliseconds of a worker that is told nothing and ends at once.</summary>
    private static double ProcessStart(string executable)
    {
        var started = Stopwatch.GetTimestamp();
        var start = new ProcessStartInfo(executable) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add("worker");
        start.ArgumentList.Add("none");
        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        process.WaitForExit();
        return Stopwatch.GetElapsedTime(started).TotalMilliseconds;
    }

    private static void Print(string what, IEnumerable<double> milliseconds)
    {
        var sorted = milliseconds.Order().ToList();
        Console.WriteLine($"{what}: p50 {At(.5):F0}, p95 {At(.95):F0}, max {sorted[^1]:F0} ms ({sorted.Count} times)");

        double At(double quantile) => sorted[(int)Math.Ceiling(quantile * sorted.Count) - 1];
    }

    private static WorkflowDefinition Ingest(string corpus)
    {
        var sources = new JsonObject
        {
            ["typeName"] = "String[]",
            ["expression"] = new JsonObject { ["type"] = "Object", ["value"] = new JsonArray(corpus).ToJsonString() },
        };
        return WorkflowDefinition.Parse(new JsonObject
        {
            ["id"] = "dispatch-v1",
            ["definitionId"] = "dispatch",
            ["name"] = "dispatch",
            ["version"] = 1,
            ["variables"] = new JsonArray(),
            ["inputs"] = new JsonArray(),
            ["root"] = new JsonObject
            {
                ["id"] = "flow",
                ["type"] = "Elsa.Flowchart",
                ["version"] = 1,
                ["variables"] = new JsonArray(),
                ["connections"] = new JsonArray(),
                ["activities"] = new JsonArray(new JsonObject { ["id"] = "ingest", ["type"] = "FastDraft.IngestCorpus", ["version"] = 1, ["sources"] = sources }),
            },
        }.ToJsonString());
    }
}
