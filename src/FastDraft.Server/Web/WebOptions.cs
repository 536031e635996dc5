using System.Net;
using System.Net.Sockets;

namespace FastDraft.Server.Web;

/// <summary>Where the service listens, by which names it is called, and where the designer's files are.</summary>
public sealed record WebOptions
{
    public const string DefaultUrl = "http://127.0.0.1:5080";

    /// <summary>An http address. Port 0 takes any free one.</summary>
    public Uri Url { get; init; } = new(DefaultUrl);

    /// <summary>Where people open the service: of a proxy before it that speaks https. Null: at <see cref="Url"/>.</summary>
    public Uri? PublicUrl { get; init; }

    /// <summary>Names by which the service may be called, besides those of this machine and that of <see cref="PublicUrl"/>.</summary>
    public IReadOnlyList<string> AllowedHosts { get; init; } = [];

    /// <summary>The unpacked designer package; null where it is not installed.</summary>
    public string? StudioFolder { get; init; }

    /// <summary>Whether other machines reach the address.</summary>
    public bool IsPublic => !IsLoopback(Url.Host);

    /// <summary>Null where the address may be listened on; otherwise why not.</summary>
    public string? Refusal =>
        Url.Scheme != Uri.UriSchemeHttp ? $"'{Url}' is not an http address."
        : !IsAddress(Url.Host) ? $"'{Url.Host}' is a name; to listen takes an address of this machine, or localhost."
        : IsPublic && PublicUrl?.Scheme != Uri.UriSchemeHttps
            ? $"'{Url.Host}' can be reached from other machines, and tokens would pass in the clear: FASTDRAFT_URL is not the https address of a proxy before the service."
            : null;

    /// <summary>Names and addresses that only this machine answers to.</summary>
    internal static bool IsLoopback(string host) =>
        host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));

    /// <summary>Whether a request may name the service so: a page of another site could have any other name point here (DNS rebinding).</summary>
    internal bool IsCalled(string host) => IsLoopback(host) || host.Equals(PublicUrl?.Host, StringComparison.OrdinalIgnoreCase) || AllowedHosts.Contains(host, StringComparer.OrdinalIgnoreCase);

    private static bool IsAddress(string host) => IsLoopback(host) || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && address.AddressFamily is AddressFamily.InterNetwork or AddressFamily.InterNetworkV6);
}
