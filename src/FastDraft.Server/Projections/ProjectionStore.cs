using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Projections;

/// <summary>How far a projection is. <paramref name="LagSeconds"/>: how long ago the oldest event that waits happened; 0 where none does.</summary>
/// <param name="Position">Number of the last event delivered.</param>
/// <param name="Problem">Why nothing gets through at present.</param>
/// <param name="Host">Who delivers.</param>
/// <param name="Refused">What was given up, the oldest first.</param>
public sealed record ProjectionView(
    string Name, int Waiting, int Quarantined, double LagSeconds, long Position, long Delivered, DateTimeOffset? DeliveredAt, string? Problem, DateTimeOffset? RetryAt, string? Host,
    IReadOnlyList<QuarantinedView> Refused);

public sealed record QuarantinedView(long EventId, string Kind, DateTimeOffset At, Guid? RunId, int Tries, string? Problem);

/// <summary>What any process may ask about projections, and tell them.</summary>
public sealed class ProjectionStore(PipelineStore store, TimeProvider clock)
{
    public async Task<IReadOnlyList<ProjectionView>> ListAsync(CancellationToken ct = default)
    {
        const int MaxShown = 20;
        await using var db = store.Open();
        var views = new List<ProjectionView>();
        foreach (var state in await db.ProjectionStates.AsNoTracking().OrderBy(s => s.Name).ToListAsync(ct))
        {
            var deliveries = db.OutboxDeliveries.AsNoTracking().Where(d => d.Projection == state.Name);
            var events = from d in deliveries join e in db.OutboxEvents.AsNoTracking() on d.EventId equals e.Id select new { d, e };
            var oldest = await events.Where(p => !p.d.IsQuarantined).MinAsync(p => (long?)p.e.At, ct);
            var refused = await events.Where(p => p.d.IsQuarantined).OrderBy(p => p.d.EventId).Take(MaxShown).ToListAsync(ct);
            views.Add(new ProjectionView(
                state.Name, await deliveries.CountAsync(d => !d.IsQuarantined, ct), await deliveries.CountAsync(d => d.IsQuarantined, ct),
                oldest is null ? 0 : Math.Max(0, (clock.GetUtcNow().ToUnixTimeMilliseconds() - oldest.Value) / 1000.0), state.Position, state.NumDelivered, Time(state.DeliveredAt),
                state.Problem, Time(state.RetryAt), state.LeaseOwner,
                [.. refused.Select(p => new QuarantinedView(p.e.Id, p.e.Kind, Time(p.e.At)!.Value, p.e.RunId, p.d.Tries, p.d.Problem))]));
        }

        return views;
    }

    /// <summary>Tries again at once what waits and what was given up.</summary>
    /// <returns>How many events.</returns>
    /// <exception cref="StageFailureException">There is no such projection.</exception>
    public async Task<int> RetryAsync(string name, CancellationToken ct = default)
    {
        var count = 0;
        await store.Database.TransactAsync(
            async db =>
            {
                await RequireAsync(db, name, ct);
                await db.ProjectionStates.Where(s => s.Name == name).ExecuteUpdateAsync(u => u.SetProperty(s => s.RetryAt, (long?)null).SetProperty(s => s.NumFailures, 0), ct);
                count = await db.OutboxDeliveries.Where(d => d.Projection == name)
                    .ExecuteUpdateAsync(u => u.SetProperty(d => d.IsQuarantined, false).SetProperty(d => d.Tries, 0).SetProperty(d => d.DueAt, 0), ct);
                db.Remember(new AuditEntry(AuditAction.ProjectionRetried, name, Details: new JsonObject { ["events"] = count }));
                return true;
            },
            ct);
        return count;
    }

    /// <summary>Drops a projection and what waits for it. A host whose settings have it registers it anew when it starts.</summary>
    /// <returns>How many events were waiting or given up.</returns>
    /// <exception cref="StageFailureException">There is no such projection.</exception>
    public async Task<int> ForgetAsync(string name, CancellationToken ct = default)
    {
        var count = 0;
        await store.Database.TransactAsync(
            async db =>
            {
                await RequireAsync(db, name, ct);
                await db.Projections.Where(p => p.Name == name).ExecuteDeleteAsync(ct);
                await db.ProjectionStates.Where(p => p.Name == name).ExecuteDeleteAsync(ct);
                count = await db.OutboxDeliveries.Where(d => d.Projection == name).ExecuteDeleteAsync(ct);
                await db.OutboxEvents.Where(e => !e.Deliveries.Any()).ExecuteDeleteAsync(ct);
                db.Remember(new AuditEntry(AuditAction.ProjectionForgotten, name, Details: new JsonObject { ["events"] = count }));
                return true;
            },
            ct);
        return count;
    }

    private static async Task RequireAsync(PipelineDbContext db, string name, CancellationToken ct)
    {
        if (!await db.Projections.AnyAsync(p => p.Name == name, ct))
        {
            var known = await db.Projections.Select(p => p.Name).OrderBy(n => n).ToListAsync(ct);
            throw new StageFailureException(
                FailureKind.Config, $"There is no projection '{name}'.", known.Count == 0 ? "start a host with FASTDRAFT_MLFLOW, FASTDRAFT_OPENLINEAGE or FASTDRAFT_WEBHOOKS" : "one of " + string.Join(", ", known));
        }
    }

    /// <summary>A row with a time that there is not must not hide the others.</summary>
    private static DateTimeOffset? Time(long? milliseconds) => milliseconds is { } ms
        ? DateTimeOffset.FromUnixTimeMilliseconds(Math.Clamp(ms, DateTimeOffset.MinValue.ToUnixTimeMilliseconds(), DateTimeOffset.MaxValue.ToUnixTimeMilliseconds())) : null;
}
