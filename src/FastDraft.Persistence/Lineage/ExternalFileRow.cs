using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace FastDraft.Persistence.Lineage;

/// <summary>
/// A file of a path setting as a stage run read it. Written once for each content, so that a year later one file of a corpus can be
/// asked for though the lineage's node is the whole setting.
/// </summary>
public sealed class ExternalFileRow
{
    public long Id { get; set; }

    /// <summary>The digest of the path setting: what the stage run's port holds.</summary>
    public string Digest { get; set; } = "";

    /// <summary>Where the file lay then.</summary>
    public string Path { get; set; } = "";
    public string FileDigest { get; set; } = "";
    public long SizeBytes { get; set; }
}

internal sealed class ExternalFileConfiguration : IEntityTypeConfiguration<ExternalFileRow>
{
    public void Configure(EntityTypeBuilder<ExternalFileRow> builder)
    {
        builder.ToTable("external_files");
        builder.HasIndex(r => r.Digest);
        builder.HasIndex(r => r.FileDigest);
    }
}
