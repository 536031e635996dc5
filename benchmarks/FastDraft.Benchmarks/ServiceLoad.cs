using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Security;
using FastDraft.Server;
using FastDraft.Server.Security;
using FastDraft.Server.Web;
using FastDraft.Server.Worker;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Benchmarks;

/// <summary>
/// What the service answers and how fast, in a process of its own: with 10,000 runs and a million metric points in its tables, with 200
/// clients at once, and with a worker that writes a gigabyte without a line feed. Writes <c>benchmarks/results/DATE-service.md</c>.
/// Usage: service [seconds of load=60] [clients=200] [MiB of flood=1024]
/// </summary>
internal static class ServiceLoad
{
    private const int NumRuns = 10_000;
    private const int NumPoints = 1_000_000;
    private const int NumLive = 5;
    private const int Requests = 200;

    private static readonly StringBuilder Report = new();

    /// <summary>The roles of the other processes: the service, and its worker.</summary>
    public static async Task<int> ServeAsync(string folder)
    {
        var self = Environment.ProcessPath!;
        var options = new PipelineOptions
        {
            DataFolder = folder, Stages = [TellStage.Describe()], MaxParallelStages = NumLive + 1,
            WorkerFile = self, WorkerArguments = [.. Path.GetFileNameWithoutExtension(self) == "dotnet" ? [typeof(ServiceLoad).Assembly.Location] : Array.Empty<string>(), "service-worker"],
        };
        await using var host = await PipelineHost.StartAsync(options);
        await using var web = await PipelineWeb.StartAsync(host, options, new WebOptions { Url = new Uri("http://127.0.0.1:0") });
        Console.WriteLine(web.Address);
        await Console.In.ReadToEndAsync();
        return 0;
    }

    public static Task<int> WorkAsync(string[] args) => WorkerProgram.RunAsync(args, [new TellStage()]);

