using System.Globalization;
using FastDraft.Persistence.Audit;
using FastDraft.Persistence.Security;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Components.Server.Circuits;
using Microsoft.AspNetCore.DataProtection;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.RateLimiting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace FastDraft.Server.Security;

/// <summary>Puts the door before every address: who is it, may they, and under whose name does what follows count.</summary>
internal static class Access
{
    public static void AddAccess(this IServiceCollection services, PipelineStore store, TimeProvider clock)
    {
        services.AddSingleton(clock).AddSingleton(new CredentialStore(store, clock));
        services.AddScoped<CircuitHandler, CircuitAccess>();
        services.AddAuthentication(CredentialHandler.SchemeName).AddScheme<AuthenticationSchemeOptions, CredentialHandler>(CredentialHandler.SchemeName, null);
        var byTable = new AuthorizationPolicyBuilder(CredentialHandler.SchemeName).AddRequirements(new AccessRequirement()).Build();
        var authorization = services.AddAuthorizationBuilder().SetDefaultPolicy(byTable).SetFallbackPolicy(byTable);
        foreach (var role in Enum.GetNames<Role>())
        {
            // For what a page shows only to some.
            authorization.AddPolicy(role, policy => policy.RequireRole(role));
        }

        // For forms and for what a page keeps between requests. Nothing that must outlive them is made of these keys.
        services.AddDataProtection().SetApplicationName("FastDraft").PersistKeysToFileSystem(Directory.CreateDirectory(Path.Combine(store.DataFolder, "keys")));
        services.AddLogging(logging => logging.AddFilter("Microsoft.AspNetCore.DataProtection", LogLevel.Error));
        services.AddAntiforgery(antiforgery =>
        {
            antiforgery.Cookie.Name = "fastdraft-form";
            antiforgery.Cookie.SameSite = SameSiteMode.Strict;
            antiforgery.Cookie.SecurePolicy = CookieSecurePolicy.SameAsRequest;
        });
        services.AddRateLimiter(limiter =>
        {
            limiter.AddPolicy(LoginPage.RateLimit, LoginPage.Limit);
            limiter.OnRejected = async (rejected, _) =>
            {
                rejected.HttpContext.Response.Headers.RetryAfter = 60.ToString(CultureInfo.InvariantCulture);
                await Problems.WriteAsync(rejected.HttpContext, StatusCodes.Status429TooManyRequests, "Too many tries.", ["Signing in was tried too often from this address. Try again in a minute."]);
            };
        });
    }

    public static void UseAccess(this IApplicationBuilder app)
    {
        app.UseRateLimiter();
        app.UseAuthorization();
        app.UseAntiforgery();
        app.Use(async (context, next) =>
        {
            using (Actor.Become(context.User.Identity?.Name ?? Actor.Api))
            {
                await next(context);
            }
        });
    }
}
