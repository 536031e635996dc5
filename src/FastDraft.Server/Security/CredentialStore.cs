using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Persistence.Security;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Security;

/// <summary>An API token as people see it.</summary>
/// <param name="State">active, expired or revoked.</param>
public sealed record TokenView(Guid Id, string Name, Role Role, string State, DateTimeOffset CreatedAt, DateTimeOffset? ExpiresAt, DateTimeOffset? RevokedAt, DateTimeOffset? LastUsedAt);

/// <summary>Who a request is from.</summary>
public sealed record SignedIn(Guid CredentialId, string Name, Role Role);

/// <summary>
/// Tokens, sign-in links and sessions. A secret is shown once, to whoever asked for it, and kept as its hash; whether it still counts is
/// read from the table at every request, by the database's clock, so revoking works at once on every server.
/// </summary>
public sealed partial class CredentialStore(PipelineStore store, TimeProvider clock)
{
    /// <summary>How long a browser stays signed in.</summary>
    public static readonly TimeSpan SessionLifetime = TimeSpan.FromDays(7);

    /// <summary>How long a printed sign-in link works.</summary>
    public static readonly TimeSpan LinkLifetime = TimeSpan.FromMinutes(15);

    private const long MillisecondsBetweenUses = 60_000;

    // The audit says these of the pipeline's own doings.
    private static readonly string[] Reserved = [Actor.Api, Actor.Workflow];

    private long Now => clock.GetUtcNow().ToUnixTimeMilliseconds();

    /// <param name="lifetime">Null: until it is revoked.</param>
    /// <returns>The secret, which is nowhere else.</returns>
    /// <exception cref="StageFailureException">The name cannot be used or is taken.</exception>
    public async Task<(TokenView Token, string Secret)> CreateTokenAsync(string name, Role role, TimeSpan? lifetime, CancellationToken ct)
    {
        if (!Names().IsMatch(name) || Reserved.Contains(name, StringComparer.OrdinalIgnoreCase))
        {
            throw new StageFailureException(
                FailureKind.Config, $"'{name}' is no name for a token: letters, digits, '.', '_', '@' and '-', at most 64, and not '{Actor.Api}' or '{Actor.Workflow}'.", "the person's or the program's name: ci, ada@example.org");
        }

        var (row, secret) = New(CredentialKind.Token, name, role, lifetime);
        var isTaken = false;
        await store.Database.TransactAsync(
            async db =>
            {
                isTaken = await db.Credentials.AnyAsync(c => c.Kind == CredentialKind.Token && c.Name == name && c.RevokedAt == null, ct);
                db.Credentials.Add(row);
                db.Remember(new AuditEntry(AuditAction.TokenCreated, row.Id.ToString(), Details: new JsonObject { ["name"] = name, ["role"] = role.ToString(), ["expiresAt"] = row.ExpiresAt }));
                return !isTaken;
            },
            ct);
        return isTaken
            ? throw new StageFailureException(FailureKind.Config, $"There is already a token '{name}'.", $"another name, or first: fastdraft token revoke {name}")
            : (View(row, isOver: false), secret);
    }

    /// <summary>A secret that signs in once, soon.</summary>
    public async Task<string> CreateLinkAsync(string name, Role role, CancellationToken ct)
    {
        var (row, secret) = New(CredentialKind.Link, name, role, LinkLifetime);
        await store.Database.TransactAsync(
            db =>
            {
                db.Credentials.Add(row);
                return Task.FromResult(true);
            },
            ct);
        return secret;
    }

    /// <summary>False: no token exists and nobody ever signed in, as in a new database.</summary>
    public async Task<bool> AnyAsync(CancellationToken ct)
    {
        await using var db = store.Open();
        return await db.Credentials.AnyAsync(c => c.Kind != CredentialKind.Link, ct);
    }

    /// <summary>The newest first; the revoked too.</summary>
    public async Task<IReadOnlyList<TokenView>> ListAsync(CancellationToken ct)
    {
        await using var db = store.Open();
        var rows = await db.Credentials.AsNoTracking().Where(c => c.Kind == CredentialKind.Token).OrderByDescending(c => c.CreatedAt).Select(c => new { Row = c, IsOver = c.ExpiresAt != null && c.ExpiresAt <= PipelineDbContext.DatabaseNow() }).ToListAsync(ct);
        return [.. rows.Select(r => View(r.Row, r.IsOver))];
    }

    /// <summary>Ends a token and every session that was begun with it.</summary>
    /// <param name="reference">Its name, or its id.</param>
    /// <exception cref="StageFailureException">No token that still works is named so.</exception>
    public async Task<TokenView> RevokeAsync(string reference, CancellationToken ct)
    {
        var id = Guid.TryParse(reference, out var parsed) ? parsed : Guid.Empty;
        CredentialRow? row = null;
        await store.Database.TransactAsync(
            async db =>
            {
                row = await db.Credentials.SingleOrDefaultAsync(c => c.Kind == CredentialKind.Token && c.RevokedAt == null && (c.Name == reference || c.Id == id), ct);
                if (row is null)
                {
                    return false;
                }

                row.RevokedAt = Now;
                await db.SaveChangesAsync(ct);
                await db.Credentials.Where(c => c.ParentId == row.Id && c.RevokedAt == null).ExecuteUpdateAsync(u => u.SetProperty(c => c.RevokedAt, row.RevokedAt), ct);
                db.Remember(new AuditEntry(AuditAction.TokenRevoked, row.Id.ToString(), Details: new JsonObject { ["name"] = row.Name }));
                return true;
            },
            ct);
        return row is null ? throw new StageFailureException(FailureKind.Config, $"There is no token '{reference}' that could be revoked.", "fastdraft token list") : View(row, isOver: false);
    }

