using System.Diagnostics;
using FastDraft.Persistence;
using FastDraft.Server.Dispatch;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Projections;

/// <summary>
/// Delivers the events of one projection, one after the other, while this host holds its lease. Nothing here is awaited by a run: what
/// cannot be delivered stays in its row. A process that dies after a delivery and before the row is gone delivers again.
/// </summary>
internal sealed class ProjectionLoop(IProjection projection, PipelineStore store, PipelineOptions options, LeaseOwner owner)
{
    private const int Batch = 100;
    private static readonly TimeSpan Tick = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestWait = TimeSpan.FromMinutes(1);

    private bool mayCollect = true;

    private long Now => options.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>From now on the projection gets every event.</summary>
    public static async Task RegisterAsync(PipelineStore store, string name, long now, CancellationToken ct)
    {
        await using var db = store.Open();
        if (await db.Projections.AnyAsync(p => p.Name == name, ct))
        {
            return;
        }

        db.Projections.Add(new ProjectionRow { Name = name, Since = now });
        db.ProjectionStates.Add(new ProjectionStateRow { Name = name });
        try
        {
            await db.SaveChangesAsync(ct);
        }
        catch (DbUpdateException) when (!ct.IsCancellationRequested)
        {
            // Another host was first, or the database is in trouble and the next start does it.
            Trace.TraceInformation($"Projection {name} was registered by another host.");
        }
    }

    /// <param name="drain">Ends when nothing is left that could be delivered now.</param>
    /// <param name="stop">Ends at once.</param>
    public async Task RunAsync(CancellationToken drain, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await using var lease = await ProjectionLease.TryTakeAsync(projection.Name, store, options, owner, stop);
                if (lease is not null)
                {
                    using var both = CancellationTokenSource.CreateLinkedTokenSource(stop, lease.Lost);
                    while (await RoundAsync(lease, both.Token) is var wait && !(drain.IsCancellationRequested && wait > TimeSpan.Zero))
                    {
                        await PauseAsync(wait, drain, both.Token);
                    }
                }
            }
            catch (OperationCanceledException)
            {
                // The host stops, or the lease went to another.
            }
            catch (Exception e)
            {
                // The database was away, or a fault of ours: the rows are as they were.
                Trace.TraceError(e.ToString());
            }

            if (drain.IsCancellationRequested)
            {
                return;
            }

