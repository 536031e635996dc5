using System.Security.Claims;
using FastDraft.Persistence.Audit;
using Microsoft.AspNetCore.Components;
using Microsoft.AspNetCore.Components.Authorization;
using Microsoft.AspNetCore.Components.Server.Circuits;

namespace FastDraft.Server.Security;

/// <summary>
/// A page stays open for hours over one connection, which was let in once. So everything that comes in over it is done under the name of
/// whoever signed in, and a few seconds after their credential ends nothing is done any more: the page is left for the login form.
/// </summary>
internal sealed class CircuitAccess(AuthenticationStateProvider authentication, CredentialStore credentials, NavigationManager navigation, TimeProvider clock) : CircuitHandler
{
    private static readonly TimeSpan Trust = TimeSpan.FromSeconds(5);

    private long askedAt;
    private bool isGood;

    public override Func<CircuitInboundActivityContext, Task> CreateInboundActivityHandler(Func<CircuitInboundActivityContext, Task> next) => async context =>
    {
        var user = (await authentication.GetAuthenticationStateAsync()).User;
        if (!await IsGoodAsync(user))
        {
            navigation.NavigateTo(LoginPage.Path, forceLoad: true);
            return;
        }

        using (Actor.Become(user.Identity?.Name ?? Actor.Api))
        {
            await next(context);
        }
    };

    private async Task<bool> IsGoodAsync(ClaimsPrincipal user)
    {
        if (askedAt == 0 || clock.GetElapsedTime(askedAt) > Trust)
        {
            isGood = CredentialHandler.CredentialOf(user) is { } id && await credentials.IsGoodAsync(id, CancellationToken.None);
            askedAt = clock.GetTimestamp();
        }

        return isGood;
    }
}
