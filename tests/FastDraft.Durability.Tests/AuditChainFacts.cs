using FastDraft.Persistence.Audit;
using FastDraft.Server;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Durability.Tests;

/// <summary>What was done stays known: nobody changes the audit without a trace, and an act is there exactly when its row is.</summary>
public abstract class AuditChainFacts(TestDatabase database) : IAsyncLifetime
{
    private readonly TestPipeline pipeline = new(database);
    private PipelineStore store = null!;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => store = await pipeline.OpenAsync();

    public async ValueTask DisposeAsync()
    {
        await store.DisposeAsync();
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task A_chain_that_nobody_touched_is_intact_and_says_where_it_ends()
    {
        Assert.Equal("0:" + AuditChain.Genesis, (await VerifyAsync()).Head);
        await ActAsync(5);
        var result = await VerifyAsync();
        Assert.True(result.IsIntact);
        Assert.Equal(5, result.NumRows);
        Assert.StartsWith("5:sha256:", result.Head, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_edited_row_is_named()
    {
        await ActAsync(9);
        await TamperAsync("UPDATE audit SET \"Actor\" = 'somebody else' WHERE \"Sequence\" = 4");
        var finding = Assert.Single((await VerifyAsync()).Findings);
        Assert.Equal(("edited", 4L, 4L), (finding.Kind, finding.From, finding.To));
    }

    [Fact]
    public async Task Rows_removed_from_the_middle_are_named()
    {
        await ActAsync(9);
        await TamperAsync("DELETE FROM audit WHERE \"Sequence\" IN (3, 6, 7)");
        Assert.Equal([("removed", 3L, 3L), ("removed", 6L, 7L)], (await VerifyAsync()).Findings.Select(f => (f.Kind, f.From, f.To)));
    }

    [Fact]
    public async Task Rows_removed_from_the_end_are_named()
    {
        await ActAsync(9);
        await TamperAsync("DELETE FROM audit WHERE \"Sequence\" >= 8");
        var finding = Assert.Single((await VerifyAsync()).Findings);
        Assert.Equal(("removed", 8L, 9L), (finding.Kind, finding.From, finding.To));
    }

    [Fact]
    public async Task A_row_inserted_after_the_end_is_named()
    {
        await ActAsync(3);
        await TamperAsync("""
            INSERT INTO audit ("Sequence", "At", "Actor", "Action", "ObjectKind", "ObjectId", "DetailsJson", "PreviousHash", "Hash")
            SELECT 4, "At", "Actor", "Action", "ObjectKind", "ObjectId", "DetailsJson", "PreviousHash", "Hash" FROM audit WHERE "Sequence" = 3
            """);
        Assert.Contains((await VerifyAsync()).Findings, f => (f.Kind, f.From, f.To) == ("inserted", 4L, 4L));
    }

    [Fact]
    public async Task A_row_written_anew_with_a_hash_of_its_own_is_found()
    {
        await ActAsync(6);
        await using (var db = store.Open())
        {
            var row = await db.Audit.AsNoTracking().SingleAsync(r => r.Sequence == 3, Ct);
            row.ObjectId = "another run";
            await TamperAsync($"UPDATE audit SET \"ObjectId\" = 'another run', \"Hash\" = '{AuditChain.HashOf(row)}' WHERE \"Sequence\" = 3");
        }

        var finding = Assert.Single((await VerifyAsync()).Findings);
        Assert.Equal(("replaced", 3L), (finding.Kind, finding.From));
    }

    [Fact]
    public async Task A_chain_rewritten_to_its_head_or_cut_with_it_does_not_fit_a_head_that_was_noted()
    {
        await ActAsync(6);
        var noted = (await VerifyAsync()).Head;
        await ActAsync(2);
        Assert.True((await VerifyAsync(noted)).IsIntact);

        await TamperAsync("DELETE FROM audit WHERE \"Sequence\" > 4; UPDATE audit_head SET \"Sequence\" = 4, \"Hash\" = (SELECT \"Hash\" FROM audit WHERE \"Sequence\" = 4)");
        Assert.True((await VerifyAsync()).IsIntact);
        var finding = Assert.Single((await VerifyAsync(noted)).Findings);
        Assert.Equal(("removed", 5L, 6L), (finding.Kind, finding.From, finding.To));

        await ActAsync(4);
        Assert.Equal(("replaced", 6L), (await VerifyAsync(noted)).Findings.Select(f => (f.Kind, f.From)).Single());
        await Assert.ThrowsAsync<FormatException>(() => VerifyAsync("6:deadbeef"));
    }

    [Theory]
    [InlineData("UPDATE audit SET \"Actor\" = 'x'")]
    [InlineData("DELETE FROM audit")]
    public async Task The_database_itself_refuses_to_change_a_row(string statement)
    {
        await ActAsync(2);
        await using var db = store.Open();
        var refused = await Assert.ThrowsAnyAsync<System.Data.Common.DbException>(() => db.Database.ExecuteSqlRawAsync(statement, Ct));
        Assert.Contains("never changed", refused.Message, StringComparison.Ordinal);
        Assert.True((await VerifyAsync()).IsIntact);
    }

    [Fact]
    public async Task What_is_rolled_back_leaves_no_row_and_no_gap()
    {
        await ActAsync(2);
        await using (var db = store.Open())
        {
            await using (var transaction = await db.Database.BeginTransactionAsync(Ct))
            {
                db.Remember(new AuditEntry(AuditAction.RunCancelled, "not this one"));
                await transaction.RollbackAsync(Ct);
            }

            await using var next = await db.Database.BeginTransactionAsync(Ct);
            db.Remember(new AuditEntry(AuditAction.RunCancelled, "this one"));
            await next.CommitAsync(Ct);
        }

        Assert.Equal((3, true), ((int)(await VerifyAsync()).NumRows, (await VerifyAsync()).IsIntact));
        Assert.Equal("this one", (await store.Queries.AuditAsync(new AuditFilter(), Ct))[0].ObjectId);
    }

    [Fact]
    public async Task An_act_without_a_transaction_is_refused()
    {
        await using var db = store.Open();
        Assert.Throws<InvalidOperationException>(() => db.Remember(new AuditEntry(AuditAction.RunCancelled, "run")));
    }

    [Fact]
    public async Task Two_hosts_that_write_at_once_keep_one_chain()
    {
        await using var other = await pipeline.OpenAsync();
        await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(() => ActAsync(10, i % 2 == 0 ? store : other), Ct)));
        var result = await VerifyAsync();
        Assert.True(result.IsIntact, string.Join('\n', result.Findings));
        Assert.Equal(80, result.NumRows);
    }

    [Fact]
    public async Task A_row_says_who_what_when_and_is_found_by_each_of_them()
    {
        using (Actor.Become("ada"))
        {
            await ActAsync(1);
        }

        await ActAsync(1);
        var ada = Assert.Single(await store.Queries.AuditAsync(new AuditFilter(Actor: "ada"), Ct));
        Assert.Equal(("run.cancelled", "run", "run-0"), (ada.Action, ada.ObjectKind, ada.ObjectId));
        Assert.InRange(ada.At, TimeProvider.System.GetUtcNow().AddMinutes(-5), TimeProvider.System.GetUtcNow().AddMinutes(1));
        Assert.Equal(2, (await store.Queries.AuditAsync(new AuditFilter(Object: "run", Action: "run.cancelled", Since: TimeProvider.System.GetUtcNow().AddHours(-1)), Ct)).Count);
        Assert.Empty(await store.Queries.AuditAsync(new AuditFilter(Since: TimeProvider.System.GetUtcNow().AddHours(1)), Ct));
        Assert.Equal(Environment.UserName, (await store.Queries.AuditAsync(new AuditFilter(Limit: 1), Ct)).Single().Actor);
    }

    private Task<AuditVerification> VerifyAsync(string? expected = null) => store.Queries.VerifyAuditAsync(expected, Ct);

    private Task ActAsync(int count) => ActAsync(count, store);

    private static async Task ActAsync(int count, PipelineStore store)
    {
        for (var i = 0; i < count; i++)
        {
            var run = $"run-{i}";
            await store.Database.TransactAsync(
                db =>
                {
                    db.Remember(new AuditEntry(AuditAction.RunCancelled, run, Details: new() { ["why"] = "ünïcode \"quoted\" \0 \ud800" }));
                    return Task.FromResult(true);
                },
                Ct);
        }
    }

    /// <summary>What somebody who owns the database can do.</summary>
    private async Task TamperAsync(string statements)
    {
        await using var db = store.Open();
        await db.Database.ExecuteSqlRawAsync(
            database == TestDatabase.PostgreSql
                ? "DROP TRIGGER IF EXISTS audit_no_update ON audit; DROP TRIGGER IF EXISTS audit_no_delete ON audit"
                : "DROP TRIGGER IF EXISTS audit_no_update; DROP TRIGGER IF EXISTS audit_no_delete",
            Ct);
        await db.Database.ExecuteSqlRawAsync(statements, Ct);
    }
}

public sealed class SqliteAuditChainFacts() : AuditChainFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlAuditChainFacts() : AuditChainFacts(TestDatabase.PostgreSql);
