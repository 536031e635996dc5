using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace FastDraft.Persistence;

/// <summary>Lines of an attempt, as its worker wrote them, that came to the database together.</summary>
public sealed class AttemptLogRow
{
    public Guid AttemptId { get; set; }

    /// <summary>Counts from 1 in an attempt.</summary>
    public int Number { get; set; }
    public long At { get; set; }

    /// <summary>Each line ends with a line feed.</summary>
    public string Lines { get; set; } = "";
}

internal sealed class AttemptLogConfiguration : IEntityTypeConfiguration<AttemptLogRow>
{
    public void Configure(EntityTypeBuilder<AttemptLogRow> builder)
    {
        builder.ToTable("attempt_log").HasKey(l => new { l.AttemptId, l.Number });
        builder.HasIndex(l => l.At);
        builder.HasOne<AttemptRow>().WithMany().HasForeignKey(l => l.AttemptId);
    }
}
