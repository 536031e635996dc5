using System.Net;

namespace FastDraft.Server.Web;

/// <summary>Where the service listens and where the designer's files are.</summary>
public sealed record WebOptions
{
    public const string DefaultUrl = "http://127.0.0.1:5080";

    /// <summary>An http address of this machine alone. Port 0 takes any free one.</summary>
    public Uri Url { get; init; } = new(DefaultUrl);

    /// <summary>The unpacked designer package; null where it is not installed.</summary>
    public string? StudioFolder { get; init; }

    /// <summary>Null where the address may be listened on; otherwise why not.</summary>
    public static string? Refuse(Uri url) =>
        url.Scheme != Uri.UriSchemeHttp ? $"'{url}' is not an http address."
        : !IsLoopback(url.Host) ? $"'{url.Host}' can be reached from other machines, and the service has no sign-in yet: anyone could start runs."
        : null;

    /// <summary>Names and addresses that only this machine answers to.</summary>
    internal static bool IsLoopback(string host) =>
        host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));
}
