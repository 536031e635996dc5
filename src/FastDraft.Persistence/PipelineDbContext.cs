using FastDraft.Persistence.Audit;
using FastDraft.Persistence.Lineage;
using FastDraft.Persistence.Security;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Query.SqlExpressions;

namespace FastDraft.Persistence;

public sealed class PipelineDbContext(DbContextOptions<PipelineDbContext> options) : DbContext(options)
{
    public DbSet<RunRow> Runs => Set<RunRow>();
    public DbSet<StageRunRow> StageRuns => Set<StageRunRow>();
    public DbSet<AttemptRow> Attempts => Set<AttemptRow>();
    public DbSet<AttemptLogRow> AttemptLog => Set<AttemptLogRow>();
    public DbSet<ArtifactRow> Artifacts => Set<ArtifactRow>();
    public DbSet<StageRunPortRow> Ports => Set<StageRunPortRow>();
    public DbSet<MetricRow> Metrics => Set<MetricRow>();
    public DbSet<JournalRow> Journal => Set<JournalRow>();
    public DbSet<WaitRow> Waits => Set<WaitRow>();
    public DbSet<PathDigestRow> PathDigests => Set<PathDigestRow>();
    public DbSet<WorkflowDefinitionRow> WorkflowDefinitions => Set<WorkflowDefinitionRow>();

    public DbSet<GateDecisionRow> GateDecisions => Set<GateDecisionRow>();
    public DbSet<ScheduleRow> Schedules => Set<ScheduleRow>();
    public DbSet<ScheduleTickRow> ScheduleTicks => Set<ScheduleTickRow>();
    public DbSet<DraftRow> Drafts => Set<DraftRow>();
    public DbSet<DraftAliasRow> DraftAliases => Set<DraftAliasRow>();
    public DbSet<DraftAliasMoveRow> DraftAliasMoves => Set<DraftAliasMoveRow>();

    public DbSet<OutboxEventRow> OutboxEvents => Set<OutboxEventRow>();
    public DbSet<OutboxDeliveryRow> OutboxDeliveries => Set<OutboxDeliveryRow>();
    public DbSet<ProjectionRow> Projections => Set<ProjectionRow>();
    public DbSet<ProjectionStateRow> ProjectionStates => Set<ProjectionStateRow>();
    public DbSet<MlflowRunRow> MlflowRuns => Set<MlflowRunRow>();
    public DbSet<MlflowAttemptRow> MlflowAttempts => Set<MlflowAttemptRow>();
    public DbSet<BlobRow> Blobs => Set<BlobRow>();
    public DbSet<ArtifactBlobRow> ArtifactBlobs => Set<ArtifactBlobRow>();
    public DbSet<CollectionRow> Collections => Set<CollectionRow>();
    public DbSet<PinRow> Pins => Set<PinRow>();
    public DbSet<ExternalFileRow> ExternalFiles => Set<ExternalFileRow>();
    public DbSet<AuditRow> Audit => Set<AuditRow>();
    public DbSet<AuditHeadRow> AuditHead => Set<AuditHeadRow>();
    public DbSet<CredentialRow> Credentials => Set<CredentialRow>();
    public DbSet<IdempotencyKeyRow> IdempotencyKeys => Set<IdempotencyKeyRow>();

    /// <summary>What this context's transactions did; written when they commit.</summary>
    internal List<(Guid Transaction, AuditEntry Entry)> Acts { get; } = [];

    /// <summary>Unix milliseconds by the database's clock: leases live on it alone. Only inside a query.</summary>
    public static long DatabaseNow() => throw new NotSupportedException("DatabaseNow is translated to SQL; it has no value outside a query.");

    /// <summary>Adds a row to the audit in the present transaction.</summary>
    /// <exception cref="InvalidOperationException">There is no transaction that could bind an act and its row.</exception>
    public void Remember(AuditEntry entry) => Acts.Add((
        Database.CurrentTransaction?.TransactionId ?? throw new InvalidOperationException($"'{entry.Action}' and its audit row must be one transaction."),
        entry with { By = entry.By ?? Actor.Current }));

