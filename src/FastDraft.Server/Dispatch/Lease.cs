using System.Diagnostics;
using System.Text.Json;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server.Projections.OpenTelemetry;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <param name="Duration">How long a renewal holds, by the database's clock.</param>
/// <param name="FenceAfter">An attempt without a renewal for this long, by its own monotonic clock, stops: well before anyone else may start.</param>
internal sealed record LeaseTiming(TimeSpan Duration, TimeSpan RenewEvery, TimeSpan FenceAfter)
{
    public static LeaseTiming Default { get; } = new(TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(25));
}

/// <summary>
/// The right of one attempt to act for its stage run. The epoch rises with every owner and every write carries it, so an attempt
/// that lost its lease, knowing or not, changes nothing.
/// </summary>
internal sealed class Lease : IWorkerLife, IDisposable
{
    private readonly PipelineStore store;
    private readonly LeaseTiming timing;
    private readonly TimeProvider clock;
    private readonly CancellationTokenSource ended = new();
    private readonly CancellationTokenSource lost;
    private readonly Task renewing;
    private long fenceAt;

    private Lease(PipelineStore store, PipelineOptions options, StageRunRow row, AttemptRow attempt, long askedAt)
    {
        (this.store, timing, clock, StageRun, Attempt) = (store, options.Lease, options.Clock, row, attempt);
        lost = new CancellationTokenSource(timing.FenceAfter - clock.GetElapsedTime(askedAt), clock);
        fenceAt = FenceAt(askedAt);
        renewing = RenewAsync();
    }

    public StageRunRow StageRun { get; }

    public AttemptRow Attempt { get; }

    Guid IWorkerLife.Id => Attempt.Id;

    string IWorkerLife.Trace => TraceIds.Parent(StageRun.RunId, Attempt.Id);

    public long Epoch => Attempt.LeaseEpoch;

    /// <summary>Cancelled when another owner took over, or when no renewal succeeded for so long that one may.</summary>
    public CancellationToken Lost => lost.Token;

    /// <summary>Why the last renewal failed; null after one that succeeded.</summary>
    public Exception? LastError { get; private set; }

    /// <summary>How long this attempt may still act without another renewal.</summary>
    public TimeSpan Remaining => TimeSpan.FromSeconds((double)(Interlocked.Read(ref fenceAt) - clock.GetTimestamp()) / clock.TimestampFrequency);

    /// <summary>Changes with every renewal.</summary>
    public long Renewal => Interlocked.Read(ref fenceAt);

    /// <summary>
    /// Wins a queued stage run and opens its attempt, in one transaction. Null when it is no longer queued, or while another one
    /// with the same key runs: that one shares its resume folder and makes its outputs.
    /// </summary>
    public static async Task<Lease?> TryAcquireAsync(PipelineStore store, PipelineOptions options, LeaseOwner owner, Guid stageRunId, CancellationToken ct)
    {
        var asked = options.Clock.GetTimestamp();
        var duration = (long)options.Lease.Duration.TotalMilliseconds;
        StageRunRow? row = null;
        AttemptRow? attempt = null;
        var won = await store.Database.TransactAsync(
            async db =>
            {
                if (await db.StageRuns
                    .Where(s => s.Id == stageRunId && s.State == StageRunState.Queued)
                    .Where(s => !db.StageRuns.Any(o => o.KeyDigest == s.KeyDigest && (o.State == StageRunState.Running || o.State == StageRunState.Cancelling)))
                    .ExecuteUpdateAsync(
                        u => u.SetProperty(s => s.State, StageRunState.Running).SetProperty(s => s.LeaseEpoch, s => s.LeaseEpoch + 1).SetProperty(s => s.LeaseOwner, owner.Name)
                            .SetProperty(s => s.EnqueuedAt, (long?)null).SetProperty(s => s.JobId, (string?)null)
                            .SetProperty(s => s.LeaseExpiresAt, s => PipelineDbContext.DatabaseNow() + duration)
                            .SetProperty(s => s.StartedAt, s => s.StartedAt ?? PipelineDbContext.DatabaseNow()),
                        ct) != 1)
                {
                    return false;
                }

                row = await db.StageRuns.AsNoTracking().SingleAsync(s => s.Id == stageRunId, ct);
                attempt = new AttemptRow
                {
                    Id = Guid.CreateVersion7(), StageRunId = stageRunId, Number = await db.Attempts.CountAsync(a => a.StageRunId == stageRunId, ct) + 1,
                    LeaseEpoch = row.LeaseEpoch, State = StageRunState.Running, StartedAt = options.Clock.GetUtcNow().ToUnixTimeMilliseconds(),
                    EnvironmentJson = options.Environment.Count == 0 ? null : JsonSerializer.Serialize(options.Environment),
                };
                db.Attempts.Add(attempt);
                return true;
            },
            ct);

        return won ? new Lease(store, options, row!, attempt!, asked) : null;
    }

    /// <summary>
    /// Inside a transaction: true while this attempt may write. Nobody takes the lease before that transaction ends, so what it writes
    /// it wrote as the owner.
    /// </summary>
    public async Task<bool> HoldAsync(PipelineDbContext db) => await Mine(db).ExecuteUpdateAsync(u => u.SetProperty(s => s.LeaseEpoch, s => s.LeaseEpoch)) == 1;

    /// <summary>Ends renewal; what the tables say stays.</summary>
    public async Task StopRenewingAsync()
    {
        await ended.CancelAsync();
        await renewing;
    }

    public void Dispose()
    {
        ended.Dispose();
        lost.Dispose();
    }

    private IQueryable<StageRunRow> Mine(PipelineDbContext db) =>
        db.StageRuns.Where(s => s.Id == StageRun.Id && s.LeaseEpoch == Epoch && (s.State == StageRunState.Running || s.State == StageRunState.Cancelling));

    private long FenceAt(long askedAt) => askedAt + (long)(timing.FenceAfter.TotalSeconds * clock.TimestampFrequency);

    private async Task RenewAsync()
    {
        try
        {
            while (!lost.IsCancellationRequested)
            {
                // After a failure sooner: the fence does not wait.
                await Task.Delay(LastError is null ? timing.RenewEvery : timing.RenewEvery / 10, clock, ended.Token);
                var asked = clock.GetTimestamp();
                try
                {
                    await using var db = store.Open();
                    var duration = (long)timing.Duration.TotalMilliseconds;
                    if (await Mine(db).ExecuteUpdateAsync(u => u.SetProperty(s => s.LeaseExpiresAt, s => PipelineDbContext.DatabaseNow() + duration), ended.Token) == 0)
                    {
                        await lost.CancelAsync();
                        return;
                    }

                    LastError = null;
                    if (timing.FenceAfter - clock.GetElapsedTime(asked) is { Ticks: > 0 } left)
                    {
                        lost.CancelAfter(left);
                        Interlocked.Exchange(ref fenceAt, FenceAt(asked));
                    }
                }
                catch (Exception e) when (e is not OperationCanceledException)
                {
                    // Busy, locked, full or away: the next try may succeed, and if none does the fence falls.
                    Trace.TraceWarning($"Lease of {StageRun.Id}: {e.Message}");
                    LastError = e;
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The attempt ended.
        }
    }
}
