using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace FastDraft.Persistence.Security;

/// <summary>What somebody may do; each role may do what those before it may.</summary>
public enum Role
{
    /// <summary>Look at everything.</summary>
    Viewer,

    /// <summary>Start, cancel and retry runs, change workflows, answer gates.</summary>
    Operator,

    /// <summary>Delete, and decide who may do what.</summary>
    Admin,
}

public enum CredentialKind
{
    /// <summary>An API token, for programs and to sign in with.</summary>
    Token,

    /// <summary>Signs in once.</summary>
    Link,

    /// <summary>What a browser carries once it has signed in.</summary>
    Session,
}

/// <summary>A secret that somebody was given. The secret itself is nowhere: whoever reads this table can sign in with nothing of it.</summary>
public sealed class CredentialRow
{
    public Guid Id { get; set; }
    public CredentialKind Kind { get; set; }

    /// <summary>Who acts with it, as the audit names them.</summary>
    public string Name { get; set; } = "";
    public Role Role { get; set; }

    /// <summary>SHA-256 of the secret. A secret has 256 random bits, so there is nothing to guess and no salt to add.</summary>
    public string SecretHash { get; set; } = "";

    /// <summary>The token that a session was begun with; revoking it ends the session.</summary>
    public Guid? ParentId { get; set; }
    public long CreatedAt { get; set; }

    /// <summary>Unix milliseconds, by the database's clock. Null: never.</summary>
    public long? ExpiresAt { get; set; }

    /// <summary>Revoked, signed out, or, of a link, used.</summary>
    public long? RevokedAt { get; set; }

    /// <summary>To the minute.</summary>
    public long? LastUsedAt { get; set; }
}

internal sealed class CredentialConfiguration : IEntityTypeConfiguration<CredentialRow>
{
    public void Configure(EntityTypeBuilder<CredentialRow> builder)
    {
        builder.ToTable("credentials");
        builder.Property(r => r.Kind).HasConversion<string>();
        builder.Property(r => r.Role).HasConversion<string>();
        builder.HasIndex(r => r.SecretHash).IsUnique();
        builder.HasIndex(r => r.ParentId);

        // The audit names who acted by this, so of those that still work no two share it.
        builder.HasIndex(r => r.Name, "IX_credentials_name").IsUnique().HasFilter("\"Kind\" = 'Token' AND \"RevokedAt\" IS NULL");
    }
}
