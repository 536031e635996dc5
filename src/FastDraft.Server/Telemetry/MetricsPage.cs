using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Telemetry;

/// <summary><c>GET /metrics</c>, for Prometheus with a viewer's token.</summary>
internal static class MetricsPage
{
    public static void Map(IEndpointRouteBuilder routes) =>
        routes.MapGet("/metrics", async (ServiceFigures figures, CancellationToken ct) => Results.Text(await figures.TextAsync(ct), PrometheusText.MediaType));
}
