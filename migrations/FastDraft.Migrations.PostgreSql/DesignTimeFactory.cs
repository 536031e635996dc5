using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore.Design;

namespace FastDraft.Migrations.PostgreSql;

/// <summary>Lets the EF tool make migrations without a server.</summary>
public sealed class DesignTimeFactory : IDesignTimeDbContextFactory<PipelineDbContext>
{
    public PipelineDbContext CreateDbContext(string[] args) => PipelineDatabase.Of("Host=design-time;Database=design-time", "").Open();
}
