using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Server.Gates;
using FastDraft.Server.Tests.Scheduling;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Tests.Gates;

public abstract class GateStoreFacts(TestDatabase database) : IAsyncDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-gates-").FullName;
    private PipelineStore? store;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public async ValueTask DisposeAsync()
    {
        if (store is not null)
        {
            await store.DisposeAsync();
        }

        Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
        Directory.Delete(folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task An_answer_is_kept_and_makes_the_run_go_on()
    {
        var (gates, run) = await OpenAsync("ask#1");
        Assert.Equal("Ship it?", Assert.Single(await gates.ListAsync(decided: false, 10, Ct)).Title);
        var (decision, isNew) = await gates.DecideAsync(run, "ask#1", true, "ada", "both reports were read", Ct);
        Assert.True(isNew);
        Assert.Equal((true, "ada", "both reports were read"), (decision.Approved, decision.DecidedBy, decision.Reason));
        Assert.Empty(await gates.ListAsync(decided: false, 10, Ct));
        Assert.Equal("Ship it?", Assert.Single(await gates.ListAsync(decided: true, 10, Ct)).Title);
        await using var db = Db();
        var wait = await db.Waits.SingleAsync(Ct);
        Assert.NotNull(wait.DueAt);
        Assert.Equal("ada", JsonNode.Parse(wait.PayloadJson!)!["by"]!.GetValue<string>());
    }

    [Fact]
    public async Task The_first_of_many_answers_holds_and_the_same_answer_again_is_no_error()
    {
        var (gates, run) = await OpenAsync("ask#1");
        var answers = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(
            async () =>
            {
                try
                {
                    return (await gates.DecideAsync(run, "ask#1", i % 2 == 0, $"person {i}", null, Ct)).IsNew ? "first" : "same";
                }
                catch (StageFailureException)
                {
                    return "refused";
                }
            }, Ct)));
        Assert.Equal((1, 3, 4), (answers.Count(a => a == "first"), answers.Count(a => a == "same"), answers.Count(a => a == "refused")));
        var decided = Assert.Single(await gates.ListAsync(decided: true, 10, Ct));
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => gates.DecideAsync(run, "ask#1", decided.Approved != true, "late", null, Ct));
        Assert.Contains($"already, by {decided.DecidedBy}", failure.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(RunState.Cancelled)]
    [InlineData(RunState.Cancelling)]
    [InlineData(RunState.Failed)]
    public async Task A_run_that_no_longer_waits_takes_no_answer(RunState state)
    {
        var (gates, run) = await OpenAsync("ask#1", state);
        Assert.Empty(await gates.ListAsync(decided: false, 10, Ct));
        await Assert.ThrowsAsync<StageFailureException>(() => gates.DecideAsync(run, "ask#1", true, "ada", null, Ct));
        await Assert.ThrowsAsync<StageFailureException>(() => gates.DecideAsync(run, "other#1", true, "ada", null, Ct));
    }

    [Fact]
    public async Task A_gate_is_named_by_its_run_and_where_there_are_several_by_its_activity()
    {
        var (gates, run) = await OpenAsync("ask#1");
        Assert.Equal($"{run}/ask#1", (await gates.FindAsync(run.ToString()[..13], Ct)).Reference);
        Assert.Equal("ask", (await gates.FindAsync("latest/ask", Ct)).ActivityId);
        await WaitAsync(run, "ask#2");
        Assert.Contains("has 2 gates", (await Assert.ThrowsAsync<StageFailureException>(() => gates.FindAsync("latest", Ct))).Message, StringComparison.Ordinal);
        await gates.DecideAsync(run, "ask#2", false, "ada", null, Ct);
        Assert.Equal($"{run}/ask#1", (await gates.FindAsync("latest", Ct)).Reference);
        Assert.False((await gates.FindAsync("latest/ask#2", Ct)).Approved);
        Assert.Contains("no open gate 'none'", (await Assert.ThrowsAsync<StageFailureException>(() => gates.FindAsync("latest/none", Ct))).Message, StringComparison.Ordinal);
    }

    private async Task<(GateStore Gates, Guid Run)> OpenAsync(string instance, RunState state = RunState.Running)
    {
        store = await PipelineStore.OpenAsync(folder, await TestDatabases.NewAsync(database), Ct);
        var run = Guid.CreateVersion7();
        await using (var db = Db())
        {
            db.Runs.Add(new RunRow { Id = run, WorkflowName = "w", DefinitionJson = ScheduleFolder.Workflow().ToJson(), State = state });
            await db.SaveChangesAsync(Ct);
        }

        await WaitAsync(run, instance);
        return (new GateStore(store, TimeProvider.System), run);
    }

    private async Task WaitAsync(Guid run, string instance)
    {
        await using var db = Db();
        db.Waits.Add(new WaitRow { Id = Guid.CreateVersion7(), RunId = run, ActivityInstanceId = instance, ActivityId = "ask", Kind = WaitKind.Gate, Title = "Ship it?", CreatedAt = 1 });
        await db.SaveChangesAsync(Ct);
    }

    private PipelineDbContext Db() => store!.Open();
}

public sealed class SqliteGateStoreFacts() : GateStoreFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlGateStoreFacts() : GateStoreFacts(TestDatabase.PostgreSql);
