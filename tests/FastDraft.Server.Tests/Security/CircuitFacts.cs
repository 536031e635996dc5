using System.Security.Claims;
using FastDraft.Persistence.Audit;
using FastDraft.Persistence.Security;
using FastDraft.Server.Security;
using FastDraft.Server.Tests.Runs;
using Microsoft.AspNetCore.Components;
using Microsoft.AspNetCore.Components.Authorization;

namespace FastDraft.Server.Tests.Security;

/// <summary>A page that is open stands on one connection, which was let in once: whatever comes in over it asks again whether it still may.</summary>
[Collection(ServiceCollection.Name)]
public sealed class CircuitFacts(RunningService service)
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_a_person_does_in_an_open_page_is_done_under_their_name()
    {
        var circuit = await OpenAsync(await service.TokenAsync(RunsApiFacts.Name(), Role.Operator));
        Assert.Equal(circuit.Name, await circuit.DoAsync());
        Assert.Null(circuit.Navigation.Went);
    }

    [Fact]
    public async Task An_open_page_of_somebody_whose_token_was_revoked_does_nothing_any_more_and_is_left()
    {
        var circuit = await OpenAsync(await service.TokenAsync(RunsApiFacts.Name(), Role.Admin));
        Assert.Equal(circuit.Name, await circuit.DoAsync());
        await service.Credentials.RevokeAsync(circuit.Name, Ct);
        circuit.Clock.Advance(TimeSpan.FromSeconds(6));
        Assert.Null(await circuit.DoAsync());
        Assert.Equal(("/login", true), circuit.Navigation.Went);

        // What it does then is not a matter of time any more.
        circuit.Clock.Advance(TimeSpan.FromDays(1));
        Assert.Null(await circuit.DoAsync());
    }

    [Fact]
    public async Task An_open_page_of_somebody_who_signed_out_elsewhere_is_left()
    {
        var circuit = await OpenAsync(await service.TokenAsync(RunsApiFacts.Name(), Role.Viewer));
        Assert.Equal(circuit.Name, await circuit.DoAsync());
        await service.Credentials.EndSessionAsync(circuit.Session, Ct);
        circuit.Clock.Advance(TimeSpan.FromSeconds(6));
        Assert.Null(await circuit.DoAsync());
        Assert.Equal(("/login", true), circuit.Navigation.Went);
    }

    [Fact]
    public async Task A_page_of_nobody_does_nothing()
    {
        var navigation = new Navigation();
        var access = new CircuitAccess(new KnownPerson(new ClaimsPrincipal(new ClaimsIdentity())), service.Credentials, navigation, TimeProvider.System);
        var isDone = false;
        await access.CreateInboundActivityHandler(_ =>
        {
            isDone = true;
            return Task.CompletedTask;
        })(null!);
        Assert.False(isDone);
        Assert.Equal(("/login", true), navigation.Went);
    }

    private async Task<Circuit> OpenAsync(string token)
    {
        var (secret, _) = (await service.Credentials.BeginSessionAsync(token, Ct))!.Value;
        var signedIn = (await service.Credentials.FindAsync(secret, CredentialKind.Session, Ct))!;
        return new Circuit(signedIn, service.Credentials);
    }

    private sealed class Circuit
    {
        private readonly CircuitAccess access;

        public Circuit(SignedIn person, CredentialStore credentials)
        {
            (Name, Session) = (person.Name, person.CredentialId);
            var identity = new ClaimsIdentity([new Claim(ClaimTypes.Name, person.Name), new Claim("credential", person.CredentialId.ToString())], "test");
            access = new CircuitAccess(new KnownPerson(new ClaimsPrincipal(identity)), credentials, Navigation, Clock);
        }

        public string Name { get; }

        public Guid Session { get; }

        public Navigation Navigation { get; } = new();

        public TurnedClock Clock { get; } = new();

        /// <summary>As whom something that came in was done; null: it was not.</summary>
        public async Task<string?> DoAsync()
        {
            string? actor = null;
            await access.CreateInboundActivityHandler(_ =>
            {
                actor = Actor.Current;
                return Task.CompletedTask;
            })(null!);
            return actor;
        }
    }

    private sealed class KnownPerson(ClaimsPrincipal person) : AuthenticationStateProvider
    {
        public override Task<AuthenticationState> GetAuthenticationStateAsync() => Task.FromResult(new AuthenticationState(person));
    }

    private sealed class Navigation : NavigationManager
    {
        public Navigation() => Initialize("http://127.0.0.1/", "http://127.0.0.1/runs");

        public (string To, bool ForceLoad)? Went { get; private set; }

        protected override void NavigateToCore(string uri, NavigationOptions options) => Went = (uri, options.ForceLoad);
    }

    private sealed class TurnedClock : TimeProvider
    {
        private long ticks = 1;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => ticks;

        public void Advance(TimeSpan time) => ticks += time.Ticks;
    }
}
