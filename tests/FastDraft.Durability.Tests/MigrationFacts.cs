using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.TestKit;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Migrations;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

/// <summary>From the first schema to today's with its rows kept, and no further: a schema of tomorrow is left alone.</summary>
public abstract class MigrationFacts(TestDatabase database) : IDisposable
{
    private const string Later = "99991231235959_Later";

    // As the first version wrote them: a run of one stage that succeeded in its second attempt. PostgreSQL had no version before today's.
    private static readonly string[] Rows =
    [
        """
        INSERT INTO runs ("Id", "WorkflowName", "DefinitionJson", "DefinitionDigest", "InputsJson", "StateJson", "State", "BypassCache", "CancelRequested", "CreatedAt", "EndedAt", "Version")
        VALUES ('01A20000-0000-7000-8000-000000000001', 'old', '{}', 'sha256:00', '{"target":"x"}', '{}', 'Succeeded', FALSE, FALSE, 1000, 5000, 7)
        """,
        """
        INSERT INTO stage_runs ("Id", "RunId", "ActivityInstanceId", "ActivityId", "Stage", "StageVersion", "State", "SettingsJson", "SourcesJson", "KeyJson", "KeyDigest", "CreatedAt", "StartedAt", "EndedAt", "LeaseEpoch")
        VALUES ('01A20000-0000-7000-8000-000000000002', '01A20000-0000-7000-8000-000000000001', 'make#1', 'make', 'Make', 1, 'Succeeded', '{"number":1}', '{}', NULL, 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 1000, 1500, 4500, 2)
        """,
        """
        INSERT INTO attempts ("Id", "StageRunId", "Number", "LeaseEpoch", "State", "ExitCode", "Failure", "StartedAt", "EndedAt", "LogFile")
        VALUES ('01A20000-0000-7000-8000-000000000003', '01A20000-0000-7000-8000-000000000002', 1, 1, 'Crashed', 137, 'killed', 1500, 2000, 'one.jsonl'),
               ('01A20000-0000-7000-8000-000000000004', '01A20000-0000-7000-8000-000000000002', 2, 2, 'Succeeded', 0, NULL, 2500, 4500, 'two.jsonl')
        """,
        """
        INSERT INTO artifacts ("Digest", "Kind", "SizeBytes", "NumFiles", "CreatedAt", "StageRunId") VALUES ('sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'corpus', 12, 1, 4400, '01A20000-0000-7000-8000-000000000002')
        """,
        """
        INSERT INTO stage_run_ports ("StageRunId", "Port", "IsOutput", "Kind", "Digest", "External") VALUES ('01A20000-0000-7000-8000-000000000002', 'made', TRUE, 'corpus', 'sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', FALSE)
        """,
        """
        INSERT INTO metrics ("AttemptId", "Name", "Step", "Value") VALUES ('01A20000-0000-7000-8000-000000000004', 'loss', 10, 0.25)
        """,
        """
        INSERT INTO path_digests ("Path", "SizeBytes", "ModifiedTicks", "Digest") VALUES ('/x', 1, 2, 'sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc')
        """,
    ];

    private readonly TestPipeline pipeline = new(database, isEmpty: true);

