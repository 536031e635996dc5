using System.Diagnostics;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Server;
using FastDraft.Server.Dispatch;
using Microsoft.EntityFrameworkCore;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

public abstract class LeaseFacts(TestDatabase database, ITestOutputHelper output) : IDisposable
{
    // The proportions of the real ones, a sixth as long: a host that waits for a busy machine is not yet a lost one.
    private const double LeaseSeconds = 5;

    private readonly TestPipeline pipeline = new(database);

    public void Dispose()
    {
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task The_late_commit_of_a_frozen_host_is_refused()
    {
        var wanted = Series.Length(2);
        for (var (round, refused) = (0, 0); refused < wanted; round++)
        {
            // Frozen with its outputs stored, in front of the commit; then another host does it all again.
            using var zombie = pipeline.StartHostProcess(MakeAndCopy(number: round), LeaseSeconds, Failpoint.BeforeCommit + ":stop");
            await UntilAsync(() => Task.FromResult(State(zombie) == 'T'), "the host is frozen");
            if (!await CanWriteAsync())
            {
                // It froze while another of its threads was writing: nobody can work then, and there is no zombie to refuse.
                Signal(zombie, "CONT");
                await zombie.WaitForExitAsync();
                continue;
            }

            refused++;
            await using var host = await pipeline.StartAsync(LeaseSeconds);
            var id = (await host.Queries.ListRunsAsync(1))[0].Id;
            var run = await WaitAsync(host, id);
            Assert.Equal([StageRunState.Crashed, StageRunState.Succeeded], run.Stages[0].Attempts.Select(a => a.State));

            Signal(zombie, "CONT");
            await zombie.WaitForExitAsync();
            Assert.Equal(0, zombie.ExitCode);
            var after = (await host.Queries.GetRunAsync(id))!;
            Assert.Equal(System.Text.Json.JsonSerializer.Serialize(run), System.Text.Json.JsonSerializer.Serialize(after));
        }

        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task The_worker_of_a_frozen_host_ends_itself_before_another_may_start()
    {
        var gate = pipeline.PathOf("gate");
        using var frozen = pipeline.StartHostProcess(MakeAndCopy(waitFor: gate), LeaseSeconds);
        await using var store = await OpenWhenThereAsync();
        var id = (await store.Queries.ListRunsAsync(1))[0].Id;
        var worker = int.Parse((await LineAsync(store, id, "waiting")).Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture);
        Assert.Empty(await store.Queries.AbandonedAsync(id));
        Signal(frozen, "STOP");
        var began = TimeProvider.System.GetTimestamp();
        await UntilAsync(() => Task.FromResult(!Processes(_ => true).Contains(worker)), "the worker has ended");
        var took = TimeProvider.System.GetElapsedTime(began).TotalSeconds;
        output.WriteLine($"the worker ended {took:F1} s after its host froze; a lease is {LeaseSeconds} s");
        Assert.InRange(took, 0, LeaseSeconds);
        await UntilAsync(async () => await store.Queries.AbandonedAsync(id) is ["make"], "it is seen that nobody works on the stage");
        Signal(frozen, "KILL");
        await frozen.WaitForExitAsync();
        await File.WriteAllTextAsync(gate, "");
        await using var host = await pipeline.StartAsync(LeaseSeconds);
        Assert.Equal(RunState.Succeeded, (await WaitAsync(host, id)).State);
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task A_lease_that_another_owner_took_stops_the_attempt()
    {
        var gate = pipeline.PathOf("gate");
        await using var host = await pipeline.StartAsync(LeaseSeconds);
        var id = await SubmitAsync(host, MakeAndCopy(waitFor: gate));
        await LineAsync(host.Store, id, "waiting");
        var stage = (await host.Queries.GetRunAsync(id))!.Stages[0].Id;
        Assert.False(await host.Attempts.EndAsync(stage, 0, new AttemptOutcome(ExitCode.Ok, null, null), CancellationToken.None));
        await using (var db = host.Store.Open())
        {
            await db.StageRuns.Where(s => s.Id == stage).ExecuteUpdateAsync(u => u.SetProperty(s => s.LeaseEpoch, s => s.LeaseEpoch + 1).SetProperty(s => s.LeaseOwner, "elsewhere|" + Guid.CreateVersion7().ToString("N")));
        }

        await UntilAsync(async () => (await pipeline.WorkersAsync()).Count == 0, "the fenced worker is gone");
        await File.WriteAllTextAsync(gate, "");
        Assert.Equal(RunState.Succeeded, (await WaitAsync(host, id)).State);
    }

    [Fact]
    public async Task A_database_that_is_locked_for_a_while_ends_neither_host_nor_attempt()
    {
        var gate = pipeline.PathOf("gate");
        await using var host = await pipeline.StartAsync(9);
        var id = await SubmitAsync(host, MakeAndCopy(waitFor: gate));
        await LineAsync(host.Store, id, "waiting");
        await using (var db = host.Store.Open())
        {
            await using var alone = await db.Database.BeginTransactionAsync(System.Data.IsolationLevel.Serializable);
            if (pipeline.Settings.Database is not null)
            {
                await db.Database.ExecuteSqlRawAsync("LOCK TABLE runs, stage_runs, attempts");
            }

            await Task.Delay(TimeSpan.FromSeconds(5));
        }

        await File.WriteAllTextAsync(gate, "");
        var run = await WaitAsync(host, id);
        Assert.Equal((RunState.Succeeded, 1), (run.State, run.Stages[0].Attempts.Count));
    }

    [Fact]
    public async Task A_live_host_is_never_taken_for_a_dead_one()
    {
        var gate = pipeline.PathOf("gate");
        using var process = pipeline.StartHostProcess(MakeAndCopy(waitFor: gate));
        await using var store = await OpenWhenThereAsync();
        var id = (await store.Queries.ListRunsAsync(1))[0].Id;
        await LineAsync(store, id, "waiting");
        await using var other = await pipeline.StartAsync();
        await using var third = await pipeline.StartAsync();
        await Task.Delay(TimeSpan.FromSeconds(3));
        await File.WriteAllTextAsync(gate, "");
        var run = await WaitAsync(other, id);
        await process.WaitForExitAsync();
        Assert.Equal((RunState.Succeeded, 1, 0), (run.State, run.Stages[0].Attempts.Count, process.ExitCode));
    }

    private async Task<bool> CanWriteAsync()
    {
        if (pipeline.Settings.Database is not null)
        {
            // What it holds there are single rows, and not for long.
            return true;
        }

        await using var connection = new Microsoft.Data.Sqlite.SqliteConnection($"Data Source={Path.Combine(pipeline.Data, "pipeline.db")};Default Timeout=1");
        await connection.OpenAsync();
        try
        {
            await using var transaction = await connection.BeginTransactionAsync();
            return true;
        }
        catch (Microsoft.Data.Sqlite.SqliteException)
        {
            return false;
        }
    }

    private async Task<PipelineStore> OpenWhenThereAsync()
    {
        var store = await pipeline.OpenAsync();
        await UntilAsync(async () => (await store.Queries.ListRunsAsync(1)).Count == 1, "the run is there");
        return store;
    }

    private static char State(Process process)
    {
        var stat = File.ReadAllText($"/proc/{process.Id}/stat");
        return stat[stat.LastIndexOf(')') + 2];
    }

    private static void Signal(Process process, string signal)
    {
        using var kill = Process.Start(new ProcessStartInfo("kill") { ArgumentList = { "-" + signal, process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture) } })!;
        kill.WaitForExit();
    }
}

public sealed class SqliteLeaseFacts(ITestOutputHelper output) : LeaseFacts(TestDatabase.Sqlite, output);

public sealed class PostgreSqlLeaseFacts(ITestOutputHelper output) : LeaseFacts(TestDatabase.PostgreSql, output);
