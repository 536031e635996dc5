using System.Net;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Storage.S3;
using FastDraft.TestKit;

namespace FastDraft.Storage.Tests.S3;

/// <summary>Against a real server, through a proxy that can misbehave.</summary>
public sealed class S3ArtifactStoreFacts(S3ServerFixture fixture) : ArtifactStoreContract, IAsyncLifetime
{
    private S3Settings settings = null!;
    private FaultProxy proxy = null!;
    private S3ArtifactStore store = null!;

    protected override IArtifactStore Store => store;

    // Two whole parts and a little.
    protected override int LargeBytes => (10 << 20) + 12_345;

    public async ValueTask InitializeAsync()
    {
        proxy = await FaultProxy.StartAsync(fixture.Server.Address);
        settings = S3ServerFixture.Settings(proxy.Address);
        store = new S3ArtifactStore(settings, Scratch.Of("cache"));
    }

    public async ValueTask DisposeAsync()
    {
        store.Dispose();
        await proxy.DisposeAsync();
        Scratch.Dispose();
    }

    protected override async Task ReplaceAsync(Digest blob, byte[]? bytes)
    {
        var key = fixture.Server.UriOf($"{settings.Prefix}/sha256/{blob.Hex[..2]}/{blob.Hex}");
        (bytes is null ? await fixture.Server.Http.DeleteAsync(key, Token) : await fixture.Server.Http.PutAsync(key, new ByteArrayContent(bytes), Token)).EnsureSuccessStatusCode();
        ForgetCache();
    }