    public static async Task<int> RunAsync(string[] args)
    {
        int Option(int index, int fallback) => args.Length > index ? int.Parse(args[index], CultureInfo.InvariantCulture) : fallback;
        var (seconds, clients, flood) = (Option(0, 60), Option(1, 200), Option(2, 1024));
        var folder = Directory.CreateTempSubdirectory("fastdraft-service-").FullName;
        try
        {
            var (token, measured) = await FillAsync(folder);
            using var service = Start(folder);
            var address = new Uri((await service.StandardOutput.ReadLineAsync())!);
            using var http = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = 10_000 }) { BaseAddress = address, Timeout = Timeout.InfiniteTimeSpan };
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
            Say($"# The service under load, {TimeProvider.System.GetUtcNow():yyyy-MM-dd}\n");
            Say($"{Environment.ProcessorCount} virtual cores, shared by clients, service and other work (load {Load()} before); {Environment.Version}, SQLite on local disk. `service {seconds} {clients} {flood}`: "
                + $"{NumRuns:N0} runs of six stage runs each, one attempt with {NumPoints:N0} metric points. Milliseconds.\n");
            await RequestsAsync(http, measured);
            var live = await LiveAsync(http, seconds + 120);
            await ListenAsync(http, live[0]);
            await UnderLoadAsync(http, service, live, clients, seconds);
            await FloodAsync(http, service, flood);
            await VersionAsync();
            service.StandardInput.Close();
            await service.WaitForExitAsync();
        }
        finally
        {
            Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
            Directory.Delete(folder, recursive: true);
        }

        var results = Path.Join(Repository(), "benchmarks", "results", $"{TimeProvider.System.GetUtcNow():yyyy-MM-dd}-service.md");
        await File.WriteAllTextAsync(results, Report.ToString());
        Console.WriteLine($"written to {results}");
        return 0;
    }

    /// <returns>A token, and the run with the million points.</returns>
    private static async Task<(string Token, Guid Run)> FillAsync(string folder)
    {
        await using var store = await PipelineStore.OpenAsync(folder);
        var (_, token) = await new CredentialStore(store, TimeProvider.System).CreateTokenAsync("benchmark", Role.Operator, TimeSpan.FromHours(2), CancellationToken.None);
        await using var db = PipelineStore.DatabaseOf(folder, new PipelineSettings()).Open();
        db.ChangeTracker.AutoDetectChangesEnabled = false;
        var began = TimeProvider.System.GetUtcNow().AddDays(-30).ToUnixTimeMilliseconds();
        var definition = Workflow("""{ "seconds": 0 }""").ToJsonString();
        var (measured, stage) = (Guid.Empty, Guid.Empty);
        for (var n = 0; n < NumRuns; n++)
        {
            var (run, at) = (Guid.CreateVersion7(), began + (n * 200_000L));
            var state = n % 10 == 0 ? RunState.Failed : RunState.Succeeded;
            db.Runs.Add(new RunRow
            {
                Id = run, WorkflowName = $"workflow-{n % 7}", DefinitionId = $"workflow-{n % 7}", DefinitionVersion = 1, DefinitionJson = definition, DefinitionDigest = "sha256:0", StateJson = "{}", State = state,
                Incident = state == RunState.Failed ? "Stage 'pretrain' failed: the loss is not finite." : null, CreatedAt = at, EndedAt = at + 100_000,
            });
            for (var s = 0; s < 6; s++)
            {
                stage = Guid.CreateVersion7();
                db.StageRuns.Add(new StageRunRow
                {
                    Id = stage, RunId = run, ActivityInstanceId = $"stage{s}#{s}", ActivityId = $"stage{s}", Stage = $"Stage{s}", StageVersion = 1, CreatedAt = at, StartedAt = at, EndedAt = at + 15_000, LeaseEpoch = 1,
                    State = s == 5 && state == RunState.Failed ? StageRunState.Failed : StageRunState.Succeeded,
                });
            }

            measured = run;
            if (n % 1000 == 999)
            {
                await db.SaveChangesAsync();
                db.ChangeTracker.Clear();
            }
        }

        // One attempt of each stage run, named after it.
        const string Attempt = "FFFFFFFF";
        await db.Database.ExecuteSqlAsync(
            $"""
            INSERT INTO attempts ("Id", "StageRunId", "Number", "LeaseEpoch", "State", "StartedAt", "EndedAt", "LogFile")
            SELECT {Attempt} || substr("Id", 9), "Id", 1, 1, 'Succeeded', "StartedAt", "EndedAt", '' FROM stage_runs
            """);
        var attempt = Guid.Parse(Attempt + stage.ToString()[8..]);

        // As training writes them: several metrics of each step, one after the other.
        await db.Database.ExecuteSqlAsync(
            $"""
            WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {NumPoints})
            INSERT INTO metrics ("AttemptId", "Name", "Step", "Value", "At")
            SELECT {attempt}, CASE i % 4 WHEN 0 THEN 'loss' WHEN 1 THEN 'learning_rate' WHEN 2 THEN 'gradient_norm' ELSE 'tokens_per_second' END, i / 4, 10.0 / (1 + i), {began} FROM n
            """);
        return (token, measured);
    }

    private static async Task RequestsAsync(HttpClient http, Guid measured)
    {
        Say("## One request at a time\n\n| | p50 | p95 | max | KiB |\n|---|---|---|---|---|");
        var (_, first) = await TimeAsync(http, "/api/runs?limit=50", 1);
        var older = (string)JsonNode.Parse(first)!["older"]!;
        foreach (var (what, path) in new[]
        {
            ("runs, first page of the API", "/api/runs?limit=50"), ("runs, a page in the middle", $"/api/runs?limit=50&older={older}"),
            ("runs that failed", "/api/runs?limit=50&state=Failed"), ("runs, a text in what went wrong", "/api/runs?limit=50&text=finite"), ("the console's runs page, drawn on the server", "/runs"),
            ("a run", $"/api/runs/{measured}"), ("a page of 1,000 of the million points", $"/api/runs/{measured}/stages/stage5/metrics?limit=1000"),
            ("its four curves, 400 points each", $"/api/runs/{measured}/stages/stage5/curves?points=400"), ("audit", "/api/audit?limit=50"), ("gates", "/api/gates"), ("drafts", "/api/drafts"),
        })
        {
            var (times, body) = await TimeAsync(http, path, Requests);
            Say(Row(what, times) + $" {body.Length / 1024.0:F0} |");
        }

        Say("");
    }

    /// <summary>Runs whose worker says the time, several times a second.</summary>
    private static async Task<IReadOnlyList<string>> LiveAsync(HttpClient http, int seconds)
    {
        var live = new List<string>();
        for (var i = 0; i < NumLive; i++)
        {
            live.Add(await SubmitAsync(http, $$"""{ "seconds": {{seconds}}, "number": {{i}} }"""));
        }

        foreach (var run in live)
        {
            await foreach (var e in EventsAsync(http, run, CancellationToken.None))
            {
                if (e.Name == "log")
                {
                    break;
                }
            }
        }

        return live;
    }

    /// <summary>One listener, and nobody else: from the worker's line to the event.</summary>
    private static async Task ListenAsync(HttpClient http, string run)
    {
        using var over = new CancellationTokenSource(TimeSpan.FromSeconds(23));
        var (logs, metrics) = (new ConcurrentQueue<double>(), new ConcurrentQueue<double>());
        var began = Stopwatch.GetTimestamp();
        try
        {
            await foreach (var (name, data) in EventsAsync(http, run, over.Token))
            {
                // What a new listener hears of the past is not what is measured.
                if (Stopwatch.GetElapsedTime(began) > TimeSpan.FromSeconds(3))
                {
                    Take(name, data, logs, metrics);
                }
            }
        }
        catch (OperationCanceledException)
        {
        }

        Say($"## One listener for 20 s, {NumLive} workers that say the time five times a second\n\n| | p50 | p95 | max | times |\n|---|---|---|---|---|");
        Say(Row("log line in the worker to the listener", logs) + $" {logs.Count:N0} |");
        Say(Row("metric in the worker to the listener", metrics) + $" {metrics.Count:N0} |\n");
    }

    /// <summary>How long ago the worker wrote what an event tells of.</summary>
    private static void Take(string name, JsonNode data, ConcurrentQueue<double> logs, ConcurrentQueue<double> metrics)
    {
        var now = TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds();
        foreach (var line in name == "log" ? data["lines"]!.AsArray() : [])
        {
            if (long.TryParse((string)line!["message"]!, CultureInfo.InvariantCulture, out var at) && at > 0)
            {
                logs.Enqueue(now - at);
            }
        }

        foreach (var point in name == "metric" ? data["points"]!.AsArray() : [])
        {
            metrics.Enqueue(now - (double)point!["value"]!);
        }
    }

    private static async Task UnderLoadAsync(HttpClient http, Process service, IReadOnlyList<string> live, int clients, int seconds)
    {
        var (errors, lists, logs, metrics) = (new ConcurrentQueue<string>(), new ConcurrentQueue<double>(), new ConcurrentQueue<double>(), new ConcurrentQueue<double>());
        using var over = new CancellationTokenSource(TimeSpan.FromSeconds(seconds));
        var memory = new List<long>();
        var clock = Stopwatch.StartNew();
        async Task HearAsync(string run)
        {
            try
            {
                await foreach (var (name, data) in EventsAsync(http, run, over.Token))
                {
                    Take(name, data, logs, metrics);
                }

                if (!over.IsCancellationRequested)
                {
                    errors.Enqueue("a stream ended");
                }
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                errors.Enqueue(e.Message);
            }
            catch (OperationCanceledException)
            {
            }
        }

        async Task AskAsync(int n)
        {
            await Task.Delay(n * 1000 / clients);
            using var timer = new PeriodicTimer(TimeSpan.FromSeconds(1));
            do
            {
                var started = Stopwatch.GetTimestamp();
                using var response = await http.GetAsync(new Uri("/api/runs?limit=50", UriKind.Relative), over.Token);
                await response.Content.ReadAsByteArrayAsync(over.Token);
                lists.Enqueue(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
                if (response.StatusCode != HttpStatusCode.OK)
                {
                    errors.Enqueue($"runs: {(int)response.StatusCode}");
                }
            }
            while (await timer.WaitForNextTickAsync(over.Token));
        }

        async Task WatchMemoryAsync()
        {
            using var timer = new PeriodicTimer(TimeSpan.FromSeconds(1));
            do
            {
                service.Refresh();
                memory.Add(service.WorkingSet64);
            }
            while (await timer.WaitForNextTickAsync(over.Token));
        }

        async Task QuietAsync(Task task)
        {
            try
            {
                await task;
            }
            catch (OperationCanceledException)
            {
            }
        }

        // What a new listener hears of the past is not what is measured.
        var all = Enumerable.Range(0, clients).Select(n => HearAsync(live[n % live.Count])).Concat(Enumerable.Range(0, clients).Select(n => QuietAsync(AskAsync(n)))).Append(QuietAsync(WatchMemoryAsync())).ToList();
        await Task.Delay(TimeSpan.FromSeconds(3));
        logs.Clear();
        metrics.Clear();
        await Task.WhenAll(all);
        Say($"## {clients} clients for {clock.Elapsed.TotalSeconds:F0} s: each lists runs once a second and listens to one of {live.Count} live runs\n\n| | p50 | p95 | max | times |\n|---|---|---|---|---|");
        Say(Row("runs, first page", lists) + $" {lists.Count:N0} |");
        Say(Row("log line in the worker to a listener", logs) + $" {logs.Count:N0} |");
        Say(Row("metric in the worker to a listener", metrics) + $" {metrics.Count:N0} |");
        var quarter = Math.Max(1, memory.Count / 4);
        Say($"\nErrors: {errors.Count}{(errors.IsEmpty ? "" : $" ({string.Join("; ", errors.Distinct().Take(3))})")}. Memory of the service, MiB: {Mib(memory[0])} before, "
            + $"{Mib((long)memory.Skip(quarter).Take(quarter).Average())} in the second quarter, {Mib((long)memory.TakeLast(quarter).Average())} in the last, {Mib(memory.Max())} at most. Load of the machine: {Load()}.\n");
    }

    private static async Task FloodAsync(HttpClient http, Process service, int mebibytes)
    {
        service.Refresh();
        var (before, most) = (service.WorkingSet64, 0L);
        var started = Stopwatch.GetTimestamp();
        var run = await SubmitAsync(http, $$"""{ "seconds": 0, "flood": {{mebibytes}} }""");
        var ended = Task.Run(async () =>
        {
            await foreach (var _ in EventsAsync(http, run, CancellationToken.None))
            {
            }
        });
        while (await Task.WhenAny(ended, Task.Delay(50)) != ended)
        {
            service.Refresh();
            most = Math.Max(most, service.WorkingSet64);
        }

        var (_, body) = await TimeAsync(http, $"/api/runs/{run}/stages/tell/logs", 1);
        var cut = JsonNode.Parse(body)!["items"]!.AsArray().Count(l => ((string)l!["message"]!).Contains("[truncated:", StringComparison.Ordinal));
        var state = (string)JsonNode.Parse((await TimeAsync(http, $"/api/runs/{run}", 1)).Body)!["state"]!;
        Say($"## {mebibytes} MiB of log without a line feed\n\nThe run {state.ToLowerInvariant()} in {Stopwatch.GetElapsedTime(started).TotalSeconds:F1} s; {cut} line, marked as truncated, is in its log. Memory of the service grew by {Math.Max(0, most - before) >> 20} MiB at most, from {Mib(before)}.\n");
    }

    private static async Task VersionAsync()
    {
        var executable = BuiltCli.File;
        var times = new List<double>();
        for (var i = 0; i < 20; i++)
        {
            var started = Stopwatch.GetTimestamp();
            using var process = Process.Start(new ProcessStartInfo(executable) { ArgumentList = { "--version" }, RedirectStandardOutput = true })!;
            await process.WaitForExitAsync();
            times.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
        }

        Say($"## `fastdraft --version`, a process from start to end\n\n| | p50 | p95 | max | best |\n|---|---|---|---|---|");
        Say(Row("20 starts", times) + $" {times.Min():F0} |");
    }

    private static Process Start(string folder)
    {
        var self = Environment.ProcessPath!;
        var start = new ProcessStartInfo(self) { RedirectStandardInput = true, RedirectStandardOutput = true };
        foreach (var argument in (string[])[.. Path.GetFileNameWithoutExtension(self) == "dotnet" ? [typeof(ServiceLoad).Assembly.Location] : Array.Empty<string>(), "service-host", folder])
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }

    private static async Task<string> SubmitAsync(HttpClient http, string settings)
    {
        using var response = await http.PostAsJsonAsync("/api/runs", new { Definition = Workflow(settings), BypassCache = true });
        var answer = await response.Content.ReadFromJsonAsync<JsonNode>();
        return (string?)answer!["id"] ?? throw new InvalidOperationException(answer.ToJsonString());
    }

    private static async IAsyncEnumerable<(string Name, JsonNode Data)> EventsAsync(HttpClient http, string run, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken ct)
    {
        using var response = await http.GetAsync(new Uri($"/api/runs/{run}/events", UriKind.Relative), HttpCompletionOption.ResponseHeadersRead, ct);
        response.EnsureSuccessStatusCode();
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(ct));
        var name = "";
        while (await reader.ReadLineAsync(ct) is { } line)
        {
            if (line.StartsWith("event: ", StringComparison.Ordinal))
            {
                name = line[7..];
            }
            else if (line.StartsWith("data: ", StringComparison.Ordinal))
            {
                yield return (name, JsonNode.Parse(line[6..])!);
            }
        }
    }

    private static async Task<(List<double> Times, string Body)> TimeAsync(HttpClient http, string path, int count)
    {
        var (times, body) = (new List<double>(), "");
        for (var i = -Math.Min(5, count - 1); i < count; i++)
        {
            var started = Stopwatch.GetTimestamp();
            using var response = await http.GetAsync(new Uri(path, UriKind.Relative));
            body = await response.Content.ReadAsStringAsync();
            if (response.StatusCode != HttpStatusCode.OK)
            {
                throw new InvalidOperationException($"{path}: {(int)response.StatusCode} {body}");
            }

            if (i >= 0)
            {
                times.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
            }
        }

        return (times, body);
    }

    private static JsonObject Workflow(string settings)
    {
        var activity = new JsonObject { ["id"] = "tell", ["type"] = "FastDraft.Tell", ["version"] = 1 };
        foreach (var (name, value) in JsonNode.Parse(settings)!.AsObject())
        {
            activity[name] = new JsonObject { ["typeName"] = "Int64", ["expression"] = new JsonObject { ["type"] = "Literal", ["value"] = value!.DeepClone() } };
        }

        return new JsonObject
        {
            ["id"] = "tell-v1", ["definitionId"] = "tell", ["name"] = "tell", ["version"] = 1,
            ["root"] = new JsonObject { ["id"] = "flow", ["type"] = "Elsa.Flowchart", ["version"] = 1, ["connections"] = new JsonArray(), ["activities"] = new JsonArray(activity) },
        };
    }

    private static string Row(string what, IEnumerable<double> milliseconds)
    {
        var sorted = milliseconds.Order().ToList();
        return sorted.Count == 0 ? $"| {what} | - | - | - |" : $"| {what} | {At(.5):F0} | {At(.95):F0} | {sorted[^1]:F0} |";

        double At(double quantile) => sorted[(int)Math.Ceiling(quantile * sorted.Count) - 1];
    }

    private static void Say(string line)
    {
        Console.WriteLine(line);
        Report.Append(line).Append('\n');
    }

    private static string Mib(long bytes) => (bytes >> 20).ToString(CultureInfo.InvariantCulture);

    private static string Load() => File.Exists("/proc/loadavg") ? File.ReadAllText("/proc/loadavg").Split(' ')[0] : "unknown";

    private static string Repository()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Join(folder.FullName, "Pipeline.sln")))
        {
            folder = folder.Parent ?? throw new InvalidOperationException("The benchmark runs outside a checkout.");
        }

        return folder.FullName;
    }

    /// <summary>Says the time, in log lines and metric points, or writes very much without a line feed.</summary>
    private sealed class TellStage : IStage
    {
        public StageDescriptor Descriptor { get; } = Describe();

        public static StageDescriptor Describe() => new(
            "Tell", 1, "Says the time.",
            [
                new("seconds", SettingType.Integer, "For how long.", JsonValue.Create(0)), new("flood", SettingType.Integer, "MiB to write without a line feed.", JsonValue.Create(0)),
                new("number", SettingType.Integer, "Makes it another.", JsonValue.Create(0)),
            ],
            [], []);

        public async Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
        {
            var bytes = new byte[1 << 20];
            Array.Fill(bytes, (byte)'x');
            await using var output = Console.OpenStandardOutput();
            for (var i = 0; i < context.Integer("flood"); i++)
            {
                await output.WriteAsync(bytes, cancellationToken);
            }

            var end = TimeProvider.System.GetTimestamp() + (context.Integer("seconds")!.Value * TimeProvider.System.TimestampFrequency);
            for (var step = 1; TimeProvider.System.GetTimestamp() < end; step++)
            {
                var now = TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds();
                context.Events.Log(now.ToString(CultureInfo.InvariantCulture));
                context.Events.Metric("now", now, step);
                await Task.Delay(TimeSpan.FromMilliseconds(150 + (step % 7 * 20)), cancellationToken);
            }
        }
    }
}
