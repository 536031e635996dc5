using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Modeling.Evaluation;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace FastDraft.Benchmarks;

/// <summary>
/// What an MLflow that refuses, or takes 30 s a call, takes from training. Runs are compared in pairs at the same time, each bound with its
/// worker to a core of its own and in turns to either: one without MLflow, one with; pairs of two runs without show what cannot be told
/// apart. Cores of a shared machine differ by several percent from minute to minute, so beside tokens/s there is what MLflow can change: the
/// share of the core that the host uses while the trainer trains, which the trainer then has not. Needs Linux, two free cores and
/// <c>taskset</c>. Usage: outage [pairs of each kind=8] [tokens of a run=500000]
/// </summary>
internal static class OutageCost
{
    private const string LastStage = "pretrain";
    private static readonly TimeSpan Lateness = TimeSpan.FromSeconds(30);

    public static async Task<int> RunAsync(string[] args)
    {
        var pairs = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 8;
        var tokens = args.Length > 1 ? int.Parse(args[1], CultureInfo.InvariantCulture) : 500_000;
        var folder = Directory.CreateTempSubdirectory("fastdraft-outage-").FullName;
        await using var slow = await SlowServerAsync();
        try
        {
            var workflow = Path.Join(folder, "pretrain.json");
            await File.WriteAllTextAsync(workflow, UpToTraining(await File.ReadAllTextAsync(Path.Join("workflows", "quickstart.json"))));
            string[] homes = [.. Enumerable.Range(0, 2).Select(i => Directory.CreateDirectory(Path.Join(folder, $"home-{i}")).FullName)];
            var kinds = new (string Name, string? Mlflow)[] { ("also without", null), ("away", "http://127.0.0.1:1"), ("slow", slow.Urls.First()) };
            var (slower, taken) = (kinds.ToDictionary(k => k.Name, _ => new List<double>()), kinds.ToDictionary(k => k.Name, _ => new List<double>()));
            await Task.WhenAll(homes.Select((home, core) => TrainAsync(workflow, home, core, null, tokens)));
            for (var pair = 0; pair < pairs; pair++)
            {
                foreach (var (name, mlflow) in kinds)
                {
                    var core = pair % 2;
                    var both = await Task.WhenAll(TrainAsync(workflow, homes[core], core, mlflow, tokens), TrainAsync(workflow, homes[1 - core], 1 - core, null, tokens));
                    slower[name].Add(100 * (1 - (both[0].TokensPerSecond / both[1].TokensPerSecond)));
                    taken[name].Add(100 * (both[0].HostShare - both[1].HostShare));
                    Console.Error.WriteLine(string.Create(
                        CultureInfo.InvariantCulture,
                        $"{name}: {both[0].TokensPerSecond:F0} beside {both[1].TokensPerSecond:F0} tokens/s; the host has {100 * both[0].HostShare:F2} beside {100 * both[1].HostShare:F2} % of its core"));
                }
            }

            Console.WriteLine($"{pairs} pairs of each kind, {tokens:N0} tokens a run");
            foreach (var (name, _) in kinds)
            {
                Console.WriteLine($"MLflow {name}: {Summary("of its core the host takes more", taken[name])}; {Summary("the training is slower by", slower[name])}");
            }

            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string Summary(string what, List<double> values)
    {
        var interval = Bootstrap.Ratio(values, [.. values.Select(_ => 1.0)], 1);
        return string.Create(CultureInfo.InvariantCulture, $"{what} {values.Average():F2} % (95 % interval {interval.Low:F2} to {interval.High:F2}; pairs {values.Min():F2} to {values.Max():F2})");
    }

    private static async Task<WebApplication> SlowServerAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        var app = builder.Build();
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

    private sealed record Training(double TokensPerSecond, double HostShare);

    /// <summary>Tokens/s over the whole of the training, and how much of its core the host used meanwhile.</summary>
    private static async Task<Training> TrainAsync(string workflow, string home, int core, string? mlflow, int tokens)
    {
        using var host = Start(home, core, mlflow, "run", workflow, "--set", $"target={Path.GetFullPath(Path.Join("samples", "target-docs"))}", "--set", $"tokens={tokens}", "--no-cache", "-q");
        var said = host.StandardOutput.ReadToEndAsync();
        var share = await WatchAsync(host);
        var run = (await said).Trim();
        using var logs = Start(home, core, null, "runs", "logs", run, LastStage, "-o", "json");
        var lines = (await logs.StandardOutput.ReadToEndAsync()).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonNode.Parse(l)!);
        return new(lines.Last(l => (string?)l["name"] == "tokens_per_second")["value"]!.GetValue<double>(), share);
    }

    /// <summary>The host's share of a core while the worker that lived longest, the trainer's, was there. Completes when the host has ended.</summary>
    private static async Task<double> WatchAsync(Process host)
    {
        var seen = new Dictionary<int, (long Began, TimeSpan Used, TimeSpan Lasted, TimeSpan UsedSince)>();
        while (!host.HasExited)
        {
            if (Used(host) is { } used && ChildOf(host.Id) is { } worker)
            {
                var first = seen.TryGetValue(worker, out var known) ? known : (Began: Stopwatch.GetTimestamp(), Used: used, default, default);
                seen[worker] = first with { Lasted = Stopwatch.GetElapsedTime(first.Began), UsedSince = used - first.Used };
            }

            await Task.Delay(200);
        }

        if (host.ExitCode != 0)
        {
            throw new InvalidOperationException($"A run ended with {host.ExitCode}; what it said is above.");
        }

        var trainer = seen.Values.MaxBy(w => w.Lasted);
        return trainer.UsedSince / trainer.Lasted;
    }

    private static TimeSpan? Used(Process host)
    {
        try
        {
            host.Refresh();
            return host.TotalProcessorTime;
        }
        catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            // It has ended in between.
            return null;
        }
    }

    private static int? ChildOf(int parent)
    {
        foreach (var process in Directory.EnumerateDirectories("/proc").Select(Path.GetFileName).Where(n => int.TryParse(n, out _)))
        {
            try
            {
                // pid (name) state parent ...
                var stat = File.ReadAllText(Path.Join("/proc", process, "stat"));
                if (stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1] == parent.ToString(CultureInfo.InvariantCulture))
                {
                    return int.Parse(process!, CultureInfo.InvariantCulture);
                }
            }
            catch (IOException)
            {
                // It has ended in between.
            }
        }

        return null;
    }

    private static Process Start(string home, int core, string? mlflow, params string[] arguments)
    {
        var start = new ProcessStartInfo("taskset") { WorkingDirectory = home, RedirectStandardOutput = true };
        string[] bound = ["-c", $"{core}", BuiltCli.File, .. arguments];
        bound.ToList().ForEach(start.ArgumentList.Add);
        if (mlflow is not null)
        {
            start.Environment["FASTDRAFT_MLFLOW"] = mlflow;
        }

        return Process.Start(start)!;
    }
}
