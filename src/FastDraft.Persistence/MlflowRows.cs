using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace FastDraft.Persistence;

/// <summary>The MLflow run that shows a run or a stage run on one MLflow server.</summary>
public sealed class MlflowRunRow
{
    public string Server { get; set; } = "";

    /// <summary>A run's id or a stage run's.</summary>
    public Guid SubjectId { get; set; }
    public string ExperimentId { get; set; } = "";
    public string MlflowRunId { get; set; } = "";
}

/// <summary>
/// How far the metric points of an attempt are on one MLflow server. An attempt's points have one writer, so their numbers rise in the
/// order in which they become visible.
/// </summary>
public sealed class MlflowAttemptRow
{
    public string Server { get; set; } = "";
    public Guid AttemptId { get; set; }
    public Guid StageRunId { get; set; }
    public long Position { get; set; }
    public bool IsDone { get; set; }
}

internal sealed class MlflowConfiguration : IEntityTypeConfiguration<MlflowRunRow>, IEntityTypeConfiguration<MlflowAttemptRow>
{
    public void Configure(EntityTypeBuilder<MlflowRunRow> builder) => builder.ToTable("mlflow_runs").HasKey(r => new { r.Server, r.SubjectId });

    public void Configure(EntityTypeBuilder<MlflowAttemptRow> builder)
    {
        builder.ToTable("mlflow_attempts").HasKey(r => new { r.Server, r.AttemptId });
        builder.HasIndex(r => new { r.Server, r.IsDone });
    }
}
