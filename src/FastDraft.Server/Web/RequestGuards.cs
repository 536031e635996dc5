using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace FastDraft.Server.Web;

/// <summary>
/// What stands before every route: a page of another site must reach none of them, neither by naming this address as its own (DNS
/// rebinding) nor by posting to it.
/// </summary>
internal static class RequestGuards
{
    private const string Common = "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'";

    // No inline script; styles are set by the components that draw.
    private const string ContentPolicy = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; " + Common;

    // The designer compiles WebAssembly and has two inline scripts (the hot keys of its editor, in two pages), named by their hashes.
    private const string DesignerPolicy =
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' 'unsafe-eval' 'sha256-snlP1jz0gjwc5cTz9ErZcliXuCK63+Mmf68RRCeptgc=' 'sha256-vu6sQrKXQHR4Yn3FMMihA/9TxxfIXnCxKwvLrTPJ5ts='; " +
        "style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; " + Common;

    public static void UseRequestGuards(this IApplicationBuilder app, WebOptions web) => app.Use(async (context, next) =>
    {
        var request = context.Request;
        if (!web.IsCalled(request.Host.Host))
        {
            await Problems.WriteAsync(context, StatusCodes.Status421MisdirectedRequest, "This service is not called so.", ["Open it by one of its names: http://127.0.0.1, FASTDRAFT_URL, or one of FASTDRAFT_ALLOWED_HOSTS."]);
            return;
        }

        // Behind a proxy that speaks https for it, the service is what people call it.
        if (web.PublicUrl is { } open && open.Scheme == Uri.UriSchemeHttps && open.Authority.Equals(request.Host.Value, StringComparison.OrdinalIgnoreCase))
        {
            request.Scheme = Uri.UriSchemeHttps;
        }

        // A web socket is opened with GET and answers whoever opened it.
        var changes = !HttpMethods.IsGet(request.Method) && !HttpMethods.IsHead(request.Method);
        if ((changes || request.Headers.Upgrade.Count > 0) && !IsSameOrigin(request))
        {
            await Problems.WriteAsync(context, StatusCodes.Status403Forbidden, "A page of another site cannot change anything here.", ["Use the pages of this service, or its API without a browser."]);
            return;
        }

        var headers = context.Response.Headers;
        headers.XContentTypeOptions = "nosniff";
        headers.XFrameOptions = "DENY";
        headers["Referrer-Policy"] = "same-origin";
        headers.ContentSecurityPolicy = request.Path.StartsWithSegments("/studio", StringComparison.Ordinal) ? DesignerPolicy : ContentPolicy;
        if (request.IsHttps)
        {
            headers.StrictTransportSecurity = "max-age=31536000";
        }

        await next(context);
    });

    // A browser names the origin of every request that can change something; a client without an origin is no browser.
    private static bool IsSameOrigin(HttpRequest request) => request.Headers.Origin is [{ Length: > 0 } origin]
        ? origin.Equals($"{request.Scheme}://{request.Host}", StringComparison.OrdinalIgnoreCase)
        : request.Headers["Sec-Fetch-Site"] is not [{ Length: > 0 } site] || site is "same-origin" or "none";
}
