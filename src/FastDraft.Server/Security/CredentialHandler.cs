using System.Security.Claims;
using System.Text.Encodings.Web;
using FastDraft.Persistence.Security;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace FastDraft.Server.Security;

/// <summary>Who a request is from: <c>Authorization: Bearer</c> with a token, or the cookie of a session.</summary>
internal sealed class CredentialHandler(IOptionsMonitor<AuthenticationSchemeOptions> options, ILoggerFactory logger, UrlEncoder encoder, CredentialStore credentials)
    : AuthenticationHandler<AuthenticationSchemeOptions>(options, logger, encoder)
{
    public const string SchemeName = "FastDraft";

    private const string Bearer = "Bearer ";
    private const string CredentialClaim = "credential";

    /// <summary>Two services of one machine share its cookies, so the port is in the name.</summary>
    public static string CookieOf(HttpRequest request) => FormattableString.Invariant($"fastdraft-{request.Host.Port ?? 443}");

    public static Guid? CredentialOf(ClaimsPrincipal user) => Guid.TryParse(user.FindFirstValue(CredentialClaim), out var id) ? id : null;

    protected override async Task<AuthenticateResult> HandleAuthenticateAsync()
    {
        // An open address answers while the tables cannot be read.
        if (AccessTable.IsOpen(Context))
        {
            return AuthenticateResult.NoResult();
        }

        // What is in the header counts alone: a program that means to use its token is not taken for the browser beside it.
        var found = Request.Headers.Authorization.Count > 0
            ? Request.Headers.Authorization is [{ } header] && header.StartsWith(Bearer, StringComparison.OrdinalIgnoreCase)
                ? await credentials.FindAsync(header[Bearer.Length..].Trim(), CredentialKind.Token, Context.RequestAborted) : null
            : Request.Cookies[CookieOf(Request)] is { } cookie ? await credentials.FindAsync(cookie, CredentialKind.Session, Context.RequestAborted) : null;
        if (found is null)
        {
            return AuthenticateResult.NoResult();
        }

        Claim[] claims =
        [
            new(ClaimTypes.Name, found.Name), new(CredentialClaim, found.CredentialId.ToString()),
            .. Enum.GetValues<Role>().Where(r => r <= found.Role).Select(r => new Claim(ClaimTypes.Role, r.ToString())),
        ];
        return AuthenticateResult.Success(new AuthenticationTicket(new ClaimsPrincipal(new ClaimsIdentity(claims, SchemeName)), SchemeName));
    }

    // A person who opens a page is shown where to sign in; a program is told.
    protected override Task HandleChallengeAsync(AuthenticationProperties properties)
    {
        if (HttpMethods.IsGet(Request.Method) && Request.Headers.Accept.ToString().Contains("text/html", StringComparison.Ordinal))
        {
            Response.Redirect(LoginPage.AddressFor(Request));
            return Task.CompletedTask;
        }

        Response.Headers.WWWAuthenticate = "Bearer";
        return Problems.WriteAsync(
            Context, StatusCodes.Status401Unauthorized, "Sign in first.",
            ["This address needs a token: Authorization: Bearer fdt_..., made by fastdraft token create NAME. Tokens end, too: fastdraft token list says which still work."]);
    }

    protected override Task HandleForbiddenAsync(AuthenticationProperties properties)
    {
        var needed = AccessTable.RoleOf(Context) is { } role ? $"needs the role {role.ToString().ToLowerInvariant()}" : "is open to nobody";
        return Problems.WriteAsync(
            Context, StatusCodes.Status403Forbidden, "You may not do this.",
            [$"'{Context.User.Identity?.Name}' may look but not do this: {Request.Method} {Request.Path} {needed}. An admin makes a token that may: fastdraft token create NAME --role ROLE."]);
    }
}
