using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Telemetry;
using FastDraft.Server.Web;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

/// <summary>What the API asks of the tables, and the keys of its requests, on each database.</summary>
public abstract class RunQueriesFacts(TestDatabase database) : IDisposable
{
    private readonly TestPipeline pipeline = new(database);

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task A_long_curve_is_thinned_and_a_rare_metric_beside_it_is_whole()
    {
        await using var store = await pipeline.OpenAsync();
        var attempt = await AttemptAsync(store);
        await using (var db = store.Open())
        {
            db.ChangeTracker.AutoDetectChangesEnabled = false;
            for (var n = 1; n <= 12_000; n++)
            {
                db.Metrics.Add(new MetricRow { AttemptId = attempt, Name = "loss", Step = n, Value = n });
                if (n % 1000 == 0)
                {
                    db.Metrics.Add(new MetricRow { AttemptId = attempt, Name = "acceptance", Step = n, Value = 0.5 });
                }
            }

            await db.SaveChangesAsync(Ct);
        }

        var curves = (await store.Queries.CurvesAsync(attempt, 100, Ct)).ToLookup(p => p.Name);
        Assert.Equal(12, curves["acceptance"].Count());
        Assert.InRange(curves["loss"].Count(), 95, 105);
        Assert.Equal((1, 12_000), (curves["loss"].First().Step, curves["loss"].Last().Step));
        Assert.All(curves["loss"], p => Assert.Equal(p.Step, p.Value));
        var head = (await store.Queries.HeadsAsync([attempt, Guid.CreateVersion7()], Ct))[attempt];
        Assert.Equal((0, curves["acceptance"].Last().Last), (head.Chunk, head.Metric));
        Assert.Equal(2, (await store.Queries.MetricsAsync(attempt, await store.Queries.MetricBeforeAsync(attempt, 2, Ct), ct: Ct)).Count);
    }

    [Fact]
    public async Task A_short_curve_is_the_mean_of_its_spans()
    {
        await using var store = await pipeline.OpenAsync();
        var attempt = await AttemptAsync(store);
        await using (var db = store.Open())
        {
            db.Metrics.AddRange(Enumerable.Range(0, 100).Select(n => new MetricRow { AttemptId = attempt, Name = "loss", Step = n, Value = n }));
            await db.SaveChangesAsync(Ct);
        }

        var curve = await store.Queries.CurvesAsync(attempt, 10, Ct);
        Assert.Equal(12, curve.Count);
        Assert.Equal((8, 4.0), (curve[0].Step, curve[0].Value));
        Assert.Equal((99, 99.0), (curve[^1].Step, curve[^1].Value));
    }

    [Fact]
    public async Task A_log_is_read_in_pages_of_whole_chunks()
    {
        await using var store = await pipeline.OpenAsync();
        var attempt = await AttemptAsync(store);
        await using (var db = store.Open())
        {
            db.AttemptLog.AddRange(Enumerable.Range(1, 10).Select(n => new AttemptLogRow { AttemptId = attempt, Number = n, Lines = string.Concat(Enumerable.Repeat($"chunk {n}\n", 10)) }));
            await db.SaveChangesAsync(Ct);
        }

        var (read, last) = (new List<string>(), 0);
        while (await store.Queries.LogPageAsync(attempt, last, 200, Ct) is { Lines.Count: > 0 } page)
        {
            Assert.InRange(page.Lines.Count, 10, 20);
            read.AddRange(page.Lines);
            last = page.Last;
        }

        Assert.Equal(Enumerable.Range(1, 10).SelectMany(n => Enumerable.Repeat($"chunk {n}", 10)), read);

        // One that is larger than a page is a page.
        Assert.Equal(10, (await store.Queries.LogPageAsync(attempt, 0, 1, Ct)).Lines.Count);
    }

    [Fact]
    public async Task Requests_with_one_key_at_once_make_one_run()
    {
        await using var host = await PipelineHost.StartAsync(pipeline.Options(), Ct);
        var key = new IdempotencyKey("tests", "key", "digest");
        var definition = WorkflowDefinition.Parse(MakeAndCopy().ToJsonString());
        var ids = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() => host.SubmitAsync(definition, new Dictionary<string, JsonNode?>(), key: key, ct: Ct))));
        Assert.Equal(ids[0], Assert.Single(ids.Distinct()));
        Assert.Single(await host.Queries.ListRunsAsync(ct: Ct));
        await Assert.ThrowsAsync<KeyReusedException>(() => host.SubmitAsync(definition, new Dictionary<string, JsonNode?>(), key: key with { RequestDigest = "other" }, ct: Ct));
        Assert.NotEqual(ids[0], await host.SubmitAsync(definition, new Dictionary<string, JsonNode?>(), key: key with { Actor = "somebody" }, ct: Ct));
        Assert.Single(await host.Queries.AuditAsync(new Persistence.Audit.AuditFilter(Object: ids[0].ToString()), Ct));
    }

    [Fact]
    public async Task Figures_are_counted()
    {
        await using var store = await pipeline.OpenAsync();
        await AttemptAsync(store);
        using var figures = new ServiceFigures(store, TimeProvider.System);
        var text = await figures.TextAsync(Ct);
        Assert.Contains("""fastdraft_runs_total{workflow="w",state="succeeded"} 1""", text, StringComparison.Ordinal);
        Assert.Contains("""fastdraft_stage_duration_seconds_bucket{stage="Made",le="10"} 1""", text, StringComparison.Ordinal);
        Assert.Contains("""fastdraft_stage_attempts_total{stage="Made",outcome="succeeded"} 1""", text, StringComparison.Ordinal);
        Assert.Contains("fastdraft_artifact_bytes 0", text, StringComparison.Ordinal);
    }

    private static async Task<Guid> AttemptAsync(PipelineStore store)
    {
        var (run, stage, attempt) = (Guid.CreateVersion7(), Guid.CreateVersion7(), Guid.CreateVersion7());
        await using var db = store.Open();
        db.Runs.Add(new RunRow { Id = run, WorkflowName = "w", DefinitionJson = "{}", StateJson = "{}", State = RunState.Succeeded, EndedAt = 1 });
        db.StageRuns.Add(new StageRunRow { Id = stage, RunId = run, ActivityInstanceId = "a#1", ActivityId = "a", Stage = "Made", State = StageRunState.Succeeded, StartedAt = 0, EndedAt = 4000 });
        await db.SaveChangesAsync(Ct);
        db.Attempts.Add(new AttemptRow { Id = attempt, StageRunId = stage, Number = 1, State = StageRunState.Succeeded, EndedAt = 4000 });
        await db.SaveChangesAsync(Ct);
        return attempt;
    }
}

public sealed class SqliteRunQueriesFacts() : RunQueriesFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlRunQueriesFacts() : RunQueriesFacts(TestDatabase.PostgreSql);
