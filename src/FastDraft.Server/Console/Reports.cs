using System.Text;
using System.Text.Json;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Stages.EvaluateDraft;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.ConsolePages;

/// <summary>Evaluation reports: their figures, and their page as it is framed by the console.</summary>
internal static class Reports
{
    // A report is a page that a stage wrote: it may look as it likes, but runs nothing, sends nothing and is framed by the console alone.
    private const string ContentPolicy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'self'";

    private const string ByBrowser = "@media(prefers-color-scheme:dark)";

    // A sandboxed page may load nothing, so the font comes inside it.
    private static readonly Lazy<string> Font = new(() => $$"""<style>@font-face{font-family:"Inter";src:url("data:font/woff2;base64,{{Convert.ToBase64String(ConsoleAssets.Read("inter.woff2"))}}") format("woff2");font-weight:100 900}</style>""");

    /// <summary>Null: it has gone from the store, or is of a form that this version does not know.</summary>
    public static async Task<EvaluationReport?> ReadAsync(PipelineStore store, string digest, CancellationToken ct)
    {
        try
        {
            return EvaluationReport.Parse(Encoding.UTF8.GetString(await store.Artifacts.ReadAsync(Digest.Parse(digest), "report.json", ct)));
        }
        catch (Exception e) when (e is StageFailureException or JsonException)
        {
            return null;
        }
    }

    /// <summary>Every suite and all of them at the temperature and draft length of the answer.</summary>
    public static IReadOnlyList<ConditionResult> Best(EvaluationReport report)
    {
        var rows = report.Results.Where(r => r.Temperature == report.Summary.Temperature && r.DraftLength == report.Summary.DraftLength).ToList();
        return [.. rows.OrderBy(r => r.Suite == ReportPage.AllSuites).ThenBy(r => r.Suite, StringComparer.Ordinal).Where(r => rows.Count > 2 || r.Suite != ReportPage.AllSuites)];
    }

    /// <summary>The page with the console's font, and in its theme instead of the browser's where one is given.</summary>
    private static string Dressed(string page, string? theme)
    {
        var chosen = theme switch { "dark" => "@media all", "light" => "@media not all", _ => ByBrowser };
        return page.Replace(ByBrowser, chosen, StringComparison.Ordinal).Replace("</head>", Font.Value + "</head>", StringComparison.Ordinal);
    }

    public static void Map(IEndpointRouteBuilder routes) => routes.MapGet("/reports/{digest}/page", async (string digest, string? theme, PipelineStore store, HttpContext context, CancellationToken ct) =>
    {
        if (!Digest.TryParse(digest, out var parsed) || await store.Queries.GetArtifactAsync(digest, ct) is not { Kind: ArtifactKind.Evaluation })
        {
            return Results.NotFound();
        }

        try
        {
            var page = Dressed(Encoding.UTF8.GetString(await store.Artifacts.ReadAsync(parsed, "report.html", ct)), theme);
            context.Response.Headers.ContentSecurityPolicy = ContentPolicy;
            context.Response.Headers.XFrameOptions = "SAMEORIGIN";
            context.Response.Headers.CacheControl = "private, max-age=31536000, immutable";
            return Results.Text(page, "text/html", Encoding.UTF8);
        }
        catch (StageFailureException e)
        {
            return Results.Text(e.Message, statusCode: StatusCodes.Status410Gone);
        }
    });
}
