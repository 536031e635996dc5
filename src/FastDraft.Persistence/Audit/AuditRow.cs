using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace FastDraft.Persistence.Audit;

/// <summary>One act. Rows are only ever added: the databases themselves refuse to change or delete them.</summary>
public sealed class AuditRow
{
    /// <summary>Counts from 1 without a gap. Given by the head and not by the database, whose own numbers have gaps after a rollback.</summary>
    public long Sequence { get; set; }

    /// <summary>Unix milliseconds by the database's clock.</summary>
    public long At { get; set; }
    public string Actor { get; set; } = "";
    public string Action { get; set; } = "";
    public string ObjectKind { get; set; } = "";
    public string ObjectId { get; set; } = "";

    /// <summary>Digest or version of the object before the act, where it has one.</summary>
    public string? Before { get; set; }
    public string? After { get; set; }

    /// <summary>A JSON object, kept as the text that was hashed.</summary>
    public string DetailsJson { get; set; } = "{}";
    public string PreviousHash { get; set; } = "";
    public string Hash { get; set; } = "";
}

/// <summary>Where the chain ends. Whoever appends locks this one row first, so any number of hosts write one chain.</summary>
public sealed class AuditHeadRow
{
    public int Id { get; set; }
    public long Sequence { get; set; }

    /// <summary>When the last row was written, by the database's clock.</summary>
    public long At { get; set; }
    public string Hash { get; set; } = "";
}

internal sealed class AuditConfiguration : IEntityTypeConfiguration<AuditRow>, IEntityTypeConfiguration<AuditHeadRow>
{
    public void Configure(EntityTypeBuilder<AuditRow> builder)
    {
        builder.ToTable("audit").HasKey(r => r.Sequence);
        builder.Property(r => r.Sequence).ValueGeneratedNever();
        builder.HasIndex(r => new { r.ObjectKind, r.ObjectId });
        builder.HasIndex(r => r.At);
    }

    public void Configure(EntityTypeBuilder<AuditHeadRow> builder)
    {
        builder.ToTable("audit_head").HasKey(r => r.Id);
        builder.Property(r => r.Id).ValueGeneratedNever();
        builder.HasData(new AuditHeadRow { Id = 1, Sequence = 0, Hash = AuditChain.Genesis });
    }
}
