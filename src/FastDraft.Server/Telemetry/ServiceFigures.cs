using System.Globalization;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server.Dispatch;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Telemetry;

/// <summary>
/// The figures of the pipeline, counted in its tables: every server says the same, a restart loses none, and a counter goes back only where
/// rows do. No label names a run: what is counted is what there are few of.
/// </summary>
internal sealed class ServiceFigures(PipelineStore store, TimeProvider clock) : IDisposable
{
    private const int MaxQueued = 10_000;

    /// <summary>Figures are counted anew no more often than that, however many ask.</summary>
    private static readonly TimeSpan Fresh = TimeSpan.FromSeconds(5);

    private static readonly double[] Seconds = [1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600];

    private readonly SemaphoreSlim alone = new(1);
    private long countedAt;
    private string? counted;

    public async Task<string> TextAsync(CancellationToken ct)
    {
        await alone.WaitAsync(ct);
        try
        {
            if (counted is null || clock.GetElapsedTime(countedAt) > Fresh)
            {
                (counted, countedAt) = (await CountAsync(ct), clock.GetTimestamp());
            }

            return counted;
        }
        finally
        {
            alone.Release();
        }
    }

    public void Dispose() => alone.Dispose();

    private async Task<string> CountAsync(CancellationToken ct)
    {
        await using var db = store.Open();
        var text = new PrometheusText();
        await RunsAsync(db, text, ct);
        await StagesAsync(db, text, ct);
        await QueueAsync(db, text, ct);
        await TrainingAsync(db, text, ct);
        await EvaluationAsync(db, text, ct);
        await OutboxAsync(db, text, ct);
        text.Gauge("fastdraft_artifact_bytes", "Bytes of the artifacts in the tables, each counted once.");
        text.Sample("fastdraft_artifact_bytes", await db.Artifacts.SumAsync(a => a.SizeBytes, ct));
        return text.ToString();
    }

    private static async Task RunsAsync(PipelineDbContext db, PrometheusText text, CancellationToken ct)
    {
        text.Counter("fastdraft_runs_total", "Runs that have ended.");
        foreach (var group in await db.Runs.Where(r => r.State == RunState.Succeeded || r.State == RunState.Failed || r.State == RunState.Cancelled)
            .GroupBy(r => new { r.WorkflowName, r.State }).Select(g => new { g.Key.WorkflowName, g.Key.State, Count = g.Count() }).OrderBy(g => g.WorkflowName).ToListAsync(ct))
        {
            text.Sample("fastdraft_runs_total", group.Count, ("workflow", group.WorkflowName), ("state", Word(group.State)));
        }
    }

    private static async Task StagesAsync(PipelineDbContext db, PrometheusText text, CancellationToken ct)
    {
        const string Duration = "fastdraft_stage_duration_seconds";
        text.Histogram(Duration, "From the first start of a stage run to its end.");
        var ended = db.StageRuns.Where(s => s.State == StageRunState.Succeeded && s.StartedAt != null && s.EndedAt != null).Select(s => new { s.Stage, Took = s.EndedAt!.Value - s.StartedAt!.Value });
        foreach (var stage in await ended.GroupBy(s => s.Stage).Select(g => new
        {
            Stage = g.Key, Count = g.Count(), Sum = g.Sum(s => s.Took),
            Within = new[]
            {
                g.Count(s => s.Took <= 1_000), g.Count(s => s.Took <= 10_000), g.Count(s => s.Took <= 60_000), g.Count(s => s.Took <= 600_000),
                g.Count(s => s.Took <= 3_600_000), g.Count(s => s.Took <= 21_600_000), g.Count(s => s.Took <= 86_400_000),
            },
        }).OrderBy(s => s.Stage).ToListAsync(ct))
        {
            for (var i = 0; i < Seconds.Length; i++)
            {
                text.Sample(Duration + "_bucket", stage.Within[i], ("stage", stage.Stage), ("le", Seconds[i].ToString(CultureInfo.InvariantCulture)));
            }

            text.Sample(Duration + "_bucket", stage.Count, ("stage", stage.Stage), ("le", "+Inf"));
            text.Sample(Duration + "_sum", stage.Sum / 1000.0, ("stage", stage.Stage));
            text.Sample(Duration + "_count", stage.Count, ("stage", stage.Stage));
        }

        text.Counter("fastdraft_stage_attempts_total", "Attempts that have ended.");
        foreach (var group in await (from a in db.Attempts
                                     join s in db.StageRuns on a.StageRunId equals s.Id
                                     where a.EndedAt != null
                                     group a by new { s.Stage, a.State } into g
                                     orderby g.Key.Stage
                                     select new { g.Key.Stage, g.Key.State, Count = g.Count() }).ToListAsync(ct))
        {
            text.Sample("fastdraft_stage_attempts_total", group.Count, ("stage", group.Stage), ("outcome", Word(group.State)));
        }

        text.Counter("fastdraft_cache_total", "Stage runs that took an earlier result (hit) or worked (miss).");
        foreach (var group in await db.StageRuns.Where(s => s.State == StageRunState.Cached || s.StartedAt != null)
            .GroupBy(s => new { s.Stage, IsHit = s.State == StageRunState.Cached }).Select(g => new { g.Key.Stage, g.Key.IsHit, Count = g.Count() }).OrderBy(g => g.Stage).ToListAsync(ct))
        {
            text.Sample("fastdraft_cache_total", group.Count, ("stage", group.Stage), ("result", group.IsHit ? "hit" : "miss"));
        }

        // An attempt raises a stage run's epoch by one, and whoever takes it over from a host that is gone by one more.
        text.Counter("fastdraft_lease_expired_total", "Attempts that were taken from hosts that are gone.");
        text.Sample("fastdraft_lease_expired_total", Math.Max(0, await db.StageRuns.SumAsync(s => s.LeaseEpoch, ct) - await db.Attempts.LongCountAsync(ct)));
    }

