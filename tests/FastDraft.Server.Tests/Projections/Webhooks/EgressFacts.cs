using System.Net;
using System.Net.Sockets;
using FastDraft.Persistence;
using FastDraft.Server.Projections;
using FastDraft.Server.Projections.Webhooks;
using FastDraft.TestKit;

namespace FastDraft.Server.Tests.Projections.Webhooks;

/// <summary>Requests into private networks: whatever the address looks like, no connection is made. Sockets that listen on all addresses of this machine are the witnesses.</summary>
public sealed class EgressFacts : IDisposable
{
    private static readonly OutboxEventRow Told = new() { Id = 7, Kind = OutboxEventKind.AliasMoved, DataJson = """{"Name":"d","Version":1,"TargetDigest":"sha256:0"}""" };

    private readonly TestFolder folder = new();

    public void Dispose() => folder.Dispose();

    /// <summary>Names as a hostile DNS server would answer them.</summary>
    private static readonly Dictionary<string, string[]> Names = new(StringComparer.OrdinalIgnoreCase)
    {
        ["loopback.evil.test"] = ["127.0.0.1"], ["loopback6.evil.test"] = ["::1"], ["metadata.evil.test"] = ["169.254.169.254"], ["ten.evil.test"] = ["10.0.0.1"],
        ["mapped.evil.test"] = ["::ffff:127.0.0.1"], ["mixed.evil.test"] = ["1.1.1.1", "127.0.0.1"], ["mixed2.evil.test"] = ["127.0.0.1", "1.1.1.1"], ["ula.evil.test"] = ["fd00::1"],
        ["linklocal.evil.test"] = ["fe80::1"], ["nat64.evil.test"] = ["64:ff9b::7f00:1"], ["teredo.evil.test"] = ["2001:0:7f00:1::"], ["sixtofour.evil.test"] = ["2002:7f00:1::"],
        ["any.evil.test"] = ["0.0.0.0"], ["any6.evil.test"] = ["::"], ["none.evil.test"] = [], ["metadata.google.internal"] = ["169.254.169.254"], ["compatible.evil.test"] = ["::127.0.0.1"],
    };

