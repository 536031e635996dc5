using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;

namespace FastDraft.Server.Projections.Webhooks;

/// <summary>Who is told of which events.</summary>
/// <param name="Name">Its projection is <c>webhook:NAME</c>.</param>
/// <param name="Events">Kinds of events; empty: all.</param>
/// <param name="Secret">What signs; null where the variable that it is taken from is not set.</param>
/// <param name="SecretName">That variable.</param>
/// <param name="Allow">Networks that are private and may be reached all the same.</param>
public sealed partial record WebhookSubscription(string Name, Uri Url, IReadOnlyList<string> Events, string SecretName, IReadOnlyList<IPNetwork> Allow)
{
    private const int MaxBytes = 1 << 20;

    private static readonly JsonSerializerOptions Strict = new(JsonSerializerDefaults.Web) { UnmappedMemberHandling = System.Text.Json.Serialization.JsonUnmappedMemberHandling.Disallow };

    internal string? Secret { get; init; }

    /// <exception cref="StageFailureException">The file cannot be read, or a subscription in it cannot be meant so.</exception>
    public static IReadOnlyList<WebhookSubscription> ReadFile(string file, Func<string, string?> variable)
    {
        try
        {
            return new FileInfo(file) is { Length: > MaxBytes }
                ? throw Problem($"The file of webhooks '{file}' is larger than {MaxBytes} bytes.", "fewer subscriptions")
                : Read(File.ReadAllText(file), variable);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Problem($"The file of webhooks '{file}' (FASTDRAFT_WEBHOOKS) cannot be read: {e.Message}", "a path to a JSON file with \"subscriptions\"");
        }
    }

    /// <inheritdoc cref="ReadFile"/>
    public static IReadOnlyList<WebhookSubscription> Read(string json, Func<string, string?> variable)
    {
        WebhookFile? file;
        try
        {
            file = JsonSerializer.Deserialize<WebhookFile>(json, Strict);
        }
        catch (JsonException e)
        {
            throw Problem($"The file of webhooks is not as it should be: {e.Message}", """{ "subscriptions": [ { "name": "ci", "url": "https://...", "events": ["run.ended"], "secret": "secret:CI_SECRET" } ] }""");
        }

        var subscriptions = (file?.Subscriptions ?? []).Select(e => Check(e, variable)).ToList();
        return subscriptions.GroupBy(s => s.Name).FirstOrDefault(g => g.Count() > 1) is { Key: var twice }
            ? throw Problem($"Two webhook subscriptions are named '{twice}'.", "another name: each keeps its own position")
            : subscriptions;
    }

    /// <summary>Why an address is no receiver; null where it may be one. Whether its host may be reached is seen when it is.</summary>
    internal static string? Refuse(string text, out Uri? url)
    {
        if (!Uri.TryCreate(text, UriKind.Absolute, out url) || (url.Scheme != Uri.UriSchemeHttp && url.Scheme != Uri.UriSchemeHttps))
        {
            return "is no http or https address";
        }

        if (url.UserInfo.Length > 0)
        {
            return "holds a user name or password";
        }

        // An IPv4 address in other digits (decimal, octal, hexadecimal, fewer parts) is read as one here and as a name elsewhere.
        var host = Authority().Match(text).Groups["host"].Value;
        if (url.HostNameType == UriHostNameType.IPv4 && host != url.Host)
        {
            return $"writes the address {url.Host} in disguise";
        }

        return url.HostNameType is UriHostNameType.Dns && url.IdnHost.TrimEnd('.').Split('.')[^1] is var last && (last.Length == 0 || char.IsAsciiDigit(last[0]))
            ? "has a host whose last part is a number" : null;
    }

    private static WebhookSubscription Check(WebhookEntry entry, Func<string, string?> variable)
    {
        const string Reference = "secret:";
        var name = entry.Name ?? "";
        if (!Names().IsMatch(name))
        {
            throw Problem($"A webhook subscription is named '{name}'.", "letters, digits, dots and dashes, at most 64, as in: ci-status");
        }

        if (Refuse(entry.Url ?? "", out var url) is { } refusal)
        {
            throw Problem($"Webhook '{name}': its url {refusal}.", "https://host/path");
        }

        if (entry.Secret?.StartsWith(Reference, StringComparison.Ordinal) is not true || entry.Secret.Length == Reference.Length)
        {
            throw Problem($"Webhook '{name}' has no secret reference.", "\"secret\": \"secret:NAME\", where NAME is the environment variable that holds it: the file itself holds no secret");
        }

        foreach (var kind in (entry.Events ?? []).Where(k => !OutboxEventKind.All.Contains(k)))
        {
            throw Problem(
                $"Webhook '{name}' asks for the event '{kind}', which there is not.",
                Spelling.Nearest(kind, OutboxEventKind.All) is { } near ? $"did you mean '{near}'?" : "one of " + string.Join(", ", OutboxEventKind.All));
        }

        var allow = (entry.Allow ?? []).Select(text => IPNetwork.TryParse(text, out var network) ? network
            : throw Problem($"Webhook '{name}': '{text}' in 'allow' is no network.", "10.1.2.0/24, or 10.1.2.3/32 for one address"));
        var secretName = entry.Secret[Reference.Length..];
        return new WebhookSubscription(name, url!, entry.Events ?? [], secretName, [.. allow]) { Secret = variable(secretName) is { Length: > 0 } secret ? secret : null };
    }

    private static StageFailureException Problem(string message, string hint) => new(FailureKind.Config, message, hint);

    // A record prints its members.
    public override string ToString() => $"webhook:{Name}";

    [GeneratedRegex("^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")]
    private static partial Regex Names();

    [GeneratedRegex(@"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@\\]*@)?(?<host>\[[^\]]*\]|[^/?#:\\]*)")]
    private static partial Regex Authority();

    private sealed record WebhookFile(IReadOnlyList<WebhookEntry>? Subscriptions);

    private sealed record WebhookEntry(string? Name, string? Url, IReadOnlyList<string>? Events, string? Secret, IReadOnlyList<string>? Allow);
}
