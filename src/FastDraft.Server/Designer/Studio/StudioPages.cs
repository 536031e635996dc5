using FastDraft.Server.Definitions;
using FastDraft.Server.Designer.Instances;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Studio;

/// <summary>
/// The pages that hold the designer's elements. The designer cannot show that something is not there, so each address is checked
/// before its page is served.
/// </summary>
internal static class StudioPages
{
    public static void Map(IEndpointRouteBuilder routes)
    {
        var (page, script, style) = (PageFile.Read("studio.html"), PageFile.Read("studio.js"), PageFile.Read("studio.css"));
        routes.MapGet("/studio.js", () => Results.Text(script, "text/javascript"));
        routes.MapGet("/studio.css", () => Results.Text(style, "text/css"));
        routes.MapGet("/site.css", () => Results.Text(PageFile.Read("site.css"), "text/css"));

        // Some links of the designer take it to be at the root.
        routes.MapGet("/workflows/{**rest}", (string? rest) => Results.LocalRedirect(new PathString("/studio/workflows/" + rest).ToUriComponent()));
        routes.MapGet("/studio", Serve);
        routes.MapGet("/studio/workflows/definitions", Serve);
        routes.MapGet("/studio/workflows/instances", Serve);
        routes.MapGet("/studio/workflows/definitions/{id}/edit", async (string id, WebOptions web, DefinitionStore definitions, CancellationToken ct) =>
            await definitions.FindAsync(id, VersionSelection.Latest, ct) is not { } definition
                ? Problems.Message("This workflow is not here", $"Nothing is stored as '{id}'. It may have been deleted, or a run took it from a file that the service does not know.", StatusCodes.Status404NotFound)
                : definition.WhyUnreadable() is { } reason
                    ? Problems.Message($"'{definition.Head.Name}' cannot be read", $"{reason} An earlier version may be whole; otherwise delete it in the list.", StatusCodes.Status422UnprocessableEntity)
                    : Serve(web));
        routes.MapGet("/studio/workflows/instances/{id}/view", async (string id, WebOptions web, InstanceReader instances, CancellationToken ct) =>
            await instances.FindAsync(id, ct) is { } run && run.WhyUnreadable() is null ? Serve(web)
            : Problems.Message("This run is not here", $"There is no run '{id}'.", StatusCodes.Status404NotFound));

        IResult Serve(WebOptions web) => web.StudioFolder is null
            ? Problems.Message(
                "The designer is not installed",
                $"It comes from the npm registry. With Node.js: npm ci --ignore-scripts --prefix {StudioFiles.PackageFolder}, then start the service again. Runs, the API and the command line work without it.",
                StatusCodes.Status503ServiceUnavailable)
            : Results.Content(page, "text/html; charset=utf-8");
    }
}
