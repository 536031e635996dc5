using System.Collections.Concurrent;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Storage.S3;
using FastDraft.TestKit;

namespace FastDraft.Storage.Tests.S3;

/// <summary>
/// Many operations, every fault at random. FASTDRAFT_FULL=1 makes it a thousand with faults as long as in earnest (5 s late, 10 s
/// still); FASTDRAFT_SEED repeats an earlier series.
/// </summary>
public sealed class FaultSeriesFacts(S3ServerFixture fixture, ITestOutputHelper output)
{
    private static readonly bool Full = Environment.GetEnvironmentVariable("FASTDRAFT_FULL") == "1";

    // Of a hundred tries.
    private static readonly (Fault Fault, int Share)[] Shares =
        [(Fault.Unavailable, 30), (Fault.Reset, 5), (Fault.Late, 3), (Fault.Stall, 1), (Fault.Short, 5), (Fault.Flip, 5), (Fault.WrongETag, 2)];

    [Fact]
    public async Task Every_operation_succeeds_within_its_tries_or_says_why_not_and_no_wrong_byte_is_ever_handed_out()
    {
        var seed = int.TryParse(Environment.GetEnvironmentVariable("FASTDRAFT_SEED"), out var given) ? given : Random.Shared.Next();
        output.WriteLine($"FASTDRAFT_SEED={seed}");
        var numOperations = Full ? 1000 : 60;
        var random = new Random(seed);
        using var scratch = new ScratchFolder();
        await using var proxy = await FaultProxy.StartAsync(fixture.Server.Address);
        proxy.Lateness = Full ? TimeSpan.FromSeconds(5) : TimeSpan.FromMilliseconds(200);
        var settings = S3ServerFixture.Settings(proxy.Address) with { MaxStill = TimeSpan.FromSeconds(Full ? 10 : 1), CacheBytes = 0 };
        using var store = new S3ArtifactStore(settings, scratch.Of("cache"));
        using var honest = new S3ArtifactStore(settings with { Endpoint = fixture.Server.Address }, scratch.Of("honest"));

        // Each is three operations: put it, lay it out on another node, read every byte again.
        var sources = Enumerable.Range(0, numOperations / 3).Select(i =>
        {
            var bytes = new byte[i % 20 == 0 ? (10 << 20) + i : random.Next(1, 200_000)];
            random.NextBytes(bytes);
            return (Folder: scratch.With(("blob", bytes)), Bytes: bytes);
        }).ToList();
        proxy.Choose = request =>
        {
            int at;
            lock (random)
            {
                at = random.Next(100);
            }

            foreach (var (fault, share) in Shares)
            {
                if ((at -= share) < 0)
                {
                    // A flipped bit in a page of a listing is not about blobs.
                    return fault == Fault.Flip && !request.Path.Value!.Contains("/sha256/", StringComparison.Ordinal) ? Fault.None : fault;
                }
            }

            return Fault.None;
        };

        var (succeeded, refused) = (0, new ConcurrentQueue<string>());
        var wrong = 0;
        await Parallel.ForEachAsync(sources, new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = TestContext.Current.CancellationToken }, async (source, token) =>
        {
            Digest? artifact = null;
            await OperateAsync(async () => artifact = (await store.PutFolderAsync(ArtifactKind.Corpus, source.Folder, token)).Digest);
            if (artifact is not { } digest)
            {
                // No partial object is visible: whatever is there is whole.
                var blob = Digest.OfBytes(source.Bytes);
                using var there = await fixture.Server.Http.GetAsync(fixture.Server.UriOf($"{settings.Prefix}/sha256/{blob.Hex[..2]}/{blob.Hex}"), token);
                Assert.True(!there.IsSuccessStatusCode || (await there.Content.ReadAsByteArrayAsync(token)).Length == source.Bytes.Length);
                artifact = (await honest.PutFolderAsync(ArtifactKind.Corpus, source.Folder, token)).Digest;
            }

            var target = scratch.Of(Guid.CreateVersion7().ToString("N"));
            await OperateAsync(() => store.MaterializeAsync(artifact.Value, target, token));
            if (File.Exists(Path.Combine(target, "blob")) && !(await File.ReadAllBytesAsync(Path.Combine(target, "blob"), token)).AsSpan().SequenceEqual(source.Bytes))
            {
                Interlocked.Increment(ref wrong);
            }

            await OperateAsync(async () => Assert.Empty(await store.VerifyAsync(artifact.Value, VerifyDepth.Full, token)));
        });

        proxy.Choose = _ => Fault.None;
        output.WriteLine($"{succeeded} of {sources.Count * 3} succeeded, {refused.Count} gave up; {proxy.Requests.Count} requests, faults: {string.Join(", ", proxy.Done.Where(d => d.Key != Fault.None).OrderBy(d => d.Key).Select(d => $"{d.Key} {d.Value}"))}");
        foreach (var message in refused.Take(5))
        {
            output.WriteLine(message);
        }

        Assert.Equal(0, wrong);
        Assert.Equal(sources.Count * 3, succeeded + refused.Count);
        Assert.All(refused, message => Assert.Contains("in 5 tries", message, StringComparison.Ordinal));
        Assert.True(succeeded >= sources.Count * 3 * 0.8, $"Only {succeeded} of {sources.Count * 3} succeeded.");

        async Task OperateAsync(Func<Task> operation)
        {
            try
            {
                await operation();
                Interlocked.Increment(ref succeeded);
            }
            catch (StageFailureException e) when (e.Kind == FailureKind.Infrastructure)
            {
                refused.Enqueue(e.Message);
            }
        }
    }
}
