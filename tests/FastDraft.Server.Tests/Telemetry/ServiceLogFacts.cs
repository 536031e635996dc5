using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.TestKit;

namespace FastDraft.Server.Tests.Telemetry;

/// <summary>What <c>fastdraft serve</c> writes on a stderr that is no terminal.</summary>
public sealed partial class ServiceLogFacts : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-log-").FullName;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public async Task Every_line_is_json_and_carries_the_ids_of_the_run_stage_attempt_and_trace_that_it_is_about()
    {
        var none = new Dictionary<string, string>();
        var token = (await Executable.RunAsync(folder, none, "token", "create", "tests", "--role", "operator", "--quiet")).Out.Trim();
        using var service = Executable.Start(folder, none, "serve", "--urls", "http://127.0.0.1:0");
        var said = service.StandardError.ReadToEndAsync(Ct);
        string good, bad;
        try
        {
            var address = Address().Match((await service.StandardOutput.ReadLineAsync(Ct))!).Value;
            using var http = new HttpClient { BaseAddress = new Uri(address) };
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
            (good, bad) = (await RunAsync(http, fails: false), await RunAsync(http, fails: true));
        }
        finally
        {
            using var stop = System.Diagnostics.Process.Start("kill", ["-TERM", $"{service.Id}"]);
            await service.WaitForExitAsync(Ct);
        }

        var lines = (await said).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonNode.Parse(l)!.AsObject()).ToList();
        Assert.All(lines, l => Assert.True(l["time"] is not null && l["level"] is not null && l["message"] is not null, l.ToJsonString()));
        foreach (var (run, level) in new[] { (good, "info"), (bad, "warning") })
        {
            var about = lines.Where(l => (string?)l["run"] == run).ToList();
            Assert.All(about, l => Assert.Equal(Guid.Parse(run).ToString("N"), (string?)l["trace_id"]));
            var attempt = about.Where(l => l["attempt"] is not null).ToList();
            Assert.Equal(["info", level], attempt.Select(l => (string?)l["level"]));
            Assert.All(attempt, l => Assert.Equal(("ingest", 1), ((string?)l["stage"], (int)l["attempt"]!)));
            Assert.Equal(["info", level], about.Where(l => l["attempt"] is null).Select(l => (string?)l["level"]));
        }

        Assert.Contains(lines, l => (string?)l["run"] == bad && ((string?)l["message"])!.Contains("broken.jsonl", StringComparison.Ordinal));
    }

    private async Task<string> RunAsync(HttpClient http, bool fails)
    {
        var id = await IngestRun.SubmitAsync(http, folder, fails, Ct);
        while ((string?)(await http.GetFromJsonAsync<JsonNode>(new Uri($"/api/runs/{id}", UriKind.Relative), Ct))!["state"] is "Pending" or "Running")
        {
            await Task.Delay(50, Ct);
        }

        return id;
    }

    [GeneratedRegex(@"http://127\.0\.0\.1:\d+/")]
    private static partial Regex Address();
}
