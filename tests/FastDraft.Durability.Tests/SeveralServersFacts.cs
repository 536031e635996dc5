using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Durability.Worker;
using FastDraft.Persistence;
using FastDraft.Persistence.Security;
using FastDraft.Server;
using FastDraft.Server.Definitions;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Security;
using FastDraft.Server.Web;
using FastDraft.TestKit;
using Microsoft.EntityFrameworkCore;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

/// <summary>Several hosts on one PostgreSQL. FASTDRAFT_FULL=1 makes the series long.</summary>
public sealed class SeveralServersFacts(ITestOutputHelper output) : IDisposable
{
    private const int NumStages = 5;
    private const int NumSlots = 2;

    private readonly TestPipeline pipeline = new(TestDatabase.PostgreSql);
    private readonly List<Process> servers = [];

    public void Dispose()
    {
        foreach (var server in servers)
        {
            server.Kill();
            server.WaitForExit();
            server.Dispose();
        }

        pipeline.Dispose();
    }

    [Fact]
    public async Task Two_servers_commit_every_stage_run_of_many_runs_once_and_soon()
    {
        var numRuns = Series.IsFull ? 200 : 8;
        var complaints = new[] { StartServer(pipeline.Settings), StartServer(pipeline.Settings) };
        await using var store = await pipeline.OpenAsync();
        var began = TimeProvider.System.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, numRuns).Select(n => SubmitLightAsync(store, n)));
        await EndedAsync(store, numRuns, TimeSpan.FromMinutes(20));
        var took = TimeProvider.System.GetElapsedTime(began).TotalSeconds;

        await using var db = store.Open();
        var attempts = await db.Attempts.AsNoTracking().ToListAsync();
        Assert.Equal(numRuns, await db.Runs.CountAsync(r => r.State == RunState.Succeeded));
        Assert.Equal((numRuns * NumStages, numRuns * NumStages), (attempts.Count, attempts.Count(a => a.State == StageRunState.Succeeded)));
        Assert.Equal(numRuns * NumStages, await db.Ports.CountAsync(p => p.IsOutput));
        var waits = Waits(await db.StageRuns.AsNoTracking().ToListAsync(), attempts).Order().ToList();
        var p95 = waits[(int)(waits.Count * 0.95) - 1];
        output.WriteLine($"{numRuns} runs, {attempts.Count} stage runs by 2 servers of {NumSlots} slots in {took:F1} s, {attempts.Count / took:F1} a second; due and a slot free until begun: p50 {waits[waits.Count / 2]:F0} ms, p95 {p95:F0} ms, worst {waits[^1]:F0} ms");
        foreach (var complaint in await StopAsync(complaints))
        {
            Assert.DoesNotContain("deadlock", complaint, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain("serializ", complaint, StringComparison.OrdinalIgnoreCase);
        }

        // Beside other tests it is their work that is waited for.
        Assert.InRange(p95, 0, Series.IsFull ? 2000 : 10_000);
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task A_database_that_crashes_again_and_again_loses_and_doubles_nothing()
    {
        using var postgres = new PostgreSqlServer(isDurable: true);
        var settings = new PipelineSettings { Database = postgres.NewDatabase() };
        await using var store = await PipelineStore.OpenAsync(pipeline.Data, settings);
        _ = StartServer(settings);
        _ = StartServer(settings);
        var (every, until, pause) = Series.IsFull
            ? (TimeSpan.FromSeconds(20), TimeSpan.FromMinutes(5), TimeSpan.FromSeconds(2.5))
            : (TimeSpan.FromSeconds(3), TimeSpan.FromSeconds(7), TimeSpan.FromSeconds(1));
        var (began, numRuns, numRestarts, restartAt) = (TimeProvider.System.GetTimestamp(), 0, 0, every);
        while (TimeProvider.System.GetElapsedTime(began) is var elapsed && elapsed < until)
        {
            if (elapsed > restartAt)
            {
                postgres.Restart();
                numRestarts++;
                restartAt += every;
            }

            await SubmitLightAsync(store, numRuns++);
            await Task.Delay(pause);
        }

        await EndedAsync(store, numRuns, TimeSpan.FromMinutes(4));
        Assert.All(servers, s => Assert.False(s.HasExited));
        await using var db = store.Open();
        Assert.Equal(numRuns, await db.Runs.CountAsync(r => r.State == RunState.Succeeded));
        Assert.Equal(numRuns * NumStages, await db.Attempts.CountAsync(a => a.State == StageRunState.Succeeded));
        Assert.Equal(numRuns * NumStages, await db.Ports.CountAsync(p => p.IsOutput));
        output.WriteLine($"{numRestarts} crashes of PostgreSQL in {until.TotalSeconds:F0} s, {numRuns} runs, {numRuns * NumStages} stage runs, {await db.Attempts.CountAsync()} attempts");
        await pipeline.AssertInvariantsAsync(settings: settings);
    }

    [Theory]
    [InlineData("UPDATE hangfire.jobqueue SET fetchedat = now() + interval '1 hour'")]
    [InlineData("DELETE FROM hangfire.jobqueue")]
    public async Task A_stage_whose_job_was_taken_or_lost_and_never_begun_stands_in_line_again(string loss)
    {
        await using var server = await PipelineHost.StartAsync(pipeline.Options());
        var id = await SubmitAsync(server, Sequence(Activity("there", "Make", ("number", Literal("Int64", 2)), ("accelerator", Literal("String", "cuda")))));
        await UntilAsync(async () => await ChangeAsync("UPDATE hangfire.jobqueue SET queue = queue WHERE queue = 'cuda' AND fetchedat IS NULL") == 1, "its job stands in line");
        Assert.Equal(1, await ChangeAsync(loss + " WHERE queue = 'cuda'"));

        await using var node = await PipelineHost.StartAsync(pipeline.Options() with { Accelerators = ["cuda"] });
        Assert.Equal(RunState.Succeeded, (await WaitAsync(server, id)).State);

        async Task<int> ChangeAsync(string sql)
        {
            await using var db = server.Store.Open();
            return await db.Database.ExecuteSqlRawAsync(sql);
        }
    }

    [Fact]
    public async Task The_service_says_that_it_is_not_ready_while_the_database_is_away_and_needs_no_restart()
    {
        using var postgres = new PostgreSqlServer(isDurable: false);
        var options = pipeline.Options() with { Settings = new PipelineSettings { Database = postgres.NewDatabase() } };
        await using var host = await PipelineHost.StartAsync(options);
        await using var web = await PipelineWeb.StartAsync(host, options, new WebOptions { Url = new Uri("http://127.0.0.1:0") });
        using var http = new HttpClient { BaseAddress = web.Address };
        Assert.Equal(200, await ReadyAsync());

        postgres.Stop();
        Assert.InRange(await UntilReadyAsync(503), 0, 10);
        postgres.Start();
        Assert.InRange(await UntilReadyAsync(200), 0, 15);
        Assert.Equal(RunState.Succeeded, (await FinishAsync(host, MakeAndCopy())).State);

        async Task<int> ReadyAsync() => (int)(await http.GetAsync(new Uri("/health/ready", UriKind.Relative))).StatusCode;

        async Task<double> UntilReadyAsync(int status)
        {
            var began = TimeProvider.System.GetTimestamp();
            await UntilAsync(async () => await ReadyAsync() == status, $"/health/ready says {status}");
            return TimeProvider.System.GetElapsedTime(began).TotalSeconds;
        }
    }

    [Fact]
    public async Task A_text_that_the_database_cannot_hold_is_a_fault_of_the_request()
    {
        var options = pipeline.Options();
        await using var host = await PipelineHost.StartAsync(options);
        await using var web = await PipelineWeb.StartAsync(host, options, new WebOptions { Url = new Uri("http://127.0.0.1:0") });
        using var http = new HttpClient { BaseAddress = web.Address };
        http.DefaultRequestHeaders.Authorization = new("Bearer", (await new CredentialStore(host.Store, TimeProvider.System).CreateTokenAsync("ann", Role.Admin, TimeSpan.FromHours(1), CancellationToken.None)).Secret);
        var model = Sequence();
        model["name"] = "a\0b";
        foreach (var (path, body, status) in new (string, JsonObject?, int)[]
        {
            // What is only kept is kept with another character in its place; what is looked for cannot be there.
            ("/elsa/api/workflow-definitions/import", model, 200),
            ("/api/runs", new JsonObject { ["workflow"] = "a\0b" }, 400), ("/api/runs?workflow=a%00b", null, 400), ("/api/audit?object=a%00b", null, 400),
        })
        {
            var address = new Uri(path, UriKind.Relative);
            var response = body is null ? await http.GetAsync(address) : await http.PostAsync(address, new StringContent(body.ToJsonString(), System.Text.Encoding.UTF8, "application/json"));
            var said = await response.Content.ReadAsStringAsync();
            Assert.True((int)response.StatusCode == status, $"{path}: {(int)response.StatusCode} {said}");
            Assert.Equal(status == 400, said.Contains("NUL", StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task A_stage_waits_in_the_line_of_its_accelerator_for_a_host_that_has_it()
    {
        await using var server = await PipelineHost.StartAsync(Named("server"));
        var id = await SubmitAsync(server, Sequence(
            Activity("here", "Make", ("number", Literal("Int64", 1))), Activity("there", "Make", ("number", Literal("Int64", 2)), ("accelerator", Literal("String", "cuda")))));
        await UntilAsync(async () => (await server.Queries.GetRunAsync(id))!.Stages is [{ State: StageRunState.Succeeded }, { State: StageRunState.Queued }], "the second stage waits");

        await using var node = await PipelineHost.StartAsync(Named("node") with { Accelerators = ["cuda"] });
        Assert.Equal(RunState.Succeeded, (await WaitAsync(server, id)).State);
        await using var db = server.Store.Open();
        var hosts = await (from a in db.Attempts join s in db.StageRuns on a.StageRunId equals s.Id orderby s.CreatedAt select a.EnvironmentJson).ToListAsync();
        Assert.Equal(["""{"host":"server"}""", """{"host":"node"}"""], hosts);

        PipelineOptions Named(string name) => pipeline.Options() with { Environment = new Dictionary<string, string> { ["host"] = name } };
    }

    [Fact]
    public async Task What_another_machine_does_is_watched_and_cancelled_from_here_within_ten_seconds()
    {
        await using var node = await PipelineHost.StartAsync(pipeline.Options());
        await using var server = await PipelineHost.StartAsync(pipeline.Options() with { DataFolder = pipeline.PathOf("elsewhere"), Accelerators = [] });
        var id = await SubmitAsync(server, MakeAndCopy(waitFor: pipeline.PathOf("never")));
        await LineAsync(server.Store, id, "waiting");
        var began = TimeProvider.System.GetTimestamp();
        Assert.True(await server.CancelAsync(id));
        Assert.Equal(RunState.Cancelled, (await WaitAsync(server, id)).State);
        Assert.InRange(TimeProvider.System.GetElapsedTime(began).TotalSeconds, 0, 10);
        Assert.Empty(await pipeline.WorkersAsync());
    }

    [Fact]
    public async Task A_stage_whose_machine_is_lost_begins_anew_elsewhere_and_says_so()
    {
        // Another data folder is another machine as far as locks and checkpoints go; the artifacts are reached from both.
        const double leaseSeconds = 3;
        var elsewhere = pipeline.PathOf("elsewhere");
        Directory.CreateDirectory(elsewhere);
        Directory.CreateDirectory(Path.Combine(pipeline.Data, "cas"));
        Directory.CreateSymbolicLink(Path.Combine(elsewhere, "cas"), Path.Combine(pipeline.Data, "cas"));
        var gate = pipeline.PathOf("gate");
        using var lost = pipeline.StartHostProcess(MakeAndCopy(waitFor: gate), leaseSeconds);
        await using var host = await PipelineHost.StartAsync(pipeline.Options(leaseSeconds) with { DataFolder = elsewhere, Accelerators = [] });
        await UntilAsync(async () => (await host.Queries.ListRunsAsync()).Count == 1, "the run is there");
        var id = (await host.Queries.ListRunsAsync())[0].Id;
        await LineAsync(host.Store, id, "waiting");
        lost.Kill();
        await lost.WaitForExitAsync();
        await File.WriteAllTextAsync(gate, "");

        await using var node = await PipelineHost.StartAsync(pipeline.Options(leaseSeconds) with { DataFolder = elsewhere });
        var run = await WaitAsync(host, id);
        Assert.Equal([StageRunState.Crashed, StageRunState.Succeeded], run.Stages[0].Attempts.Select(a => a.State));
        Assert.Contains(await host.Queries.LogsAsync(id, "make"), l => l.Contains("begins at the beginning", StringComparison.Ordinal));
    }

    /// <summary>
    /// For each stage run, milliseconds from when it was due and a slot was free until its attempt began. It takes the slot that has been free
    /// the longest; what stands before it in the line is no delay of its own, that a slot stays empty while somebody stands there is one.
    /// </summary>
    private IEnumerable<double> Waits(IReadOnlyList<StageRunRow> stages, IReadOnlyList<AttemptRow> attempts)
    {
        var free = new PriorityQueue<long, long>(Enumerable.Repeat((0L, 0L), servers.Count * NumSlots));
        var due = stages.ToDictionary(s => s.Id, s => s.CreatedAt);
        foreach (var attempt in attempts.OrderBy(a => a.StartedAt))
        {
            yield return Math.Max(0, attempt.StartedAt - Math.Max(due[attempt.StageRunId], free.Dequeue()));
            free.Enqueue(attempt.EndedAt!.Value, attempt.EndedAt.Value);
        }
    }

    private async Task SubmitLightAsync(PipelineStore store, int number)
    {
        var definition = WorkflowDefinition.Parse(Sequence(
            [Activity("make", "Make", ("number", Literal("Int64", number))), .. Enumerable.Range(1, NumStages - 1).Select(n => Activity("copy" + n, "Copy", ("suffix", Literal("String", "s" + n))))]).ToJsonString());
        var options = pipeline.Options();
        var engine = new RunEngine(options, store, new DefinitionStore(store, options));
        var id = Guid.CreateVersion7();
        while (true)
        {
            try
            {
                await using var db = store.Open();
                if (!await db.Runs.AnyAsync(r => r.Id == id))
                {
                    await engine.SubmitAsync(RunEngine.Pending(id, definition, new Dictionary<string, JsonNode?>(), new WorkflowStart(), TimeProvider.System.GetUtcNow()), [], null, CancellationToken.None);
                }

                return;
            }
            catch (Exception e) when (PipelineDatabase.IsTrouble(e))
            {
                await Task.Delay(200);
            }
        }
    }

    private static async Task EndedAsync(PipelineStore store, int numRuns, TimeSpan patience)
    {
        var began = TimeProvider.System.GetTimestamp();
        while (true)
        {
            try
            {
                await using var db = store.Open();
                if (await db.Runs.CountAsync(r => r.State == RunState.Succeeded || r.State == RunState.Failed || r.State == RunState.Cancelled) == numRuns)
                {
                    return;
                }
            }
            catch (Exception e) when (PipelineDatabase.IsTrouble(e))
            {
                // It comes back.
            }

            if (TimeProvider.System.GetElapsedTime(began) > patience)
            {
                Assert.Fail("The runs have not ended:\n" + await OpenStagesAsync(store));
            }

            await Task.Delay(250);
        }
    }

    private static async Task<string> OpenStagesAsync(PipelineStore store)
    {
        await using var db = store.Open();
        var open = await db.StageRuns.Where(s => s.State == StageRunState.Queued || s.State == StageRunState.Running || s.State == StageRunState.Pending || s.State == StageRunState.Cancelling).ToListAsync();
        var jobs = await db.Database.SqlQuery<string>($"SELECT concat_ws(' ', q.jobid, q.queue, q.fetchedat, j.statename) AS \"Value\" FROM hangfire.jobqueue q LEFT JOIN hangfire.job j ON j.id = q.jobid").ToListAsync();
        return string.Join('\n', open.Select(s => $"{s.ActivityId} {s.State} job {s.JobId} enqueued {s.EnqueuedAt} lease {s.LeaseEpoch} until {s.LeaseExpiresAt}").Concat(jobs));
    }

    /// <returns>What the server says on its error stream until it ends.</returns>
    private Task<string> StartServer(PipelineSettings settings)
    {
        var start = new ProcessStartInfo(
            "dotnet", [typeof(HostProgram).Assembly.Location, "serve", pipeline.Data, "30", NumSlots.ToString(CultureInfo.InvariantCulture)])
        { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["FASTDRAFT_DATABASE"] = settings.Database;
        var server = Process.Start(start)!;
        servers.Add(server);
        var said = server.StandardError.ReadToEndAsync();
        Assert.Equal("ready", server.StandardOutput.ReadLine());
        return said;
    }

    private async Task<IReadOnlyList<string>> StopAsync(IEnumerable<Task<string>> complaints)
    {
        servers.ForEach(s => s.StandardInput.Close());
        return await Task.WhenAll(complaints);
    }
}