    private static async Task QueueAsync(PipelineDbContext db, PrometheusText text, CancellationToken ct)
    {
        text.Gauge("fastdraft_queue_depth", "Stage runs that wait for a host.");
        var queued = await db.StageRuns.AsNoTracking().Where(s => s.State == StageRunState.Queued).Take(MaxQueued).ToListAsync(ct);
        foreach (var group in queued.GroupBy(JobQueue.AcceleratorOf).Append(null).DistinctBy(g => g?.Key ?? "cpu").OrderBy(g => g?.Key ?? "cpu", StringComparer.Ordinal))
        {
            text.Sample("fastdraft_queue_depth", group?.Count() ?? 0, ("accelerator", group?.Key ?? "cpu"));
        }
    }

    private static async Task TrainingAsync(PipelineDbContext db, PrometheusText text, CancellationToken ct)
    {
        var open = await (from a in db.Attempts
                          join s in db.StageRuns on a.StageRunId equals s.Id
                          join r in db.Runs on s.RunId equals r.Id
                          where s.State == StageRunState.Running && a.EndedAt == null
                          orderby a.StartedAt descending
                          select new { a.Id, s.Stage, r.WorkflowName }).Take(1000).ToListAsync(ct);
        text.Gauge("fastdraft_training_loss", "The newest loss of a stage that trains now.");
        var newest = new List<((string, string)[] Labels, long Step, double? Rate)>();
        foreach (var attempt in open.DistinctBy(a => (a.Stage, a.WorkflowName)))
        {
            (string, string)[] labels = [("workflow", attempt.WorkflowName), ("stage", attempt.Stage)];
            if (await NewestAsync(db, attempt.Id, "loss", ct) is { } loss)
            {
                text.Sample("fastdraft_training_loss", loss.Value, labels);
                newest.Add((labels, loss.Step, (await NewestAsync(db, attempt.Id, "tokens_per_second", ct))?.Value));
            }
        }

        text.Gauge("fastdraft_training_tokens_per_second", "The newest rate of a stage that trains now.");
        newest.Where(n => n.Rate is not null).ToList().ForEach(n => text.Sample("fastdraft_training_tokens_per_second", n.Rate!.Value, n.Labels));
        text.Gauge("fastdraft_training_step", "The newest step of a stage that trains now.");
        newest.ForEach(n => text.Sample("fastdraft_training_step", n.Step, n.Labels));
    }

    private static async Task EvaluationAsync(PipelineDbContext db, PrometheusText text, CancellationToken ct)
    {
        var evaluated = await (from a in db.Attempts
                               join s in db.StageRuns on a.StageRunId equals s.Id
                               join r in db.Runs on s.RunId equals r.Id
                               where s.Stage == "EvaluateDraft" && a.State == StageRunState.Succeeded
                               orderby a.EndedAt descending
                               select new { a.Id, r.WorkflowName }).Take(1000).ToListAsync(ct);
        foreach (var (metric, figure, help) in new[]
        {
            ("eval_acceptance_rate", "fastdraft_eval_acceptance_rate", "Accepted of proposed tokens, in the newest evaluation of a workflow."),
            ("eval_block_efficiency", "fastdraft_eval_block_efficiency", "Tokens emitted per target forward, in the newest evaluation of a workflow."),
        })
        {
            text.Gauge(figure, help);
            foreach (var attempt in evaluated.DistinctBy(a => a.WorkflowName))
            {
                if (await NewestAsync(db, attempt.Id, metric, ct) is { } point)
                {
                    text.Sample(figure, point.Value, ("workflow", attempt.WorkflowName));
                }
            }
        }
    }

    private async Task OutboxAsync(PipelineDbContext db, PrometheusText text, CancellationToken ct)
    {
        text.Gauge("fastdraft_outbox_lag_seconds", "Age of the oldest event that a receiver has still to get.");
        var oldest = await (from d in db.OutboxDeliveries
                            join e in db.OutboxEvents on d.EventId equals e.Id
                            where !d.IsQuarantined
                            group e by d.Projection into g
                            select new { Projection = g.Key, At = g.Min(e => e.At) }).ToDictionaryAsync(g => g.Projection, g => g.At, ct);
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        foreach (var name in await db.Projections.Select(p => p.Name).OrderBy(n => n).ToListAsync(ct))
        {
            text.Sample("fastdraft_outbox_lag_seconds", oldest.TryGetValue(name, out var at) ? Math.Max(0, now - at) / 1000.0 : 0, ("projection", name));
        }
    }

    private static Task<MetricRow?> NewestAsync(PipelineDbContext db, Guid attempt, string name, CancellationToken ct) =>
        db.Metrics.AsNoTracking().Where(m => m.AttemptId == attempt && m.Name == name).OrderByDescending(m => m.Id).FirstOrDefaultAsync(ct);

    private static string Word<T>(T state)
        where T : struct, Enum => state.ToString().ToLowerInvariant();
}
