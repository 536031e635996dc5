using System.Globalization;
using System.Net;
using System.Text;
using FastDraft.Core.Runs;
using FastDraft.Server.Definitions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Web;

/// <summary>The way in: where to draw, what ran last, where the jobs are.</summary>
internal static class HomePage
{
    public static void Map(IEndpointRouteBuilder routes)
    {
        var page = PageFile.Read("home.html");
        var style = PageFile.Read("site.css");
        routes.MapGet("/", async (PipelineStore store, DefinitionStore definitions, CancellationToken ct) => Results.Content(
            page.Replace("{{runs}}", await RunsAsync(store, ct), StringComparison.Ordinal)
                .Replace("{{workflows}}", (await definitions.ListAsync(VersionSelection.Latest, ct)).Count.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal)
                .Replace("{{data}}", WebUtility.HtmlEncode(store.DataFolder), StringComparison.Ordinal),
            "text/html; charset=utf-8"));
        routes.MapGet("/site.css", () => Results.Text(style, "text/css"));
        routes.MapGet("/favicon.ico", () => Results.StatusCode(StatusCodes.Status204NoContent));
    }

    private static async Task<string> RunsAsync(PipelineStore store, CancellationToken ct)
    {
        var runs = await store.Queries.ListRunsAsync(10, ct);
        if (runs.Count == 0)
        {
            return "<tr><td colspan=\"4\" class=\"muted\">Nothing ran yet. Open a workflow and press the green arrow, or: <code>fastdraft run workflows/quickstart.json</code></td></tr>";
        }

        var rows = new StringBuilder();
        foreach (var run in runs)
        {
            var (css, sign) = Sign(run.State);
            rows.Append(CultureInfo.InvariantCulture, $"""
                <tr><td><span class="state {css}">{sign} {run.State}</span></td>
                <td><a href="/studio/workflows/instances/{run.Id}/view">{WebUtility.HtmlEncode(run.WorkflowName)}</a></td>
                <td><time datetime="{run.CreatedAt:O}">{run.CreatedAt:yyyy-MM-dd HH:mm} UTC</time></td><td class="n">{Took(run.CreatedAt, run.EndedAt)}</td></tr>

                """);
        }

        return rows.ToString();
    }

    // A state is a shape and a word as well as a colour.
    private static (string Css, string Sign) Sign(RunState state) => state switch
    {
        RunState.Succeeded => ("succeeded", "&#10003;"),
        RunState.Failed => ("failed", "&#10007;"),
        RunState.Cancelled or RunState.Cancelling => ("cancelled", "&#9632;"),
        _ => ("running", "&#9654;"),
    };

    private static string Took(DateTimeOffset from, DateTimeOffset? to) => to is { } end ? (end - from).ToString(@"hh\:mm\:ss", CultureInfo.InvariantCulture) : "";
}
