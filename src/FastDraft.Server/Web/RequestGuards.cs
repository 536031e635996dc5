using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace FastDraft.Server.Web;

/// <summary>
/// What stands before every route of a service that trusts the machine it runs on: a page of another site must reach none of them,
/// neither by naming this address as its own (DNS rebinding) nor by posting to it.
/// </summary>
internal static class RequestGuards
{
    // The designer compiles WebAssembly, sets style attributes and has two inline scripts (the hot keys of its editor, in two pages), named
    // by their hashes; nothing is loaded from elsewhere, and no page may frame ours.
    private const string ContentPolicy =
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' 'unsafe-eval' 'sha256-snlP1jz0gjwc5cTz9ErZcliXuCK63+Mmf68RRCeptgc=' 'sha256-vu6sQrKXQHR4Yn3FMMihA/9TxxfIXnCxKwvLrTPJ5ts='; " +
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; " +
        "worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'";

    public static void UseRequestGuards(this IApplicationBuilder app) => app.Use(async (context, next) =>
    {
        var request = context.Request;
        if (!WebOptions.IsLoopback(request.Host.Host))
        {
            await Problems.WriteAsync(context, StatusCodes.Status421MisdirectedRequest, "This service answers to the names of this machine only.", ["Open it as http://127.0.0.1 or http://localhost."]);
            return;
        }

        if (!HttpMethods.IsGet(request.Method) && !HttpMethods.IsHead(request.Method) && !IsSameOrigin(request))
        {
            await Problems.WriteAsync(context, StatusCodes.Status403Forbidden, "A page of another site cannot change anything here.", ["Use the pages of this service, or its API without a browser."]);
            return;
        }

        var headers = context.Response.Headers;
        headers.XContentTypeOptions = "nosniff";
        headers.XFrameOptions = "DENY";
        headers["Referrer-Policy"] = "same-origin";
        if (!request.Path.StartsWithSegments("/hangfire", StringComparison.Ordinal))
        {
            headers.ContentSecurityPolicy = ContentPolicy;
        }

        await next(context);
    });

    // A browser names the origin of every request that can change something; a client without an origin is no browser.
    private static bool IsSameOrigin(HttpRequest request) => request.Headers.Origin is [{ Length: > 0 } origin]
        ? origin.Equals($"{request.Scheme}://{request.Host}", StringComparison.OrdinalIgnoreCase)
        : request.Headers["Sec-Fetch-Site"] is not [{ Length: > 0 } site] || site is "same-origin" or "none";
}
