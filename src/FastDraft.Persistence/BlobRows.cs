using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace FastDraft.Persistence;

/// <summary>
/// One blob of the store, as the tables know it. Whoever references it and whoever condemns it write this row first: of two that do so
/// at once, one begins again and sees what the other did (docs/adr/0014-garbage-collection.md). Rows stay when blobs go.
/// </summary>
public sealed class BlobRow
{
    /// <summary><c>sha256:</c> and 64 hex digits; of a file, or of an artifact's manifest.</summary>
    public string Digest { get; set; } = "";

    /// <summary>Raised with every change; what is written against an older one is refused.</summary>
    public long Version { get; set; }

    /// <summary>The last collection that condemned it; null since somebody put and referenced it again.</summary>
    public long? CollectionId { get; set; }
}

/// <summary>That an artifact needs a blob. Written with the artifact's row and kept for ever.</summary>
public sealed class ArtifactBlobRow
{
    public string ArtifactDigest { get; set; } = "";
    public string BlobDigest { get; set; } = "";
    public long SizeBytes { get; set; }
}

/// <summary>
/// A pass of garbage collection: it condemned blobs in the transaction that made this row, and deletes them until it ends or its time
/// is over. Ids count up in the order of their transactions.
/// </summary>
public sealed class CollectionRow
{
    public long Id { get; set; }

    /// <summary>By the database's clock.</summary>
    public long StartedAt { get; set; }

    /// <summary>It deletes nothing after this, by the database's clock, even if it never says that it ended.</summary>
    public long ExpiresAt { get; set; }
    public long? EndedAt { get; set; }

    /// <summary>The sentence for people: what let artifacts go.</summary>
    public string Why { get; set; } = "";
}

/// <summary>An artifact that no rule lets go.</summary>
public sealed class PinRow
{
    public string ArtifactDigest { get; set; } = "";
    public string Reason { get; set; } = "";
    public string By { get; set; } = "";
    public long At { get; set; }
}

internal sealed class BlobRowsConfiguration :
    IEntityTypeConfiguration<BlobRow>, IEntityTypeConfiguration<ArtifactBlobRow>, IEntityTypeConfiguration<CollectionRow>, IEntityTypeConfiguration<PinRow>
{
    public void Configure(EntityTypeBuilder<BlobRow> builder)
    {
        builder.ToTable("blobs").HasKey(r => r.Digest);
        builder.Property(r => r.Version).IsConcurrencyToken();
    }

    public void Configure(EntityTypeBuilder<ArtifactBlobRow> builder) => builder.ToTable("artifact_blobs").HasKey(r => new { r.ArtifactDigest, r.BlobDigest });

    public void Configure(EntityTypeBuilder<CollectionRow> builder) => builder.ToTable("collections").Property(r => r.Id).ValueGeneratedNever();

    public void Configure(EntityTypeBuilder<PinRow> builder) => builder.ToTable("pins").HasKey(r => r.ArtifactDigest);
}