    [Fact]
    public async Task A_node_fetches_a_blob_once_and_what_it_made_never()
    {
        var (digest, _) = await store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("a", Guid.CreateVersion7().ToByteArray()), ("b", Guid.CreateVersion7().ToByteArray())), Token);
        await store.MaterializeAsync(digest, Scratch.Of("one"), Token);
        Assert.Equal(0, NumReads());

        ForgetCache();
        using var other = new S3ArtifactStore(settings, Scratch.Of("cache"));
        await Task.WhenAll(Enumerable.Range(0, 4).Select(i => (i % 2 == 0 ? store : other).MaterializeAsync(digest, Scratch.Of("two" + i), Token)));
        await store.MaterializeAsync(digest, Scratch.Of("three"), Token);
        Assert.Equal(3, NumReads());
    }

    [Fact]
    public async Task The_cache_keeps_to_its_size_by_giving_up_what_was_used_longest_ago()
    {
        using var small = new S3ArtifactStore(settings with { CacheBytes = 10_000 }, Scratch.Of("small"));
        var artifacts = new List<Digest>();
        for (var i = 0; i < 4; i++)
        {
            artifacts.Add((await store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("a", Bytes(4_000))), Token)).Digest);
        }

        foreach (var artifact in (Digest[])[artifacts[0], artifacts[1], artifacts[0], artifacts[2]])
        {
            await small.MaterializeAsync(artifact, Scratch.Of(artifact.Hex), Token);
        }

        Assert.InRange(new DirectoryInfo(Scratch.Of("small/sha256")).EnumerateFiles("*", SearchOption.AllDirectories).Sum(f => f.Length), 1, 10_000);
        var before = NumReads();
        await small.MaterializeAsync(artifacts[0], Scratch.Of("again0"), Token);
        Assert.Equal(before, NumReads());
        await small.MaterializeAsync(artifacts[1], Scratch.Of("again1"), Token);
        Assert.True(NumReads() > before);
    }

    [Fact]
    public async Task A_full_disk_of_the_cache_names_needed_and_free_bytes_and_keeps_nothing_half()
    {
        using var disk = SmallDisk.TryMount(Scratch.Of("disk"));
        Assert.SkipWhen(disk is null, SmallDisk.Missing);
        using var node = new S3ArtifactStore(settings, Scratch.Of("disk/cache"));
        var (digest, _) = await store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("a", Bytes((SmallDisk.SizeMiB + 4) << 20))), Token);
        var full = await Assert.ThrowsAsync<StageFailureException>(() => node.MaterializeAsync(digest, Scratch.Of("out"), Token));
        Assert.Equal(FailureKind.Resource, full.Kind);
        Assert.Matches("The disk of '.*/disk/cache' is full: .* needs 12,582,912 bytes, [0-9,]+ are free", full.Message);
        Assert.Empty(Directory.EnumerateFiles(Scratch.Of("disk/cache/tmp")));
        disk!.Grow();
        await node.MaterializeAsync(digest, Scratch.Of("again"), Token);
    }

    [Fact]
    public async Task Room_is_made_without_taking_what_somebody_has_open()
    {
        var cache = new BlobCache(Scratch.Of("small"), 10_000);
        await using var first = await OpenAsync(cache, Bytes(6_000));
        await using var second = await OpenAsync(cache, Bytes(6_000));
        Assert.True(File.Exists(first.Name));
        await first.DisposeAsync();
        await using var third = await OpenAsync(cache, Bytes(4_000));
        Assert.False(File.Exists(first.Name));
        Assert.True(File.Exists(second.Name));
    }

    [Fact]
    public async Task What_rots_in_the_cache_is_fetched_again()
    {
        var bytes = Bytes(1_000);
        var (digest, _) = await store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("a", bytes)), Token);
        var cached = Directory.EnumerateFiles(Scratch.Of("cache/sha256"), Digest.OfBytes(bytes).Hex, SearchOption.AllDirectories).Single();
        File.Delete(cached);
        await File.WriteAllBytesAsync(cached, [.. bytes[..^1], (byte)~bytes[^1]], Token);
        Assert.Equal(bytes, await store.ReadAsync(digest, "a", Token));
    }

    [Theory]
    [InlineData(Fault.Unavailable)]
    [InlineData(Fault.Reset)]
    [InlineData(Fault.Late)]
    [InlineData(Fault.Stall)]
    [InlineData(Fault.Short)]
    [InlineData(Fault.Flip)]
    [InlineData(Fault.WrongETag)]
    public async Task A_fault_of_the_first_try_is_overcome(Fault fault)
    {
        proxy.Lateness = TimeSpan.FromMilliseconds(100);
        using var impatient = new S3ArtifactStore(settings with { MaxStill = TimeSpan.FromSeconds(1) }, Scratch.Of("cache"));
        var seen = new HashSet<string>();
        proxy.Choose = request =>
        {
            lock (seen)
            {
                return request.Path.Value!.Contains("/sha256/", StringComparison.Ordinal) && (fault != Fault.Flip || IsBody(request)) && seen.Add(request.Method + request.Path + request.QueryString)
                    ? fault : Fault.None;
            }
        };
        var bytes = Bytes(LargeBytes);
        var (digest, _) = await impatient.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("large", bytes), ("small", [1])), Token);
        ForgetCache();
        Assert.Equal(bytes, await impatient.ReadAsync(digest, "large", Token));
        Assert.True(proxy.Done[fault] >= 4, $"{fault} was done {proxy.Done[fault]} times.");
        proxy.Choose = _ => Fault.None;
        Assert.Empty(await impatient.VerifyAsync(digest, VerifyDepth.Full, Token));
        await impatient.RemoveAbandonedAsync(TimeSpan.Zero, Token);
        Assert.Equal(0, await UnfinishedUploadsAsync());
    }

    [Fact]
    public async Task A_connection_that_breaks_in_a_body_is_taken_up_where_it_broke()
    {
        var bytes = Bytes(LargeBytes);
        var (digest, _) = await store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("large", bytes)), Token);
        ForgetCache();
        await store.ManifestAsync(digest, Token);
        var broken = 0;
        var ranges = new List<string?>();
        proxy.Choose = request =>
        {
            ranges.Add(request.Headers.Range);
            return ++broken <= 2 ? Fault.Short : Fault.None;
        };
        Assert.Equal(bytes, await store.ReadAsync(digest, "large", Token));
        Assert.Equal(3, ranges.Count);
        Assert.Null(ranges[0]);
        Assert.All(ranges.Skip(1), r => Assert.StartsWith("bytes=", r, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_server_that_stays_away_is_given_up_after_five_tries_with_everything_named_but_the_secret()
    {
        proxy.Choose = _ => Fault.Unavailable;
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("a", [1])), Token));
        Assert.Equal(FailureKind.Infrastructure, failure.Kind);
        Assert.All([S3Server.Bucket, proxy.Address.ToString(), settings.Prefix + "/sha256/", "in 5 tries", "503"], text => Assert.True(failure.Message.Contains(text, StringComparison.Ordinal), failure.Message));
        Assert.DoesNotContain(settings.SecretKey, failure + failure.Hint, StringComparison.Ordinal);
        Assert.Equal(5, proxy.Requests.Count);
    }

    [Fact]
    public async Task An_upload_that_fails_leaves_nothing_to_see_and_nothing_behind()
    {
        proxy.Choose = request => request.QueryString.Value!.Contains("partNumber=3", StringComparison.Ordinal) ? Fault.Unavailable : Fault.None;
        var bytes = Bytes(LargeBytes);
        await Assert.ThrowsAsync<StageFailureException>(() => store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("large", bytes)), Token));
        Assert.Equal(0, await UnfinishedUploadsAsync());
        var blob = Digest.OfBytes(bytes);
        Assert.Equal(HttpStatusCode.NotFound, (await fixture.Server.Http.GetAsync(fixture.Server.UriOf($"{settings.Prefix}/sha256/{blob.Hex[..2]}/{blob.Hex}"), Token)).StatusCode);
    }

    [Fact]
    public async Task A_bucket_that_is_not_there_is_said_to_be_so()
    {
        using var lost = new S3ArtifactStore(settings with { Bucket = "nowhere" }, Scratch.Of("cache"));
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => lost.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("a", [1])), Token));
        Assert.Equal(FailureKind.Config, failure.Kind);
        Assert.Contains("NoSuchBucket", failure.Message, StringComparison.Ordinal);
        Assert.Contains(S3Settings.StoreVariable, failure.Hint!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_link_gives_anybody_the_bytes_of_one_file()
    {
        var bytes = Bytes(1_000);
        var (_, manifest) = await store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("a", bytes)), Token);
        var link = await store.LinkAsync(manifest.Files[0], TimeSpan.FromMinutes(10));
        Assert.Contains("X-Amz-Expires=600", link.Query, StringComparison.Ordinal);
        Assert.DoesNotContain(settings.SecretKey, link.ToString(), StringComparison.Ordinal);
        using var anybody = new HttpClient();
        Assert.Equal(bytes, await anybody.GetByteArrayAsync(link, Token));
    }

    [Fact]
    public async Task The_probe_says_how_far_the_clocks_are_apart()
    {
        var (roundTrip, skew) = await store.ProbeAsync(Token);
        Assert.InRange(roundTrip, TimeSpan.Zero, settings.MaxStill);
        Assert.InRange(skew, TimeSpan.FromSeconds(-3), TimeSpan.FromSeconds(3));
    }

    private static bool IsBody(Microsoft.AspNetCore.Http.HttpRequest request) => request.Method == "GET" || (request.Method == "PUT" && request.ContentLength > 0);

    private static byte[] Bytes(int length)
    {
        var bytes = new byte[length];
        Random.Shared.NextBytes(bytes);
        return bytes;
    }

    private static Task<FileStream> OpenAsync(BlobCache cache, byte[] bytes) =>
        cache.OpenAsync(Digest.OfBytes(bytes), bytes.Length, (target, token) => target.WriteAsync(bytes, token).AsTask(), Token);

    private void ForgetCache() => Directory.Delete(Scratch.Of("cache"), recursive: true);

    private int NumReads() => proxy.Requests.Count(r => r.StartsWith("GET ", StringComparison.Ordinal) && r.Contains("/sha256/", StringComparison.Ordinal));

    private async Task<int> UnfinishedUploadsAsync()
    {
        var listing = await fixture.Server.Http.GetStringAsync(new Uri(fixture.Server.Address, $"{S3Server.Bucket}?uploads&prefix={settings.Prefix}"), Token);
        return System.Text.RegularExpressions.Regex.Count(listing, "<UploadId>.+</UploadId>");
    }
}