    public override async Task<int> SaveChangesAsync(bool acceptAllChangesOnSuccess, CancellationToken cancellationToken = default)
    {
        await OutboxRecorder.RecordAsync(this, cancellationToken);
        foreach (var entry in ChangeTracker.Entries().Where(e => e.State is EntityState.Added or EntityState.Modified))
        {
            foreach (var property in entry.Properties.Where(p => p.CurrentValue is string && (entry.State == EntityState.Added || p.IsModified)))
            {
                if (StorableText.Of((string)property.CurrentValue!) is var text && !ReferenceEquals(text, property.CurrentValue))
                {
                    property.CurrentValue = text;
                }
            }
        }

        return await base.SaveChangesAsync(acceptAllChangesOnSuccess, cancellationToken);
    }

    public override int SaveChanges(bool acceptAllChangesOnSuccess) => throw new NotSupportedException("Save with SaveChangesAsync: it also writes what the outbox tells.");

    protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.AddInterceptors(AuditOnCommit.Instance);

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        var dialect = SqlDialect.Of(Database.ProviderName);
        modelBuilder.HasDbFunction(() => DatabaseNow()).HasTranslation(_ => new SqlFragmentExpression(dialect.Now));
        var outbox = new OutboxConfiguration();
        modelBuilder.ApplyConfiguration<OutboxEventRow>(outbox).ApplyConfiguration<OutboxDeliveryRow>(outbox).ApplyConfiguration<ProjectionRow>(outbox).ApplyConfiguration<ProjectionStateRow>(outbox);
        var mlflow = new MlflowConfiguration();
        modelBuilder.ApplyConfiguration<MlflowRunRow>(mlflow).ApplyConfiguration<MlflowAttemptRow>(mlflow);
        modelBuilder.ApplyConfiguration(new ExternalFileConfiguration());
        modelBuilder.ApplyConfiguration(new CredentialConfiguration());
        modelBuilder.ApplyConfiguration(new IdempotencyKeyConfiguration());
        var audit = new AuditConfiguration();
        modelBuilder.ApplyConfiguration<AuditRow>(audit).ApplyConfiguration<AuditHeadRow>(audit);
        var run = modelBuilder.Entity<RunRow>().ToTable("runs");
        run.Property(r => r.State).HasConversion<string>();
        run.Property(r => r.Version).IsConcurrencyToken();
        run.HasIndex(r => r.CreatedAt);
        run.HasIndex(r => r.DefinitionId);
        run.HasIndex(r => r.ParentRunId);
        var stage = modelBuilder.Entity<StageRunRow>().ToTable("stage_runs");
        stage.Property(r => r.State).HasConversion<string>().IsConcurrencyToken();
        stage.Property(r => r.LeaseEpoch).IsConcurrencyToken();
        stage.HasIndex(r => r.KeyDigest);

        // Of stage runs with one key one works: it owns their resume folder, and the others take its outputs.
        stage.HasIndex(r => r.KeyDigest, "IX_stage_runs_working").IsUnique().HasFilter("\"State\" IN ('Running', 'Cancelling')");
        stage.HasIndex(r => r.State);
        stage.HasIndex(r => new { r.RunId, r.ActivityInstanceId }).IsUnique();
        stage.HasOne<RunRow>().WithMany().HasForeignKey(r => r.RunId);
        var attempt = modelBuilder.Entity<AttemptRow>().ToTable("attempts");
        attempt.Property(r => r.State).HasConversion<string>();
        attempt.HasIndex(r => new { r.StageRunId, r.Number }).IsUnique();
        attempt.HasOne<StageRunRow>().WithMany().HasForeignKey(r => r.StageRunId);
        modelBuilder.ApplyConfiguration(new AttemptLogConfiguration());
        var blobs = new BlobRowsConfiguration();
        modelBuilder.ApplyConfiguration<BlobRow>(blobs).ApplyConfiguration<ArtifactBlobRow>(blobs).ApplyConfiguration<CollectionRow>(blobs).ApplyConfiguration<PinRow>(blobs);
        modelBuilder.Entity<ArtifactRow>().ToTable("artifacts").HasKey(r => r.Digest);
        var port = modelBuilder.Entity<StageRunPortRow>().ToTable("stage_run_ports");
        port.HasKey(r => new { r.StageRunId, r.IsOutput, r.Port });
        port.HasIndex(r => new { r.Digest, r.IsOutput });
        port.HasOne<StageRunRow>().WithMany().HasForeignKey(r => r.StageRunId);
        var metric = modelBuilder.Entity<MetricRow>().ToTable("metrics");
        metric.HasIndex(r => new { r.AttemptId, r.Id });

