using System.Diagnostics;
using FastDraft.Persistence;
using FastDraft.Server.Worker;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Brings an attempt's metric points into the database while it works, about once a second, so that other processes see the
/// curve and a crash keeps it. While the database is away points wait here, at most <see cref="MaxWaiting"/> of them; then every
/// second one goes.
/// </summary>
internal sealed class AttemptMetrics(PipelineStore store, Lease lease)
{
    public const int MaxWaiting = 100_000;

    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private readonly Lock gate = new();
    private List<MetricPoint> waiting = [];

    public void Add(MetricPoint point)
    {
        lock (gate)
        {
            if (waiting.Count == MaxWaiting)
            {
                waiting = [.. waiting.Where((_, i) => i % 2 == 0)];
            }

            waiting.Add(point);
        }
    }

    /// <summary>Writes until stopped, and then what is left.</summary>
    public async Task RunAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            await Task.Delay(Interval, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await WriteAsync();
        }

        // What came while the last of those wrote; where the database is away, until it is back or the attempt is fenced.
        while (!await WriteAsync() && !lease.Lost.IsCancellationRequested)
        {
            await Task.Delay(Interval, lease.Lost).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <returns>False: the database did not take them, and they still wait.</returns>
    private async Task<bool> WriteAsync()
    {
        List<MetricPoint> points;
        lock (gate)
        {
            (points, waiting) = (waiting, []);
        }

        if (points.Count == 0)
        {
            return true;
        }

        try
        {
            await store.Database.TransactAsync(
                async db =>
                {
                    db.ChangeTracker.AutoDetectChangesEnabled = false;
                    db.Metrics.AddRange(points.Select(p => new MetricRow { AttemptId = lease.Attempt.Id, Name = p.Name, Step = p.Step, Value = p.Value, At = p.At }));
                    return await lease.HoldAsync(db);
                },
                CancellationToken.None);
            return true;
        }
        catch (Exception e) when (PipelineDatabase.IsTrouble(e))
        {
            Trace.TraceWarning($"Metrics of {lease.StageRun.Id}: {e.Message}");
            lock (gate)
            {
                // Older points first; Add thins them out when they become too many.
                waiting = points.Count + waiting.Count <= MaxWaiting ? [.. points, .. waiting] : [.. points.Where((_, i) => i % 2 == 0), .. waiting];
            }

            return false;
        }
    }
}