    private static readonly string[] Hostile =
    [
        // Loopback, and what stands for it.
        "http://127.0.0.1:{0}/", "http://127.1:{0}/", "http://127.0.1:{0}/", "http://127.255.255.254:{0}/", "http://127.0.0.1.:{0}/", "http://localhost:{0}/", "http://LOCALHOST:{0}/", "http://localhost.:{0}/",
        "http://0.0.0.0:{0}/", "http://0:{0}/", "http://[::1]:{0}/", "http://[::]:{0}/", "http://[0:0:0:0:0:0:0:1]:{0}/", "http://[::ffff:127.0.0.1]:{0}/", "http://[::ffff:7f00:1]:{0}/",
        "http://[::127.0.0.1]:{0}/", "http://[64:ff9b::7f00:1]:{0}/", "http://[64:ff9b:1::7f00:1]:{0}/", "http://[2002:7f00:1::]:{0}/", "http://[2001:0:7f00:1::]:{0}/",

        // Other digits.
        "http://2130706433:{0}/", "http://017700000001:{0}/", "http://0x7f000001:{0}/", "http://0x7f.0.0.1:{0}/", "http://0177.0.0.1:{0}/", "http://0x7f.1:{0}/", "http://127.0x0.0x0.0x1:{0}/",
        "http://0127.0.0.1:{0}/", "http://00000177.0.0.01:{0}/", "http://127.0.0.0x1:{0}/", "http://4294967296:{0}/", "http://1.1.1.1.1:{0}/", "http://0x08080808:{0}/", "http://134744072:{0}/",
        "http://\u2460\u2461\u2466.0.0.1:{0}/", "http://127\u30020\u30020\u30021:{0}/", "http://\uff11\uff12\uff17.0.0.1:{0}/", "http://%31%32%37.0.0.1:{0}/",

        // Private, shared, link-local, of protocols, for documents, for tests, multicast, reserved.
        "http://10.0.0.1:{0}/", "http://10.255.255.255:{0}/", "http://172.16.0.1:{0}/", "http://172.31.255.255:{0}/", "http://192.168.0.1:{0}/", "http://192.168.255.255:{0}/", "http://100.64.0.1:{0}/",
        "http://100.127.255.255:{0}/", "http://169.254.169.254/latest/meta-data/", "http://169.254.0.1:{0}/", "http://192.0.0.8:{0}/", "http://192.0.2.1:{0}/", "http://198.18.0.1:{0}/", "http://198.51.100.1:{0}/",
        "http://203.0.113.1:{0}/", "http://224.0.0.1:{0}/", "http://239.255.255.250:{0}/", "http://240.0.0.1:{0}/", "http://255.255.255.255:{0}/", "http://[fe80::1]:{0}/", "http://[fe80::1%25lo]:{0}/",
        "http://[fc00::1]:{0}/", "http://[fd00:ec2::254]/latest/meta-data/", "http://[ff02::1]:{0}/", "http://[::ffff:10.0.0.1]:{0}/", "http://[::ffff:169.254.169.254]/", "http://[2001:db8::1]:{0}/", "http://[100::1]:{0}/",

        // Names that mean them.
        "http://loopback.evil.test:{0}/", "https://loopback.evil.test:{0}/", "http://loopback6.evil.test:{0}/", "http://metadata.evil.test/", "http://ten.evil.test:{0}/", "http://mapped.evil.test:{0}/", "http://mixed.evil.test:{0}/",
        "http://mixed2.evil.test:{0}/", "http://ula.evil.test:{0}/", "http://linklocal.evil.test:{0}/", "http://nat64.evil.test:{0}/", "http://teredo.evil.test:{0}/", "http://sixtofour.evil.test:{0}/",
        "http://any.evil.test:{0}/", "http://any6.evil.test:{0}/", "http://none.evil.test:{0}/", "http://metadata.google.internal/computeMetadata/v1/", "http://compatible.evil.test:{0}/",

        // Other schemes, and addresses that readers disagree about.
        "file:///etc/passwd", "gopher://127.0.0.1:{0}/_GET", "ftp://127.0.0.1:{0}/", "dict://127.0.0.1:{0}/", "ldap://127.0.0.1:{0}/", "ws://127.0.0.1:{0}/", "unix:///var/run/docker.sock", "//127.0.0.1:{0}/",
        "http://user@127.0.0.1:{0}/", "http://example.test@127.0.0.1:{0}/", "http://127.0.0.1:{0}@example.test/", "http:\\\\127.0.0.1:{0}\\", "http://127.0.0.1:{0}#@example.test/", "http://127.0.0.1:{0}?@example.test/",
        "http://127.0.0.1:{0}\\@example.test/", " http://127.0.0.1:{0}/", "HTTP://127.0.0.1:{0}/", "javascript:alert(1)", "data:text/plain,x", "",
    ];

    [Fact]
    public async Task No_hostile_address_gets_a_connection()
    {
        Assert.True(Hostile.Distinct().Count() >= 60);
        using var witness = new Witness();
        await using var store = await PipelineStore.OpenAsync(folder.Path);
        foreach (var hostile in Hostile)
        {
            var url = hostile.Replace("{0}", witness.Port.ToString(System.Globalization.CultureInfo.InvariantCulture), StringComparison.Ordinal);
            if (WebhookSubscription.Refuse(url, out var parsed) is null)
            {
                using var projection = Projection(store, parsed!, []);
                var e = await Assert.ThrowsAsync<DeliveryException>(() => projection.DeliverAsync(Told, CancellationToken.None));
                Assert.Equal(DeliveryFault.Away, e.Fault);
                Assert.True(
                    e.Message.Contains("private network", StringComparison.Ordinal) || e.Message.Contains("has no address", StringComparison.Ordinal) || e.Message.Contains("cannot be resolved", StringComparison.Ordinal),
                    $"{url}: {e.Message}");
            }
        }

        Assert.Equal(0, witness.Count);

        // The witness sees what comes.
        using var probe = new TcpClient();
        await probe.ConnectAsync(IPAddress.Loopback, witness.Port);
        await witness.SeenAsync();
    }