    public void Dispose()
    {
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task What_the_first_schema_held_is_read_by_todays_model()
    {
        Directory.CreateDirectory(Path.Combine(pipeline.Data, "logs"));
        await File.WriteAllTextAsync(Path.Combine(pipeline.Data, "logs", "two.jsonl"), "{\"type\":\"log\",\"level\":\"Information\",\"message\":\"kept\"}\n");
        await using (var db = PipelineStore.DatabaseOf(pipeline.Data, pipeline.Settings).Open())
        {
            await db.GetService<IMigrator>().MigrateAsync(db.Database.GetMigrations().First());
            foreach (var sql in Rows)
            {
                await db.Database.ExecuteSqlRawAsync((await NewColumnsAsync(db, sql)).Replace("{", "{{", StringComparison.Ordinal).Replace("}", "}}", StringComparison.Ordinal));
            }
        }

        await using var host = await pipeline.StartAsync();
        var run = (await host.Queries.GetRunAsync(Guid.Parse("01A20000-0000-7000-8000-000000000001")))!;
        Assert.Equal(("old", RunState.Succeeded, 4), (run.WorkflowName, run.State, (int)(run.EndedAt - run.CreatedAt)!.Value.TotalSeconds));
        var stage = Assert.Single(run.Stages);
        Assert.Equal([(StageRunState.Crashed, 137), (StageRunState.Succeeded, 0)], stage.Attempts.Select(a => (a.State, a.ExitCode!.Value)));
        Assert.Equal("sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", Assert.Single(stage.Outputs).Digest);
        Assert.Equal(run.Id, (await host.Queries.GetArtifactAsync("sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"))!.RunId);
        Assert.Equal(0.25, Assert.Single(await host.Queries.MetricsAsync(run.Id)).Value);
        Assert.Contains("kept", Assert.Single(await host.Queries.LogsAsync(run.Id, "make")), StringComparison.Ordinal);
        Assert.Equal(RunState.Succeeded, (await FinishAsync(host, MakeAndCopy())).State);
    }

    [Fact]
    public async Task Whoever_is_older_than_the_schema_stops_with_one_message_and_changes_nothing()
    {
        await using (await pipeline.OpenAsync())
        {
        }

        var there = PipelineStore.DatabaseOf(pipeline.Data, pipeline.Settings);
        await using var db = there.Open();
        await db.Database.ExecuteSqlRawAsync("INSERT INTO \"__EFMigrationsHistory\" (\"MigrationId\", \"ProductVersion\") VALUES ({0}, '99.0')", Later);
        var before = (await there.ReportAsync(CancellationToken.None)).Applied;

        var refused = await Assert.ThrowsAsync<StageFailureException>(() => PipelineHost.StartAsync(pipeline.Options()));
        Assert.Equal(FailureKind.Config, refused.Kind);
        Assert.Contains(Later, refused.Message, StringComparison.Ordinal);
        foreach (var command in new[] { new[] { "runs", "list" }, ["serve", "--urls", "http://127.0.0.1:0"] })
        {
            var environment = new Dictionary<string, string> { ["FASTDRAFT_DATA"] = pipeline.Data, ["FASTDRAFT_DATABASE"] = pipeline.Settings.Database ?? "" };
            var said = await Executable.RunAsync(pipeline.Folder, environment, command);
            Assert.Equal(ExitCode.Config, said.ExitCode);
            var lines = said.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
            Assert.Contains("made by a newer version", string.Join(' ', lines), StringComparison.Ordinal);
            Assert.Contains(lines, l => l.TrimStart().StartsWith("try: the fastdraft that made it", StringComparison.Ordinal));
            Assert.DoesNotContain("Password", said.Error, StringComparison.Ordinal);
        }

        Assert.Equal(before, (await there.ReportAsync(CancellationToken.None)).Applied);
        Assert.Empty(await db.Runs.ToListAsync());
    }

    /// <summary>Columns that were added to the first schema before anyone had it: only PostgreSQL's, which nobody has released.</summary>
    private async Task<string> NewColumnsAsync(PipelineDbContext db, string sql)
    {
        if (pipeline.Settings.Database is null)
        {
            return sql;
        }

        var table = sql.Split(' ', StringSplitOptions.RemoveEmptyEntries)[2];
        var needed = await db.Database.SqlQuery<string>($"""
            SELECT quote_ident(column_name) || CASE WHEN data_type = 'text' THEN ' SET DEFAULT ''''' WHEN data_type = 'boolean' THEN ' SET DEFAULT FALSE' ELSE ' SET DEFAULT 0' END AS "Value"
            FROM information_schema.columns WHERE table_name = {table} AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' AND data_type <> 'uuid'
            """).ToListAsync();
        foreach (var alter in needed.Select(column => $"ALTER TABLE {table} ALTER COLUMN {column}"))
        {
            await db.Database.ExecuteSqlRawAsync(alter);
        }

        return sql;
    }
}

public sealed class SqliteMigrationFacts() : MigrationFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlMigrationFacts() : MigrationFacts(TestDatabase.PostgreSql);