            await PauseAsync(Tick, drain, stop);
        }
    }

    /// <summary>One pass over what is due.</summary>
    /// <returns>How long there is nothing to do; zero: there may be more.</returns>
    internal async Task<TimeSpan> RoundAsync(ProjectionLease lease, CancellationToken ct)
    {
        await using var db = store.Open();
        var state = await db.ProjectionStates.AsNoTracking().SingleAsync(s => s.Name == projection.Name, ct);
        if (state.RetryAt > Now)
        {
            return Least(TimeSpan.FromMilliseconds(state.RetryAt.Value - Now), Tick);
        }

        var now = Now;
        var due = await db.OutboxDeliveries.AsNoTracking()
            .Where(d => d.Projection == projection.Name && !d.IsQuarantined && d.DueAt <= now)
            .Where(d => !db.OutboxDeliveries.Any(o => o.Projection == d.Projection && o.Stream == d.Stream && !o.IsQuarantined && o.EventId < d.EventId && o.DueAt > now))
            .OrderBy(d => d.EventId).Take(Batch).ToListAsync(ct);
        var ids = due.Select(d => d.EventId).ToList();
        var events = await db.OutboxEvents.AsNoTracking().Where(e => ids.Contains(e.Id)).ToDictionaryAsync(e => e.Id, ct);
        var blocked = new HashSet<string>();
        var more = due.Count == Batch;
        try
        {
            foreach (var delivery in due.Where(d => !blocked.Contains(d.Stream)))
            {
                if (await TryDeliverAsync(lease, delivery, events[delivery.EventId], ct))
                {
                    more = true;
                }
                else if (!delivery.IsQuarantined)
                {
                    blocked.Add(delivery.Stream);
                }
            }

            more |= await projection.AdvanceAsync(ct);
        }
        catch (DeliveryException e) when (e.Fault == DeliveryFault.Away)
        {
            return await WaitForReceiverAsync(lease, state.NumFailures + 1, e, ct);
        }
        catch (Exception e) when (e is not OperationCanceledException && !PipelineDatabase.IsTrouble(e))
        {
            // What is projected beside events failed, and no event is to blame: it waits as if the receiver were away.
            return await WaitForReceiverAsync(lease, state.NumFailures + 1, e, ct);
        }

        if (state.Problem is not null)
        {
            await UpdateStateAsync(db, lease, u => u.SetProperty(s => s.NumFailures, 0).SetProperty(s => s.RetryAt, (long?)null).SetProperty(s => s.Problem, (string?)null), ct);
        }

        // Delivered to all: nobody needs it any more. Whoever is last finds it, so none is left behind when two end at once.
        if (!more && mayCollect)
        {
            await db.OutboxEvents.Where(e => !e.Deliveries.Any()).ExecuteDeleteAsync(ct);
            mayCollect = false;
        }

        return more ? TimeSpan.Zero : Tick;
    }

    private async Task<bool> TryDeliverAsync(ProjectionLease lease, OutboxDeliveryRow delivery, OutboxEventRow told, CancellationToken ct)
    {
        try
        {
            await projection.DeliverAsync(told, ct);
        }
        catch (DeliveryException e) when (e.Fault == DeliveryFault.Away)
        {
            throw;
        }
        catch (Exception e) when (e is not OperationCanceledException && !PipelineDatabase.IsTrouble(e))
        {
            if (e is not DeliveryException)
            {
                Trace.TraceError(e.ToString());
            }

            await PutAsideAsync(lease, delivery, e, ct);
            return false;
        }

        var now = Now;
        return mayCollect = await store.Database.TransactAsync(
            async db =>
            {
                await UpdateStateAsync(
                    db, lease,
                    u => u.SetProperty(s => s.Position, told.Id).SetProperty(s => s.NumDelivered, s => s.NumDelivered + 1).SetProperty(s => s.DeliveredAt, now)
                        .SetProperty(s => s.NumFailures, 0).SetProperty(s => s.RetryAt, (long?)null).SetProperty(s => s.Problem, (string?)null),
                    ct);
                await db.OutboxDeliveries.Where(d => d.Projection == projection.Name && d.EventId == told.Id).ExecuteDeleteAsync(ct);
                return true;
            },
            ct);
    }

    /// <summary>Later, or never: its stream goes on behind what is given up.</summary>
    private async Task PutAsideAsync(ProjectionLease lease, OutboxDeliveryRow delivery, Exception why, CancellationToken ct)
    {
        delivery.Tries++;
        delivery.IsQuarantined = delivery.Tries >= options.Projections.MaxTries || why is DeliveryException { Fault: DeliveryFault.Refused };
        var due = Now + (long)Backoff(delivery.Tries).TotalMilliseconds;
        await store.Database.TransactAsync(
            async db =>
            {
                await UpdateStateAsync(db, lease, u => u.SetProperty(s => s.LeaseEpoch, lease.Epoch), ct);
                await db.OutboxDeliveries.Where(d => d.Projection == projection.Name && d.EventId == delivery.EventId).ExecuteUpdateAsync(
                    u => u.SetProperty(d => d.Tries, delivery.Tries).SetProperty(d => d.DueAt, due).SetProperty(d => d.IsQuarantined, delivery.IsQuarantined).SetProperty(d => d.Problem, Text(why)), ct);
                return true;
            },
            ct);
    }

    private async Task<TimeSpan> WaitForReceiverAsync(ProjectionLease lease, int failures, Exception why, CancellationToken ct)
    {
        var wait = (why as DeliveryException)?.RetryAfter is { } asked && asked < LongestWait ? asked : Backoff(failures);
        var retryAt = Now + (long)wait.TotalMilliseconds;
        await using var db = store.Open();
        await UpdateStateAsync(db, lease, u => u.SetProperty(s => s.NumFailures, failures).SetProperty(s => s.RetryAt, retryAt).SetProperty(s => s.Problem, Text(why)), ct);
        return Least(wait, Tick);
    }

    /// <summary>Writes the state while the lease is ours.</summary>
    /// <exception cref="OperationCanceledException">It is not any more.</exception>
    private async Task UpdateStateAsync(
        PipelineDbContext db, ProjectionLease lease, Action<Microsoft.EntityFrameworkCore.Query.UpdateSettersBuilder<ProjectionStateRow>> set, CancellationToken ct)
    {
        if (await db.ProjectionStates.Where(s => s.Name == projection.Name && s.LeaseEpoch == lease.Epoch).ExecuteUpdateAsync(set, ct) == 0)
        {
            throw new OperationCanceledException($"Another host delivers for {projection.Name}.");
        }
    }

    private async Task PauseAsync(TimeSpan wait, CancellationToken drain, CancellationToken ct)
    {
        using var any = CancellationTokenSource.CreateLinkedTokenSource(drain, ct);
        await Task.Delay(wait, options.Clock, any.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        ct.ThrowIfCancellationRequested();
    }

    private static TimeSpan Backoff(int tries) => Least(TimeSpan.FromSeconds(Math.Pow(2, Math.Min(tries, 10) - 1)), LongestWait);

    private static TimeSpan Least(TimeSpan a, TimeSpan b) => a < b ? a : b;

    private static string Text(Exception e)
    {
        const int MaxCharacters = 1000;
        var text = (e is DeliveryException ? e.Message : $"{e.GetType().Name}: {e.Message}").ReplaceLineEndings(" ");
        return text.Length <= MaxCharacters ? text : text[..MaxCharacters];
    }
}