    /// <summary>Who the secret belongs to; null: to nobody, or not any more.</summary>
    internal async Task<SignedIn?> FindAsync(string secret, CredentialKind kind, CancellationToken ct)
    {
        if (Secret.KindOf(secret) != kind)
        {
            return null;
        }

        var hash = Secret.Hash(secret);
        await using var db = store.Open();
        var found = await db.Credentials.AsNoTracking()
            .Where(c => c.SecretHash == hash && c.Kind == kind && c.RevokedAt == null && (c.ExpiresAt == null || c.ExpiresAt > PipelineDbContext.DatabaseNow()))
            .Select(c => new { c.Id, c.Name, c.Role, c.LastUsedAt }).SingleOrDefaultAsync(ct);
        if (found is null)
        {
            return null;
        }

        if (Now - (found.LastUsedAt ?? 0) >= MillisecondsBetweenUses)
        {
            await db.Credentials.Where(c => c.Id == found.Id).ExecuteUpdateAsync(u => u.SetProperty(c => c.LastUsedAt, Now), ct);
        }

        return new SignedIn(found.Id, found.Name, found.Role);
    }

    /// <summary>Whether a credential that was good still is: what stays open for hours asks again.</summary>
    internal async Task<bool> IsGoodAsync(Guid id, CancellationToken ct)
    {
        await using var db = store.Open();
        return await db.Credentials.AnyAsync(c => c.Id == id && c.RevokedAt == null && (c.ExpiresAt == null || c.ExpiresAt > PipelineDbContext.DatabaseNow()), ct);
    }

    /// <summary>Signs a browser in with a token or a link; a link is used up.</summary>
    /// <returns>The session's secret and its end; null: what was given does not sign in.</returns>
    internal async Task<(string Secret, DateTimeOffset ExpiresAt)?> BeginSessionAsync(string secret, CancellationToken ct)
    {
        if (Secret.KindOf(secret) is not (CredentialKind.Token or CredentialKind.Link))
        {
            return null;
        }

        var (hash, now) = (Secret.Hash(secret), Now);
        (string Secret, DateTimeOffset ExpiresAt)? begun = null;
        await store.Database.TransactAsync(
            async db =>
            {
                begun = null;

                // Written first: whoever revokes the token waits for this transaction and then finds the session, and of two that use one link
                // the second finds it used.
                var given = db.Credentials.Where(c =>
                    c.SecretHash == hash && c.Kind != CredentialKind.Session && c.RevokedAt == null && (c.ExpiresAt == null || c.ExpiresAt > PipelineDbContext.DatabaseNow()));
                if (await given.ExecuteUpdateAsync(u => u.SetProperty(c => c.LastUsedAt, now).SetProperty(c => c.RevokedAt, c => c.Kind == CredentialKind.Link ? now : null), ct) != 1)
                {
                    return false;
                }

                var parent = await db.Credentials.AsNoTracking().SingleAsync(c => c.SecretHash == hash, ct);
                var (session, cookie) = New(CredentialKind.Session, parent.Name, parent.Role, SessionLifetime);
                if (parent.Kind == CredentialKind.Token)
                {
                    (session.ParentId, session.ExpiresAt) = (parent.Id, Math.Min(session.ExpiresAt!.Value, parent.ExpiresAt ?? long.MaxValue));
                }

                db.Credentials.Add(session);
                db.Remember(new AuditEntry(AuditAction.SessionBegun, session.Id.ToString(), Details: new JsonObject { ["with"] = parent.Kind.ToString(), ["role"] = parent.Role.ToString() }, By: parent.Name));
                begun = (cookie, DateTimeOffset.FromUnixTimeMilliseconds(session.ExpiresAt!.Value));
                return true;
            },
            ct);
        return begun;
    }

    internal Task EndSessionAsync(Guid id, CancellationToken ct) => store.Database.TransactAsync(
        async db =>
        {
            db.Remember(new AuditEntry(AuditAction.SessionEnded, id.ToString()));
            return await db.Credentials.Where(c => c.Id == id && c.Kind == CredentialKind.Session && c.RevokedAt == null).ExecuteUpdateAsync(u => u.SetProperty(c => c.RevokedAt, Now), ct) == 1;
        },
        ct);

    private (CredentialRow Row, string Secret) New(CredentialKind kind, string name, Role role, TimeSpan? lifetime)
    {
        var secret = Secret.New(kind);
        return (new CredentialRow
        {
            Id = Guid.CreateVersion7(), Kind = kind, Name = name, Role = role, SecretHash = Secret.Hash(secret), CreatedAt = Now, ExpiresAt = lifetime is { } length ? Now + (long)length.TotalMilliseconds : null,
        }, secret);
    }

    private static TokenView View(CredentialRow row, bool isOver) => new(
        row.Id, row.Name, row.Role, row.RevokedAt is not null ? "revoked" : isOver ? "expired" : "active", Time(row.CreatedAt)!.Value, Time(row.ExpiresAt), Time(row.RevokedAt), Time(row.LastUsedAt));

    private static DateTimeOffset? Time(long? milliseconds) => milliseconds is { } ms ? DateTimeOffset.FromUnixTimeMilliseconds(ms) : null;

    [GeneratedRegex(@"^[a-zA-Z0-9][a-zA-Z0-9._@-]{0,63}\z")]
    private static partial Regex Names();
}
