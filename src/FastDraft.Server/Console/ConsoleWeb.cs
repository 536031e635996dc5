using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using MudBlazor.Services;

namespace FastDraft.Server.ConsolePages;

/// <summary>
/// The console: pages over the same queries and services that the command line and the API use. A page keeps nothing that the tables do
/// not have, so a browser that reconnects, to this host or another, sees the same.
/// </summary>
internal static class ConsoleWeb
{
    public static void AddConsole(this IServiceCollection services)
    {
        services.AddRazorComponents().AddInteractiveServerComponents();
        services.AddMudServices();
        services.AddScoped<ConsoleActs>();
    }

    public static void Map(IEndpointRouteBuilder routes)
    {
        ConsoleAssets.Map(routes);
        Reports.Map(routes);

        // The policy of every page says who may frame it; components would add a second one.
        routes.MapRazorComponents<ConsoleApp>().AddInteractiveServerRenderMode(options => options.ContentSecurityFrameAncestorsPolicy = null);
    }
}
