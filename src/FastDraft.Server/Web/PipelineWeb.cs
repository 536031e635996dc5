using FastDraft.Server.Artifacts;
using FastDraft.Server.Audit;
using FastDraft.Server.ConsolePages;
using FastDraft.Server.Definitions;
using FastDraft.Server.Designer;
using FastDraft.Server.Designer.Instances;
using FastDraft.Server.Designer.Studio;
using FastDraft.Server.Events;
using FastDraft.Server.Gates;
using FastDraft.Server.Lineage;
using FastDraft.Server.Projections;
using FastDraft.Server.Provenance;
using FastDraft.Server.Registry;
using FastDraft.Server.Runs;
using FastDraft.Server.Security;
using FastDraft.Server.Telemetry;
using Hangfire;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace FastDraft.Server.Web;

/// <summary>
/// The service's pages and API over a running <see cref="PipelineHost"/>. It keeps nothing of its own: every answer is read from the
/// tables, so it can be stopped at any moment.
/// </summary>
public sealed class PipelineWeb : IAsyncDisposable
{
    private readonly WebApplication app;
    private readonly WebOptions web;

    private PipelineWeb(WebApplication app, WebOptions web) => (this.app, this.web) = (app, web);

    public Uri Address => new(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());

    /// <summary>Where a person opens the link that signs in with this secret.</summary>
    public Uri SignInAddress(string link) => LoginPage.LinkOf(web.PublicUrl ?? Address, link);

    /// <summary>Every route that is served, as <c>GET /elsa/api/workflow-definitions</c>.</summary>
    public IReadOnlyList<string> Routes => [.. Endpoints.SelectMany(AccessTable.RowsOf)];

    internal IEnumerable<RouteEndpoint> Endpoints => ((IEndpointRouteBuilder)app).DataSources.SelectMany(s => s.Endpoints).OfType<RouteEndpoint>();

    /// <exception cref="IOException">The address is in use.</exception>
    public static async Task<PipelineWeb> StartAsync(PipelineHost host, PipelineOptions options, WebOptions web, CancellationToken ct = default)
    {
        if (web.Refusal is { } refusal)
        {
            throw new ArgumentException(refusal, nameof(web));
        }

        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls(web.Url.GetLeftPart(UriPartial.Authority)).ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = DefinitionDocument.MaxBytes + 65_536;
        });
        builder.Services.AddSingleton(options.Loggers);
        builder.Services.AddRouting();
        builder.Services.AddAccess(host.Store, options.Clock);
        builder.Services.ConfigureHttpJsonOptions(json => ApiJson.Configure(json.SerializerOptions));
        builder.Services.AddSingleton(host).AddSingleton(options).AddSingleton(web).AddSingleton(host.Store).AddSingleton(host.Definitions).AddSingleton<InstanceReader>().AddSingleton(new GateStore(host.Store, options.Clock)).AddSingleton(new ProjectionStore(host.Store, options.Clock));
        builder.Services.AddSingleton<RunFeeds>().AddSingleton<ServiceFigures>();

        // What cannot be read is answered with what is wrong, as every error is.
        builder.Services.Configure<RouteHandlerOptions>(routes => routes.ThrowOnBadRequest = true);
        builder.Services.AddApiDocument();
        builder.Services.AddConsole();
        builder.Services.AddHangfire((_, hangfire) => hangfire.UseStorage(host.Jobs));

        var app = builder.Build();
        app.UseRequestGuards(web);
        app.UseProblems(app.Services.GetRequiredService<ILoggerFactory>().CreateLogger("FastDraft.Web"));
        app.UseRouting();
        app.UseAccess();

        // The tables decide what runs; a job deleted or requeued here would change nothing, so the dashboard only shows. Who may look is said
        // by the table of addresses, as for every page.
        app.MapHangfireDashboard(
            "/hangfire", new DashboardOptions { DashboardTitle = "FastDraft jobs", AppPath = "/", Authorization = [], IsReadOnlyFunc = _ => true, DisplayStorageConnectionString = false, IgnoreAntiforgeryToken = true }, host.Jobs);
        LoginPage.Map(app);
        Health.Map(app);
        ConsoleWeb.Map(app);
        StudioPages.Map(app);
        StudioFiles.Map(app, web.StudioFolder);
        DesignerApi.Map(app);
        GatesApi.Map(app);
        EventsApi.Map(app);
        ArtifactsApi.Map(app);
        ProjectionsApi.Map(app);
        AuditApi.Map(app);
        LineageApi.Map(app);
        ProvenanceApi.Map(app);
        DraftsApi.Map(app);
        RunsApi.Map(app);
        MetricsPage.Map(app);
        ApiDocument.Map(app);
        await app.StartAsync(ct);
        return new PipelineWeb(app, web);
    }

    public async ValueTask DisposeAsync()
    {
        await app.StopAsync(CancellationToken.None);

        // A static of Hangfire's would go on logging to the provider that ends here, and whoever asks that one for a logger gets an exception.
        Hangfire.Logging.LogProvider.SetCurrentLogProvider(null);
        await app.DisposeAsync();
    }
}
