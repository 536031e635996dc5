using FastDraft.Storage.S3;
using FastDraft.TestKit;

[assembly: AssemblyFixture(typeof(FastDraft.Storage.Tests.S3.S3ServerFixture))]

namespace FastDraft.Storage.Tests.S3;

/// <summary>One server for all facts; each has a prefix of its own.</summary>
public sealed class S3ServerFixture : IAsyncLifetime
{
    private S3Server? server;

    public S3Server Server
    {
        get
        {
            Assert.SkipUnless(S3Server.Missing is null, S3Server.Missing ?? "");
            return server!;
        }
    }

    public async ValueTask InitializeAsync() => server = S3Server.Missing is null ? await S3Server.StartAsync() : null;

    public ValueTask DisposeAsync() => server?.DisposeAsync() ?? ValueTask.CompletedTask;

    /// <summary>Impatient settings: what takes minutes in earnest takes a second here.</summary>
    public static S3Settings Settings(Uri endpoint) => new()
    {
        Endpoint = endpoint,
        Bucket = S3Server.Bucket,
        Prefix = "facts/" + Guid.CreateVersion7().ToString("N"),
        AccessKey = "tester",
        SecretKey = "tester-secret",
        PartBytes = 5 << 20,
        MaxStill = TimeSpan.FromSeconds(5),
        FirstPause = TimeSpan.FromMilliseconds(10),
    };
}