    [Fact]
    public async Task A_name_that_changes_its_meaning_between_two_requests_leads_nowhere_else()
    {
        using var witness = new Witness();
        await using var store = await PipelineStore.OpenAsync(folder.Path);
        await using var receiver = await HttpReceiver.StartAsync();
        receiver.Answer = _ => 503;
        var answers = new Queue<string>(["127.0.0.1", "127.0.0.2", "127.0.0.2"]);
        var asked = 0;
        using var projection = Projection(store, new Uri($"http://rebind.evil.test:{receiver.Address.Port}/"), [IPNetwork.Parse("127.0.0.1/32")], (_, _) =>
        {
            asked++;
            return Task.FromResult<IPAddress[]>([IPAddress.Parse(answers.Dequeue())]);
        });

        // The address that was allowed is the one that is connected to, however often the name is looked up afterwards.
        Assert.Contains("503", (await Assert.ThrowsAsync<DeliveryException>(() => projection.DeliverAsync(Told, CancellationToken.None))).Message, StringComparison.Ordinal);
        Assert.Equal((1, 1), (asked, receiver.Calls.Count));
        await receiver.DisposeAsync();
        var e = await Assert.ThrowsAsync<DeliveryException>(() => projection.DeliverAsync(Told, CancellationToken.None));
        Assert.Contains("private network", e.Message, StringComparison.Ordinal);
        Assert.Equal(0, witness.Count);
    }

    [Fact]
    public async Task A_redirect_is_not_followed()
    {
        using var witness = new Witness();
        await using var store = await PipelineStore.OpenAsync(folder.Path);
        await using var receiver = await HttpReceiver.StartAsync();
        receiver.Answer = _ => 307;
        receiver.Location = $"http://127.0.0.2:{witness.Port}/";
        using var projection = Projection(store, receiver.Address, [IPNetwork.Parse("127.0.0.0/8")]);
        var e = await Assert.ThrowsAsync<DeliveryException>(() => projection.DeliverAsync(Told, CancellationToken.None));
        Assert.Contains("307", e.Message, StringComparison.Ordinal);
        Assert.Equal(0, witness.Count);
    }

    [Theory]
    [InlineData("1.1.1.1", true)]
    [InlineData("::ffff:1.1.1.1", true)]
    [InlineData("2606:4700::1111", true)]
    [InlineData("172.15.255.255", true)]
    [InlineData("172.32.0.0", true)]
    [InlineData("100.63.255.255", true)]
    [InlineData("172.16.0.0", false)]
    [InlineData("::ffff:172.16.0.0", false)]
    [InlineData("fd00::1", false)]
    [InlineData("2001:db8::1", false)]
    public void Public_addresses_are_permitted_and_others_are_not(string address, bool isPermitted) => Assert.Equal(isPermitted, new EgressGuard([]).IsPermitted(IPAddress.Parse(address)));

    private static WebhookProjection Projection(PipelineStore store, Uri url, IReadOnlyList<IPNetwork> allow, Func<string, CancellationToken, Task<IPAddress[]>>? resolve = null) => new(
        new WebhookSubscription("test", url, [], "SECRET", allow) { Secret = "s" }, new ProjectionOptions { Timeout = TimeSpan.FromSeconds(5) }, store, TimeProvider.System,
        resolve ?? (async (name, ct) => Names.TryGetValue(name, out var addresses) ? [.. addresses.Select(IPAddress.Parse)] : await Dns.GetHostAddressesAsync(name, ct)));

    /// <summary>Listens on every address of this machine and counts who comes.</summary>
    private sealed class Witness : IDisposable
    {
        private readonly TcpListener listener = TcpListener.Create(0);
        private readonly TaskCompletionSource seen = new();
        private int count;

        public Witness()
        {
            listener.Start();
            _ = ListenAsync();
        }

        public int Port => ((IPEndPoint)listener.LocalEndpoint).Port;

        public int Count => count;

        public Task SeenAsync() => seen.Task.WaitAsync(TimeSpan.FromSeconds(10));

        public void Dispose() => listener.Dispose();

        private async Task ListenAsync()
        {
            try
            {
                while (true)
                {
                    using var client = await listener.AcceptTcpClientAsync();
                    Interlocked.Increment(ref count);
                    seen.TrySetResult();
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // Stopped.
            }
        }
    }
}
