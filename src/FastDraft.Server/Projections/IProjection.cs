using FastDraft.Persistence;

namespace FastDraft.Server.Projections;

/// <summary>
/// Shows a receiver outside what happened here. A delivery is repeated until it is known to have succeeded, so it must do nothing the
/// second time that it did the first; it never decides anything about a run.
/// </summary>
internal interface IProjection : IDisposable
{
    /// <summary>What its rows are kept under.</summary>
    string Name { get; }

    /// <exception cref="DeliveryException">It was not delivered.</exception>
    Task DeliverAsync(OutboxEventRow told, CancellationToken ct);

    /// <summary>What is projected beside events. True when there may be more at once.</summary>
    /// <exception cref="DeliveryException">The receiver did not take it.</exception>
    Task<bool> AdvanceAsync(CancellationToken ct) => Task.FromResult(false);
}
