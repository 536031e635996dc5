using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Storage.Tests;

/// <summary>What any store of artifacts keeps to. One that passes can take the place of another.</summary>
public abstract class ArtifactStoreContract
{
    protected static CancellationToken Token => TestContext.Current.CancellationToken;

    private protected ScratchFolder Scratch { get; } = new();

    protected abstract IArtifactStore Store { get; }

    /// <summary>More bytes than the store moves in one piece.</summary>
    protected virtual int LargeBytes => 3 << 20;

    /// <summary>Replaces the stored bytes of a blob behind the store's back, and what anybody remembers of them; null takes them away.</summary>
    protected abstract Task ReplaceAsync(Digest blob, byte[]? bytes);

    [Fact]
    public async Task What_was_put_is_laid_out_as_it_was()
    {
        var large = new byte[LargeBytes];
        Random.Shared.NextBytes(large);
        var source = Scratch.With(("config.json", "{}"u8.ToArray()), ("shards/part-0001.bin", large), ("shards/deep/er.txt", "text"u8.ToArray()), ("empty", []));
        var (digest, manifest) = await Store.PutFolderAsync(ArtifactKind.Model, source, Token);
        Assert.Equal(digest, manifest.ComputeDigest());
        Assert.Equal(manifest.ToCanonicalJson(), (await Store.ManifestAsync(digest, Token)).ToCanonicalJson());

        var target = Scratch.Of("out");
        await Store.MaterializeAsync(digest, target, Token);
        Assert.Equal(Files(source), Files(target));
        Assert.All(manifest.Files, f => Assert.Equal(File.ReadAllBytes(Path.Combine(source, f.Path)), File.ReadAllBytes(Path.Combine(target, f.Path))));
        Assert.Equal("text"u8.ToArray(), await Store.ReadAsync(digest, "shards/deep/er.txt", Token));
        Assert.Empty(await Store.VerifyAsync(digest, VerifyDepth.Full, Token));
        Assert.Empty(await Store.VerifyAsync(digest, VerifyDepth.Cheap, Token));

        // A second time, over what is there.
        await Store.MaterializeAsync(digest, target, Token);
        Assert.Equal(Files(source), Files(target));
    }

