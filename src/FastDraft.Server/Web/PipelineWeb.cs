using FastDraft.Persistence.Audit;
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
using Hangfire;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
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

    private PipelineWeb(WebApplication app) => this.app = app;

    public Uri Address => new(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());

    /// <summary>Every route that is served, as <c>GET /elsa/api/workflow-definitions</c>.</summary>
    public IReadOnlyList<string> Routes =>
    [
        .. ((Microsoft.AspNetCore.Routing.IEndpointRouteBuilder)app).DataSources.SelectMany(s => s.Endpoints).OfType<Microsoft.AspNetCore.Routing.RouteEndpoint>()
            .SelectMany(e => (e.Metadata.GetMetadata<Microsoft.AspNetCore.Routing.HttpMethodMetadata>()?.HttpMethods ?? ["*"]).Select(m => $"{m} {e.RoutePattern.RawText}")),
    ];

    /// <exception cref="IOException">The address is in use.</exception>
    public static async Task<PipelineWeb> StartAsync(PipelineHost host, PipelineOptions options, WebOptions web, CancellationToken ct = default)
    {
        if (WebOptions.Refuse(web.Url) is { } refusal)
        {
            throw new ArgumentException(refusal, nameof(web));
        }

        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls(web.Url.GetLeftPart(UriPartial.Authority)).ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = DefinitionDocument.MaxBytes + 65_536;
        });
        builder.Logging.AddSimpleConsole(console => console.SingleLine = true).SetMinimumLevel(LogLevel.Warning);
        builder.Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(console => console.LogToStandardErrorThreshold = LogLevel.Trace);
        builder.Services.AddRouting();
        builder.Services.ConfigureHttpJsonOptions(json => ApiJson.Configure(json.SerializerOptions));
        builder.Services.AddSingleton(host).AddSingleton(options).AddSingleton(web).AddSingleton(host.Store).AddSingleton(host.Definitions).AddSingleton<InstanceReader>().AddSingleton(new GateStore(host.Store, options.Clock)).AddSingleton(new ProjectionStore(host.Store, options.Clock));
        builder.Services.AddConsole();
        builder.Services.AddHangfire((_, hangfire) => hangfire.UseStorage(host.Jobs));

        var app = builder.Build();
        app.UseRequestGuards();
        app.Use(async (context, next) =>
        {
            using (Actor.Become(Actor.Api))
            {
                await next(context);
            }
        });
        app.UseProblems(app.Services.GetRequiredService<ILoggerFactory>().CreateLogger("FastDraft.Web"));
        app.UseStudioFiles(web.StudioFolder);

        // The tables decide what runs; a job deleted or requeued here would change nothing, so the dashboard only shows.
        app.UseHangfireDashboard("/hangfire", new DashboardOptions { DashboardTitle = "FastDraft jobs", AppPath = "/", IsReadOnlyFunc = _ => true, DisplayStorageConnectionString = false }, host.Jobs);
        app.UseRouting();
        app.UseAntiforgery();
        Health.Map(app);
        ConsoleWeb.Map(app);
        StudioPages.Map(app);
        DesignerApi.Map(app);
        GatesApi.Map(app);
        EventsApi.Map(app);
        ArtifactsApi.Map(app);
        ProjectionsApi.Map(app);
        AuditApi.Map(app);
        LineageApi.Map(app);
        ProvenanceApi.Map(app);
        DraftsApi.Map(app);
        await app.StartAsync(ct);
        return new PipelineWeb(app);
    }

    public async ValueTask DisposeAsync()
    {
        await app.StopAsync(CancellationToken.None);

        // A static of Hangfire's would go on logging to the provider that ends here, and whoever asks that one for a logger gets an exception.
        Hangfire.Logging.LogProvider.SetCurrentLogProvider(null);
        await app.DisposeAsync();
    }
}