        // A curve of a million points is drawn from some hundreds of them, which are looked up one by one.
        metric.HasIndex(r => new { r.AttemptId, r.Name, r.Id });
        metric.HasOne<AttemptRow>().WithMany().HasForeignKey(r => r.AttemptId);
        var journal = modelBuilder.Entity<JournalRow>().ToTable("journal");
        journal.HasIndex(r => r.RunId);
        journal.HasOne<RunRow>().WithMany().HasForeignKey(r => r.RunId);
        var wait = modelBuilder.Entity<WaitRow>().ToTable("waits");
        wait.Property(r => r.Kind).HasConversion<string>();
        wait.Property(r => r.DueAt).IsConcurrencyToken();
        wait.HasIndex(r => new { r.RunId, r.ActivityInstanceId }).IsUnique();
        wait.HasIndex(r => r.DueAt);
        wait.HasIndex(r => r.EventName);
        wait.HasIndex(r => r.ChildRunId);
        wait.HasOne<RunRow>().WithMany().HasForeignKey(r => r.RunId);
        var gate = modelBuilder.Entity<GateDecisionRow>().ToTable("gate_decisions");
        gate.HasKey(r => new { r.RunId, r.ActivityInstanceId });
        gate.HasOne<RunRow>().WithMany().HasForeignKey(r => r.RunId);
        var schedule = modelBuilder.Entity<ScheduleRow>().ToTable("schedules");
        schedule.Property(r => r.Cursor).IsConcurrencyToken();
        schedule.HasIndex(r => r.Name).IsUnique();
        var tick = modelBuilder.Entity<ScheduleTickRow>().ToTable("schedule_ticks");
        tick.HasKey(r => new { r.ScheduleId, r.NominalAt });
        tick.Property(r => r.RunId).IsConcurrencyToken();
        tick.HasIndex(r => r.RunId);
        tick.HasOne<ScheduleRow>().WithMany().HasForeignKey(r => r.ScheduleId);
        var draft = modelBuilder.Entity<DraftRow>().ToTable("drafts");
        draft.HasIndex(r => new { r.Name, r.Version }).IsUnique();
        draft.HasIndex(r => new { r.Name, r.TargetDigest, r.ModelDigest }).IsUnique();
        var alias = modelBuilder.Entity<DraftAliasRow>().ToTable("draft_aliases");
        alias.HasKey(r => new { r.Name, r.TargetDigest, r.Alias });
        alias.Property(r => r.Version).IsConcurrencyToken();
        modelBuilder.Entity<DraftAliasMoveRow>().ToTable("draft_alias_moves").HasIndex(r => r.Name);
        modelBuilder.Entity<PathDigestRow>().ToTable("path_digests").HasKey(r => new { r.Machine, r.Path });
        var definition = modelBuilder.Entity<WorkflowDefinitionRow>().ToTable("workflow_definitions");
        definition.Property(r => r.Json).IsConcurrencyToken();
        definition.Property(r => r.IsLatest).IsConcurrencyToken();
        definition.Property(r => r.IsPublished).IsConcurrencyToken();
        definition.HasIndex(r => new { r.DefinitionId, r.Version }).IsUnique();
        definition.HasIndex(r => r.DefinitionId, "IX_workflow_definitions_latest").IsUnique().HasFilter("\"IsLatest\"");
        definition.HasIndex(r => r.DefinitionId, "IX_workflow_definitions_published").IsUnique().HasFilter("\"IsPublished\"");
        foreach (var property in modelBuilder.Model.GetEntityTypes().SelectMany(e => e.GetProperties()).Where(_ => dialect.TextCollation is not null))
        {
            if (property.ClrType == typeof(string) || property.GetProviderClrType() == typeof(string))
            {
                property.SetCollation(dialect.TextCollation);
            }
        }
    }
}
