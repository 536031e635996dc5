using System.Net;
using System.Threading.RateLimiting;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Antiforgery;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.RateLimiting;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Security;

/// <summary>
/// Where a browser gets its session: from a token that a person pastes, or from a sign-in link. The session's secret is in a cookie that
/// no script and no other site can use.
/// </summary>
internal static class LoginPage
{
    public const string Path = "/login";

    /// <summary>The rate limit of signing in, by address of the caller.</summary>
    public const string RateLimit = "login";

    private const int TriesPerMinute = 10;
    private const string Link = "link";
    private const string Destination = "to";

    public static Uri LinkOf(Uri service, string secret) => new(service, $"{Path}?{Link}={secret}");

    /// <summary>The page that leads on to where the request wanted to go.</summary>
    public static string AddressFor(HttpRequest request) =>
        request.Path == "/" && !request.QueryString.HasValue ? Path : $"{Path}?{Destination}={Uri.EscapeDataString(request.Path.ToUriComponent() + request.QueryString.ToUriComponent())}";

    public static RateLimitPartition<string> Limit(HttpContext context) => RateLimitPartition.GetFixedWindowLimiter(
        context.Connection.RemoteIpAddress?.ToString() ?? "", _ => new FixedWindowRateLimiterOptions { PermitLimit = TriesPerMinute, Window = TimeSpan.FromMinutes(1) });

    public static void Map(IEndpointRouteBuilder routes)
    {
        var page = PageFile.Read("login.html");
        routes.MapGet(Path, async (HttpContext context, CredentialStore credentials, WebOptions web, IAntiforgery antiforgery, string? link, string? to, CancellationToken ct) =>
        {
            // A browser that guesses where a person may go next must not use the link up.
            if (link is not null && context.Request.Headers["Sec-Purpose"].Count == 0)
            {
                return await SignInAsync(context, credentials, web, link, to, ct)
                    ?? Form(context, antiforgery, page, to, "This link was used, or it is too old. A new one is printed by the next start of the service; or paste a token.", StatusCodes.Status403Forbidden);
            }

            return Form(context, antiforgery, page, to, "", StatusCodes.Status200OK);
        }).RequireRateLimiting(RateLimit);
        routes.MapPost(Path, async (HttpContext context, CredentialStore credentials, WebOptions web, IAntiforgery antiforgery, CancellationToken ct) =>
        {
            if (!context.Request.HasFormContentType || !await antiforgery.IsRequestValidAsync(context))
            {
                return Problems.Result(StatusCodes.Status400BadRequest, "This form was not made here, or it is too old. Open the page again.");
            }

            var form = await context.Request.ReadFormAsync(ct);
            return await SignInAsync(context, credentials, web, form["token"].ToString().Trim(), form[Destination], ct)
                ?? Form(context, antiforgery, page, form[Destination], "This token does not sign in: it is mistyped, revoked or too old.", StatusCodes.Status403Forbidden);
        }).RequireRateLimiting(RateLimit);
        routes.MapPost("/logout", async (HttpContext context, CredentialStore credentials, CancellationToken ct) =>
        {
            if (CredentialHandler.CredentialOf(context.User) is { } session)
            {
                await credentials.EndSessionAsync(session, ct);
            }

            context.Response.Cookies.Delete(CredentialHandler.CookieOf(context.Request));
            return Results.LocalRedirect(Path);
        });
    }

    private static async Task<IResult?> SignInAsync(HttpContext context, CredentialStore credentials, WebOptions web, string secret, string? to, CancellationToken ct)
    {
        // A person copies the link with its address as well.
        var from = secret.IndexOf(Link + "=", StringComparison.Ordinal);
        if (await credentials.BeginSessionAsync(from < 0 ? secret : secret[(from + Link.Length + 1)..], ct) is not { } session)
        {
            return null;
        }

        context.Response.Cookies.Append(CredentialHandler.CookieOf(context.Request), session.Secret, new CookieOptions
        {
            HttpOnly = true, SameSite = SameSiteMode.Strict, Secure = context.Request.IsHttps, Expires = session.ExpiresAt, Path = "/", IsEssential = true,
        });
        return Results.Redirect(IsLocal(to) ? to! : "/");
    }

    private static IResult Form(HttpContext context, IAntiforgery antiforgery, string page, string? to, string message, int status)
    {
        var tokens = antiforgery.GetAndStoreTokens(context);
        return Results.Content(
            page.Replace("{{message}}", WebUtility.HtmlEncode(message), StringComparison.Ordinal)
                .Replace("{{to}}", WebUtility.HtmlEncode(IsLocal(to) ? to : "/"), StringComparison.Ordinal)
                .Replace("{{field}}", WebUtility.HtmlEncode(tokens.FormFieldName), StringComparison.Ordinal)
                .Replace("{{antiforgery}}", WebUtility.HtmlEncode(tokens.RequestToken), StringComparison.Ordinal),
            "text/html; charset=utf-8", statusCode: status);
    }

    /// <summary>A path of this service and nothing that a browser could read as another host's.</summary>
    private static bool IsLocal(string? to) => to is ['/', ..] and not ['/', '/' or '\\', ..] && !to.Any(char.IsControl);
}
