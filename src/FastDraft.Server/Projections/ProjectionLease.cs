using System.Diagnostics;
using FastDraft.Persistence;
using FastDraft.Server.Dispatch;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Projections;

/// <summary>
/// The right of one host to deliver for a projection. As with attempts the epoch rises with every owner and what is remembered of a
/// delivery is written only under it; a host that lost the lease may still finish a call, which is why deliveries do nothing twice.
/// </summary>
internal sealed class ProjectionLease : IAsyncDisposable
{
    private readonly string projection;
    private readonly PipelineStore store;
    private readonly LeaseTiming timing;
    private readonly TimeProvider clock;
    private readonly CancellationTokenSource ended = new();
    private readonly CancellationTokenSource lost;
    private readonly Task renewing;

    private ProjectionLease(string projection, PipelineStore store, PipelineOptions options, long epoch)
    {
        (this.projection, this.store, timing, clock, Epoch) = (projection, store, options.Lease, options.Clock, epoch);
        lost = new CancellationTokenSource(timing.FenceAfter, clock);
        renewing = RenewAsync();
    }

    public long Epoch { get; }

    public CancellationToken Lost => lost.Token;

    /// <summary>Null while another host has it.</summary>
    public static async Task<ProjectionLease?> TryTakeAsync(string projection, PipelineStore store, PipelineOptions options, LeaseOwner owner, CancellationToken ct)
    {
        await using var db = store.Open();
        var row = await db.ProjectionStates.AsNoTracking().SingleOrDefaultAsync(s => s.Name == projection, ct);
        if (row is null)
        {
            return null;
        }

        var (gone, duration) = (owner.IsGone(row.LeaseOwner), (long)options.Lease.Duration.TotalMilliseconds);
        return await db.ProjectionStates
            .Where(s => s.Name == projection && s.LeaseEpoch == row.LeaseEpoch && (gone || s.LeaseExpiresAt == null || s.LeaseExpiresAt < PipelineDbContext.DatabaseNow()))
            .ExecuteUpdateAsync(
                u => u.SetProperty(s => s.LeaseOwner, owner.Name).SetProperty(s => s.LeaseEpoch, s => s.LeaseEpoch + 1).SetProperty(s => s.LeaseExpiresAt, s => PipelineDbContext.DatabaseNow() + duration), ct) == 1
            ? new ProjectionLease(projection, store, options, row.LeaseEpoch + 1)
            : null;
    }

    /// <summary>Gives it back, so that another host need not wait until it expires.</summary>
    public async ValueTask DisposeAsync()
    {
        await ended.CancelAsync();
        await renewing;
        try
        {
            await using var db = store.Open();
            await db.ProjectionStates.Where(s => s.Name == projection && s.LeaseEpoch == Epoch)
                .ExecuteUpdateAsync(u => u.SetProperty(s => s.LeaseOwner, (string?)null).SetProperty(s => s.LeaseExpiresAt, (long?)null), CancellationToken.None);
        }
        catch (Exception e) when (PipelineDatabase.IsTrouble(e))
        {
            Trace.TraceWarning($"Lease of projection {projection}: {e.Message}");
        }

        ended.Dispose();
        lost.Dispose();
    }

    private async Task RenewAsync()
    {
        var duration = (long)timing.Duration.TotalMilliseconds;
        try
        {
            while (!lost.IsCancellationRequested)
            {
                await Task.Delay(timing.RenewEvery, clock, ended.Token);
                var asked = clock.GetTimestamp();
                try
                {
                    await using var db = store.Open();
                    if (await db.ProjectionStates.Where(s => s.Name == projection && s.LeaseEpoch == Epoch)
                        .ExecuteUpdateAsync(u => u.SetProperty(s => s.LeaseExpiresAt, s => PipelineDbContext.DatabaseNow() + duration), ended.Token) == 0)
                    {
                        await lost.CancelAsync();
                        return;
                    }

                    if (timing.FenceAfter - clock.GetElapsedTime(asked) is { Ticks: > 0 } left)
                    {
                        lost.CancelAfter(left);
                    }
                }
                catch (Exception e) when (PipelineDatabase.IsTrouble(e))
                {
                    Trace.TraceWarning($"Lease of projection {projection}: {e.Message}");
                }
            }
        }
        catch (OperationCanceledException)
        {
            // Given back.
        }
    }
}
