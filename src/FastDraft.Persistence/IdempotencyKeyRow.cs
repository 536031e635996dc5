using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace FastDraft.Persistence;

/// <summary>
/// What a caller named a request by, and what it was answered. The row is written in the transaction that did what was asked: a key that is
/// here has had its effect, one that is not has had none, whatever died in between.
/// </summary>
public sealed class IdempotencyKeyRow
{
    public string Actor { get; set; } = "";
    public string Key { get; set; } = "";

    /// <summary>Of method, address and body: the same key with another request is a mistake of the caller.</summary>
    public string RequestDigest { get; set; } = "";
    public string AnswerJson { get; set; } = "";
    public long CreatedAt { get; set; }
}

internal sealed class IdempotencyKeyConfiguration : IEntityTypeConfiguration<IdempotencyKeyRow>
{
    public void Configure(EntityTypeBuilder<IdempotencyKeyRow> builder)
    {
        builder.ToTable("idempotency_keys").HasKey(k => new { k.Actor, k.Key });
        builder.HasIndex(k => k.CreatedAt);
    }
}