    [Fact]
    public async Task Equal_bytes_have_equal_digests_wherever_and_however_often_they_are_put()
    {
        var bytes = Guid.CreateVersion7().ToByteArray();
        var (first, _) = await Store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("a", bytes), ("b", [1])), Token);
        var (second, _) = await Store.PutFolderAsync(ArtifactKind.Corpus, Scratch.With(("b", [1]), ("a", bytes)), Token);
        var (other, _) = await Store.PutFolderAsync(ArtifactKind.Model, Scratch.With(("a", bytes), ("b", [1])), Token);
        Assert.Equal(first, second);
        Assert.NotEqual(first, other);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_blob_that_is_damaged_or_gone_is_told_and_never_handed_out_and_putting_it_again_repairs_it(bool gone)
    {
        var bytes = Guid.CreateVersion7().ToByteArray();
        var source = Scratch.With(("weights.bin", bytes), ("whole.txt", "whole"u8.ToArray()));
        var (digest, _) = await Store.PutFolderAsync(ArtifactKind.Model, source, Token);
        await ReplaceAsync(Digest.OfBytes(bytes), gone ? null : [.. bytes[..^1], (byte)(bytes[^1] ^ 1)]);

        Assert.Contains("'weights.bin' is " + (gone ? "missing" : "damaged"), Assert.Single(await Store.VerifyAsync(digest, VerifyDepth.Full, Token)).Message, StringComparison.Ordinal);
        var target = Scratch.Of("out");
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => Store.MaterializeAsync(digest, target, Token));
        Assert.Equal(FailureKind.Data, failure.Kind);
        Assert.Contains("'weights.bin'", failure.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(target, "weights.bin")));
        await Assert.ThrowsAsync<StageFailureException>(() => Store.ReadAsync(digest, "weights.bin", Token));

        await Store.PutFolderAsync(ArtifactKind.Model, source, Token);
        Assert.Empty(await Store.VerifyAsync(digest, VerifyDepth.Full, Token));
        Assert.Equal(bytes, await Store.ReadAsync(digest, "weights.bin", Token));
    }

    [Fact]
    public async Task An_artifact_that_is_not_there_is_named()
    {
        var digest = Digest.OfBytes("never put"u8);
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => Store.ManifestAsync(digest, Token));
        Assert.Contains(digest.ToString(), failure.Message, StringComparison.Ordinal);
        Assert.NotNull(failure.Hint);
        Assert.Contains(digest.ToString(), Assert.Single(await Store.VerifyAsync(digest, VerifyDepth.Cheap, Token)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_file_that_the_artifact_does_not_have_is_named()
    {
        var (digest, _) = await Store.PutFolderAsync(ArtifactKind.Model, Scratch.With(("a", [1])), Token);
        Assert.Contains("'b'", (await Assert.ThrowsAsync<StageFailureException>(() => Store.ReadAsync(digest, "b", Token))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_link_is_not_stored()
    {
        var source = Scratch.With(("a", [1]));
        File.CreateSymbolicLink(Path.Combine(source, "b"), "/etc/hostname");
        Assert.Contains("'b' is a link", (await Assert.ThrowsAsync<StageFailureException>(() => Store.PutFolderAsync(ArtifactKind.Model, source, Token))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("../outside")]
    [InlineData("/tmp/outside-of-it")]
    [InlineData("a/../../outside")]
    public async Task A_manifest_that_names_a_file_outside_its_folder_writes_nothing_there(string path)
    {
        var (_, put) = await Store.PutFolderAsync(ArtifactKind.Model, Scratch.With(("a", [1])), Token);
        var evil = new ArtifactManifest(ArtifactKind.Model, [put.Files[0] with { Path = path }]);
        await ReplaceAsync(evil.ComputeDigest(), evil.ToCanonicalJson());
        var target = Scratch.Of("deep/out");
        Assert.Contains("outside its folder", (await Assert.ThrowsAsync<StageFailureException>(() => Store.MaterializeAsync(evil.ComputeDigest(), target, Token))).Message, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.GetFullPath(Path.Combine(target, path))));
    }

    [Fact]
    public async Task A_damaged_manifest_is_told()
    {
        var (digest, manifest) = await Store.PutFolderAsync(ArtifactKind.Model, Scratch.With(("a", [1])), Token);
        await ReplaceAsync(digest, [.. manifest.ToCanonicalJson(), (byte)' ']);
        Assert.Contains("manifest", (await Assert.ThrowsAsync<StageFailureException>(() => Store.ManifestAsync(digest, Token))).Message, StringComparison.Ordinal);
        Assert.NotEmpty(await Store.VerifyAsync(digest, VerifyDepth.Full, Token));
    }

    [Fact]
    public async Task What_is_there_is_listed_until_it_is_deleted()
    {
        var (digest, manifest) = await Store.PutFolderAsync(ArtifactKind.Model, Scratch.With(("a", Guid.CreateVersion7().ToByteArray()), ("b", [1, 2, 3])), Token);
        var blobs = await ListAsync();
        Assert.Equal(manifest.Files.Select(f => f.Digest).Append(digest).ToHashSet(), blobs.Select(b => b.Digest).ToHashSet());
        Assert.Equal(3, blobs.Single(b => b.Digest == Digest.OfBytes([1, 2, 3])).SizeBytes);
        Assert.All(blobs, b => Assert.InRange(TimeProvider.System.GetUtcNow() - b.Modified, TimeSpan.FromMinutes(-1), TimeSpan.FromMinutes(1)));

        await Store.DeleteAsync(Digest.OfBytes([1, 2, 3]), Token);
        await Store.DeleteAsync(Digest.OfBytes([1, 2, 3]), Token);
        Assert.Equal(2, (await ListAsync()).Count);
        Assert.Equal((Digest.OfBytes([1, 2, 3]), true), Assert.Single(await Store.VerifyAsync(digest, VerifyDepth.Cheap, Token)) is var damage ? (damage.Blob, damage.IsMissing) : default);

        async Task<List<StoredBlob>> ListAsync()
        {
            var found = new List<StoredBlob>();
            await foreach (var blob in Store.ListAsync(Token))
            {
                found.Add(blob);
            }

            return found;
        }
    }

    private static IEnumerable<string> Files(string folder) => Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(folder, f)).Order(StringComparer.Ordinal);
}
