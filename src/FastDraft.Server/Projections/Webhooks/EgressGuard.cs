using System.Net;
using System.Net.Sockets;

namespace FastDraft.Server.Projections.Webhooks;

/// <summary>
/// Connects to public addresses only. The name is resolved here, every address that it has must be permitted, and the connection goes to one
/// of those very addresses: a name that means something else a moment later (DNS rebinding) has no second chance to be asked.
/// </summary>
internal sealed class EgressGuard(IReadOnlyList<IPNetwork> allowed, Func<string, CancellationToken, Task<IPAddress[]>>? resolve = null)
{
    // What is no public unicast address, from the registries of special purpose addresses (RFC 6890 and its updates).
    private static readonly IPNetwork[] Private =
    [
        .. new[]
        {
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
            "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",

            // Of IPv6 only 2000::/3 is in use; inside it are what may lead to an IPv4 address or is for documents, tests and protocols.
            "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
        }.Select(n => IPNetwork.Parse(n)),
    ];

    private static readonly IPNetwork GlobalUnicast = IPNetwork.Parse("2000::/3");

    private readonly Func<string, CancellationToken, Task<IPAddress[]>> resolve = resolve ?? ((host, ct) => Dns.GetHostAddressesAsync(host, ct));

    public SocketsHttpHandler Handler() => new()
    {
        AllowAutoRedirect = false,
        UseProxy = false,
        UseCookies = false,
        PooledConnectionLifetime = TimeSpan.FromMinutes(1),
        ConnectTimeout = TimeSpan.FromSeconds(10),
        ConnectCallback = async (context, ct) => await ConnectAsync(context.DnsEndPoint, ct),
    };

    public bool IsPermitted(IPAddress address)
    {
        var plain = address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
        return allowed.Any(n => n.Contains(plain)) || (plain.AddressFamily switch
        {
            AddressFamily.InterNetwork => !Private.Any(n => n.Contains(plain)),
            AddressFamily.InterNetworkV6 => plain.ScopeId == 0 && GlobalUnicast.Contains(plain) && !Private.Any(n => n.Contains(plain)),
            _ => false,
        });
    }

    private async Task<NetworkStream> ConnectAsync(DnsEndPoint target, CancellationToken ct)
    {
        IPAddress[] addresses;
        try
        {
            addresses = IPAddress.TryParse(target.Host.Trim('[', ']'), out var literal) ? [literal] : await resolve(target.Host, ct);
        }
        catch (SocketException e)
        {
            throw new DeliveryException(DeliveryFault.Away, $"'{target.Host}' cannot be resolved: {e.Message}", inner: e);
        }

        // One that is not is enough: a name with a public and a private address is how rebinding begins.
        if (addresses.Length == 0 || addresses.FirstOrDefault(a => !IsPermitted(a)) is not null)
        {
            throw new DeliveryException(
                DeliveryFault.Away,
                addresses.Length == 0 ? $"'{target.Host}' has no address." : $"'{target.Host}' is in a private network; nothing was sent. A receiver inside is named in 'allow' of the subscription.");
        }

        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(addresses, target.Port, ct);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
