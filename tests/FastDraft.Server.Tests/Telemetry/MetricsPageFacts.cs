using System.Text.RegularExpressions;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server.Telemetry;
using FastDraft.Server.Tests.Runs;

namespace FastDraft.Server.Tests.Telemetry;

[Collection(ServiceCollection.Name)]
public sealed partial class MetricsPageFacts(RunningService service)
{
    private static readonly string[] Names =
    [
        "fastdraft_runs_total", "fastdraft_stage_duration_seconds", "fastdraft_stage_attempts_total", "fastdraft_cache_total", "fastdraft_queue_depth", "fastdraft_lease_expired_total",
        "fastdraft_training_loss", "fastdraft_training_tokens_per_second", "fastdraft_training_step", "fastdraft_eval_acceptance_rate", "fastdraft_eval_block_efficiency",
        "fastdraft_outbox_lag_seconds", "fastdraft_artifact_bytes",
    ];

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Every_figure_is_there_in_the_format_and_no_label_names_a_run()
    {
        var text = await service.Http.GetStringAsync(new Uri("/metrics", UriKind.Relative), Ct);
        var lines = text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.All(lines, line => Assert.Matches(Line(), line));
        Assert.Equal(Names.Order(StringComparer.Ordinal), lines.Where(l => l.StartsWith("# TYPE", StringComparison.Ordinal)).Select(l => l.Split(' ')[2]).Order(StringComparer.Ordinal));
        Assert.DoesNotMatch(RunId(), text);
    }

    [Fact]
    public async Task Figures_are_counted_in_the_tables()
    {
        var name = "w\"1\\" + RunsApiFacts.Name();
        await using var store = await PipelineStore.OpenAsync(service.DataFolder, Ct);
        await using (var db = PipelineStore.DatabaseOf(service.DataFolder, new PipelineSettings()).Open())
        {
            var run = new RunRow { Id = Guid.CreateVersion7(), WorkflowName = name, DefinitionJson = "{}", StateJson = "{}", State = RunState.Failed, EndedAt = 1 };
            db.Runs.Add(run);
            var epoch = 3L;
            foreach (var (stage, state, took) in new[] { ("EvaluateDraft", StageRunState.Succeeded, 4_000L), (name, StageRunState.Succeeded, 4_000L), (name, StageRunState.Succeeded, 90_000L), (name, StageRunState.Cached, 0L) })
            {
                var id = Guid.CreateVersion7();
                var isCached = state == StageRunState.Cached;
                db.StageRuns.Add(new StageRunRow
                {
                    Id = id, RunId = run.Id, ActivityInstanceId = id.ToString(), ActivityId = "a", Stage = stage, State = state, StartedAt = isCached ? null : 1000, EndedAt = 1000 + took, LeaseEpoch = isCached ? 0 : epoch,
                });
                await db.SaveChangesAsync(Ct);
                if (!isCached)
                {
                    // Two hosts died before the attempt that is counted.
                    db.Attempts.Add(new AttemptRow { Id = id, StageRunId = id, Number = 1, LeaseEpoch = epoch, State = state, StartedAt = 1000, EndedAt = long.MaxValue / 4 });
                    db.Metrics.Add(new MetricRow { AttemptId = id, Name = "eval_acceptance_rate", Value = 0.625 });
                }
            }

            await db.SaveChangesAsync(Ct);
        }

        using var figures = new ServiceFigures(store, TimeProvider.System);
        var text = await figures.TextAsync(Ct);
        var written = name.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal);
        foreach (var line in new[]
        {
            $$"""fastdraft_runs_total{workflow="{{written}}",state="failed"} 1""",
            $$"""fastdraft_stage_duration_seconds_bucket{stage="{{written}}",le="1"} 0""",
            $$"""fastdraft_stage_duration_seconds_bucket{stage="{{written}}",le="10"} 1""",
            $$"""fastdraft_stage_duration_seconds_bucket{stage="{{written}}",le="+Inf"} 2""",
            $$"""fastdraft_stage_duration_seconds_sum{stage="{{written}}"} 94""",
            $$"""fastdraft_stage_attempts_total{stage="{{written}}",outcome="succeeded"} 2""",
            $$"""fastdraft_cache_total{stage="{{written}}",result="hit"} 1""",
            $$"""fastdraft_cache_total{stage="{{written}}",result="miss"} 2""",
            $$"""fastdraft_eval_acceptance_rate{workflow="{{written}}"} 0.625""",
        })
        {
            Assert.Contains(line + "\n", text, StringComparison.Ordinal);
        }
    }

    [GeneratedRegex("""^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z_]+="([^"\\]|\\["\\n])*"(,[a-z_]+="([^"\\]|\\["\\n])*")*\})? (\+Inf|-?[0-9.eE+-]+))$""")]
    private static partial Regex Line();

    [GeneratedRegex("[0-9a-f]{8}-[0-9a-f]{4}-7")]
    private static partial Regex RunId();
}
