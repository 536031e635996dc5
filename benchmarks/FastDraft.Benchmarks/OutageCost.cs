using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Modeling.Evaluation;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace FastDraft.Benchmarks;

/// <summary>
/// What an MLflow that refuses, or takes 30 s a call, takes from training. A run varies by a tenth from one minute to the next, so runs are
/// compared in pairs at the same time, each bound with its worker to a core of its own and in turns to either: one without MLflow, one with.
/// Pairs of two runs without show what the method cannot tell apart. On one core whatever the host does is taken from the trainer whole.
/// Needs two free cores and <c>taskset</c>. Usage: outage [pairs of each kind=8] [tokens of a run=600000]
/// </summary>
internal static class OutageCost
{
    private const string LastStage = "pretrain";
    private static readonly TimeSpan Lateness = TimeSpan.FromSeconds(30);

    public static async Task<int> RunAsync(string[] args)
    {
        var pairs = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 8;
        var tokens = args.Length > 1 ? int.Parse(args[1], CultureInfo.InvariantCulture) : 600_000;
        var folder = Directory.CreateTempSubdirectory("fastdraft-outage-").FullName;
        await using var slow = await SlowServerAsync();
        try
        {
            var workflow = Path.Join(folder, "pretrain.json");
            await File.WriteAllTextAsync(workflow, UpToTraining(await File.ReadAllTextAsync(Path.Join("workflows", "quickstart.json"))));
            string[] homes = [.. Enumerable.Range(0, 2).Select(i => Directory.CreateDirectory(Path.Join(folder, $"home-{i}")).FullName)];
            var kinds = new (string Name, string? Mlflow)[] { ("also without", null), ("away", "http://127.0.0.1:1"), ("slow", slow.Urls.First()) };
            var lost = kinds.ToDictionary(k => k.Name, _ => new List<double>());
            await Task.WhenAll(homes.Select((home, core) => TrainAsync(workflow, home, core, null, tokens)));
            for (var pair = 0; pair < pairs; pair++)
            {
                foreach (var (name, mlflow) in kinds)
                {
                    var core = pair % 2;
                    var both = await Task.WhenAll(TrainAsync(workflow, homes[core], core, mlflow, tokens), TrainAsync(workflow, homes[1 - core], 1 - core, null, tokens));
                    lost[name].Add(100 * (1 - (both[0] / both[1])));
                    Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name}: {both[0]:F0} beside {both[1]:F0} tokens/s, lost {lost[name][^1]:F2} %"));
                }
            }

            Console.WriteLine($"{pairs} pairs of each kind, {tokens:N0} tokens a run");
            foreach (var (name, values) in lost)
            {
                double[] sorted = [.. values.Order()];
                var interval = Bootstrap.Percentile(values.Count, drawn => Mean(values, drawn), 1);
                Console.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                    $"MLflow {name}: lost {values.Average():F2} % of the training throughput (95 % interval {interval.Low:F2} to {interval.High:F2}), median {sorted[sorted.Length / 2]:F2}, pairs {sorted[0]:F2} to {sorted[^1]:F2}"));
            }

            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static double Mean(List<double> values, ReadOnlySpan<int> drawn)
    {
        var sum = 0.0;
        foreach (var i in drawn)
        {
            sum += values[i];
        }

        return sum / drawn.Length;
    }

    private static async Task<WebApplication> SlowServerAsync()
    {
        var app = WebApplication.CreateSlimBuilder().Build();
        app.Urls.Add("http://127.0.0.1:0");
        app.Run(async context =>
        {
            await Task.Delay(Lateness, context.RequestAborted);
            context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
        });
        await app.StartAsync();
        return app;
    }

    /// <summary>The quickstart without what follows its training: the stages whose throughput is asked for.</summary>
    private static string UpToTraining(string quickstart)
    {
        var workflow = JsonNode.Parse(quickstart)!;
        var (activities, connections) = (workflow["root"]!["activities"]!.AsArray(), workflow["root"]!["connections"]!.AsArray());
        string[] kept = [.. activities.Select(a => (string)a!["id"]!).TakeWhile(id => id != LastStage), LastStage];
        activities.Where(a => !kept.Contains((string)a!["id"]!)).ToList().ForEach(a => activities.Remove(a));
        connections.Where(c => !kept.Contains((string)c!["target"]!["activity"]!)).ToList().ForEach(c => connections.Remove(c));
        return workflow.ToJsonString();
    }

    /// <summary>Tokens/s over the whole of the training.</summary>
    private static async Task<double> TrainAsync(string workflow, string home, int core, string? mlflow, int tokens)
    {
        var run = (await CliAsync(home, core, mlflow, "run", workflow, "--set", $"target={Path.GetFullPath(Path.Join("samples", "target-docs"))}", "--set", $"tokens={tokens}", "--no-cache", "-q")).Trim();
        return (await CliAsync(home, core, null, "runs", "logs", run, LastStage, "-o", "json")).Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(l => JsonNode.Parse(l)!).Last(l => (string?)l["name"] == "tokens_per_second")["value"]!.GetValue<double>();
    }

    private static async Task<string> CliAsync(string home, int core, string? mlflow, params string[] arguments)
    {
        var build = new DirectoryInfo(AppContext.BaseDirectory);
        var start = new ProcessStartInfo("taskset") { WorkingDirectory = home, RedirectStandardOutput = true };
        string[] bound = ["-c", $"{core}", Path.Join(build.Parent!.Parent!.FullName, "FastDraft.Cli", build.Name, "fastdraft"), .. arguments];
        bound.ToList().ForEach(start.ArgumentList.Add);
        if (mlflow is not null)
        {
            start.Environment["FASTDRAFT_MLFLOW"] = mlflow;
        }

        using var process = Process.Start(start)!;
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"fastdraft {string.Join(' ', arguments)} ended with {process.ExitCode}; what it said is above.");
    }
}
