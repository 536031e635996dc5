using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace FastDraft.Persistence;

/// <summary>What outbox events tell of. Their names are a contract: subscriptions name them.</summary>
public static class OutboxEventKind
{
    public const string RunBegun = "run.begun";
    public const string RunEnded = "run.ended";

    /// <summary>An attempt of a stage run began.</summary>
    public const string StageStarted = "stage.started";

    /// <summary>An attempt was taken from a stage run, which waits for another one.</summary>
    public const string StageRetried = "stage.retried";

    /// <summary>A stage run took the outputs of an earlier one.</summary>
    public const string StageCached = "stage.cached";

    /// <summary>A stage run succeeded, with its outputs, or failed, was cancelled or skipped.</summary>
    public const string StageEnded = "stage.ended";
    public const string DraftRegistered = "draft.registered";
    public const string AliasMoved = "alias.moved";

    public static IReadOnlyList<string> All { get; } = [RunBegun, RunEnded, StageStarted, StageRetried, StageCached, StageEnded, DraftRegistered, AliasMoved];
}

/// <summary>
/// One change of the tables that receivers outside are told of. It is written in the transaction of the change, and says which rows
/// changed: what it tells is read from them when it is delivered, and a row that has ended does not change any more.
/// </summary>
public sealed class OutboxEventRow
{
    public long Id { get; set; }
    public long At { get; set; }
    public string Kind { get; set; } = "";
    public Guid? RunId { get; set; }
    public Guid? StageRunId { get; set; }
    public Guid? AttemptId { get; set; }

    /// <summary>What is told of the registry of drafts: an <see cref="OutboxDraft"/>.</summary>
    public string? DataJson { get; set; }
    public List<OutboxDeliveryRow> Deliveries { get; } = [];
}

/// <summary>A version of a named draft, and for a move the alias that now names it.</summary>
public sealed record OutboxDraft(string Name, int Version, string TargetDigest, string? Alias = null, int? FromVersion = null, string? Who = null, string? Why = null);

/// <summary>
/// One event that one projection has still to deliver. The row appears with its event in one transaction and goes when it is delivered,
/// so an event whose number is lower than that of a delivered one, because its transaction committed later, is waiting like any other.
/// </summary>
public sealed class OutboxDeliveryRow
{
    public string Projection { get; set; } = "";
    public long EventId { get; set; }

    /// <summary>Events of one run, or of one draft, are delivered in their order; others do not wait for them.</summary>
    public string Stream { get; set; } = "";
    public int Tries { get; set; }

    /// <summary>Not before. 0: at once.</summary>
    public long DueAt { get; set; }

    /// <summary>Delivery was given up: the receiver refuses it, or it failed too often. The events behind it go on.</summary>
    public bool IsQuarantined { get; set; }
    public string? Problem { get; set; }
}

/// <summary>A projection that gets the events from now on. Written rarely, read with every change, so its state is another row.</summary>
public sealed class ProjectionRow
{
    public string Name { get; set; } = "";
    public long Since { get; set; }
}

/// <summary>How far a projection is, who delivers for it, and what hinders it.</summary>
public sealed class ProjectionStateRow
{
    public string Name { get; set; } = "";
    public string? LeaseOwner { get; set; }
    public long LeaseEpoch { get; set; }
    public long? LeaseExpiresAt { get; set; }

    /// <summary>The last event delivered.</summary>
    public long Position { get; set; }
    public long NumDelivered { get; set; }
    public long? DeliveredAt { get; set; }

    /// <summary>The receiver is away since so many tries, and is tried again then.</summary>
    public int NumFailures { get; set; }
    public long? RetryAt { get; set; }
    public string? Problem { get; set; }
}

internal sealed class OutboxConfiguration :
    IEntityTypeConfiguration<OutboxEventRow>, IEntityTypeConfiguration<OutboxDeliveryRow>, IEntityTypeConfiguration<ProjectionRow>, IEntityTypeConfiguration<ProjectionStateRow>
{
    public void Configure(EntityTypeBuilder<OutboxEventRow> builder)
    {
        builder.ToTable("outbox_events");
        builder.HasMany(e => e.Deliveries).WithOne().HasForeignKey(d => d.EventId);
    }

    public void Configure(EntityTypeBuilder<OutboxDeliveryRow> builder)
    {
        builder.ToTable("outbox_deliveries").HasKey(d => new { d.Projection, d.EventId });
        builder.HasIndex(d => new { d.Projection, d.Stream });
    }

    public void Configure(EntityTypeBuilder<ProjectionRow> builder) => builder.ToTable("projections").HasKey(p => p.Name);

    public void Configure(EntityTypeBuilder<ProjectionStateRow> builder) => builder.ToTable("projection_states").HasKey(p => p.Name);
}
