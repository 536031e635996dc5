using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore.Design;

namespace FastDraft.Migrations.Sqlite;

/// <summary>Lets the EF tool make migrations without a host.</summary>
public sealed class DesignTimeFactory : IDesignTimeDbContextFactory<PipelineDbContext>
{
    public PipelineDbContext CreateDbContext(string[] args) => PipelineDatabase.Of(null, "").Open();
}
