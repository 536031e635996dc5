using FastDraft.Server.Projections.Mlflow;
using FastDraft.Server.Projections.OpenLineage;
using FastDraft.Server.Projections.OpenTelemetry;
using FastDraft.Server.Projections.Webhooks;

namespace FastDraft.Server.Projections;

/// <summary>Every projection that the settings ask for.</summary>
internal static class ProjectionCatalog
{
    public static IReadOnlyList<IProjection> Create(PipelineOptions options, PipelineStore store) =>
    [
        .. options.Projections.Mlflow is null ? Array.Empty<IProjection>() : [new MlflowProjection(options.Projections, store)],
        .. options.Projections.OpenLineage is null ? Array.Empty<IProjection>() : [new OpenLineageProjection(options.Projections, store)],
        .. options.Projections.Traces is null ? Array.Empty<IProjection>() : [new TraceProjection(options.Projections, store)],
        .. options.Projections.Webhooks.Select(w => new WebhookProjection(w, options.Projections, store, options.Clock)),
    ];
}
