using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json.Nodes;
using FastDraft.TestKit;

namespace FastDraft.Cli.Tests;

/// <summary>A real workflow while MLflow is away or slow from its beginning to its end. Minutes long: FASTDRAFT_FULL=1 runs it.</summary>
public sealed class MlflowOutageFacts : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-outage-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public async Task A_run_succeeds_while_mlflow_is_down_or_slow_and_afterwards_it_has_every_point_once()
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("FASTDRAFT_FULL") == "1", "SKIPPED: minutes long; FASTDRAFT_FULL=1 runs it.");
        Assert.SkipWhen(MlflowServer.Missing is not null, MlflowServer.Missing ?? "");
        await using var mlflow = await MlflowServer.StartAsync();
        await using var proxy = await FaultProxy.StartAsync(mlflow.Address);
        Directory.CreateDirectory(Path.Join(folder, "corpus"));
        await File.WriteAllLinesAsync(Path.Join(folder, "corpus", "docs.jsonl"), TinyPipeline.Documents(400));

        string[] runs = [await RunAsync(proxy, Fault.Down), await RunAsync(proxy, Fault.Late)];

        proxy.Choose = _ => Fault.None;
        await CliAsync(proxy, "projections", "retry", "mlflow");
        var began = Stopwatch.GetTimestamp();
        using var service = Executable.Start(folder, Settings(proxy), "serve", "--urls", "http://127.0.0.1:0");
        try
        {
            while (JsonNode.Parse((await CliAsync(proxy, "projections", "list", "-o", "json")).Out)![0]!["waiting"]!.GetValue<int>() > 0)
            {
                Assert.True(Stopwatch.GetElapsedTime(began) < TimeSpan.FromMinutes(5), "The outbox did not drain within five minutes.");
                await Task.Delay(500);
            }
        }
        finally
        {
            service.Kill(entireProcessTree: true);
            await service.WaitForExitAsync();
        }

        var drained = Stopwatch.GetElapsedTime(began);
        var points = 0;
        foreach (var run in runs)
        {
            points += await AssertPointsAsync(mlflow.Address, proxy, run);
        }

        TestContext.Current.TestOutputHelper!.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{points} points of {runs.Length} runs are there once; drained in {drained.TotalSeconds:F0} s"));
        Assert.True(points > 0);
    }

    /// <summary>Long enough that calls of 30 s fall into it.</summary>
    private async Task<string> RunAsync(FaultProxy proxy, Fault fault)
    {
        (proxy.Choose, proxy.Lateness) = (_ => fault, TimeSpan.FromSeconds(30));
        var ended = await Executable.RunAsync(
            folder, Settings(proxy), "run", TinyPipeline.Workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus", "--set", "steps=1500", "--no-cache", "-q");
        Assert.True(ended.ExitCode == 0, ended.Error);
        return ended.Out.Trim();
    }

    private async Task<IReadOnlyList<(string Name, long Step, double Value)>> MetricsAsync(FaultProxy proxy, string run, string stage) =>
        [.. (await CliAsync(proxy, "runs", "logs", run, stage, "-o", "json")).Out.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonNode.Parse(l)!)
            .Where(l => (string?)l["type"] == "metric").Select(l => ((string)l["name"]!, (long)l["step"]!, (double)l["value"]!))];

    private async Task<int> AssertPointsAsync(Uri mlflow, FaultProxy proxy, string run)
    {
        using var http = new HttpClient { BaseAddress = new Uri(mlflow, "/api/2.0/mlflow/") };
        var shown = JsonNode.Parse((await CliAsync(proxy, "runs", "show", run, "-o", "json")).Out)!;
        var count = 0;
        foreach (var stage in shown["stages"]!.AsArray())
        {
            var id = ((string)stage!["mlflow"]!).Split('/')[^1];
            foreach (var metric in (await MetricsAsync(proxy, run, (string)stage["activityId"]!)).GroupBy(m => m.Name))
            {
                var history = await http.GetFromJsonAsync<JsonNode>($"metrics/get-history?run_id={id}&metric_key={metric.Key}&max_results=25000");
                Assert.Equal(metric.Select(m => (m.Step, m.Value)).Order(), history!["metrics"]!.AsArray().Select(m => (long.Parse(m!["step"]!.ToString(), CultureInfo.InvariantCulture), (double)m["value"]!)).Order());
                count += metric.Count();
            }
        }

        return count;
    }

    private Task<Outcome> CliAsync(FaultProxy proxy, params string[] arguments) => Executable.RunAsync(folder, Settings(proxy), arguments);

    private static Dictionary<string, string> Settings(FaultProxy proxy) => new() { ["FASTDRAFT_MLFLOW"] = proxy.Address.ToString() };
}
