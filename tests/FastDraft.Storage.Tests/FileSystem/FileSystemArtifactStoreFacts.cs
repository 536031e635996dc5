using FastDraft.Core.Artifacts;
using FastDraft.Storage.FileSystem;

namespace FastDraft.Storage.Tests.FileSystem;

public sealed class FileSystemArtifactStoreFacts : ArtifactStoreContract, IDisposable
{
    private readonly FileSystemArtifactStore store;

    public FileSystemArtifactStoreFacts() => store = new FileSystemArtifactStore(Scratch.Of("cas"));

    protected override IArtifactStore Store => store;

    public void Dispose() => Scratch.Dispose();

    [Fact]
    public async Task Only_what_no_writer_holds_and_none_has_just_made_is_abandoned()
    {
        var folder = Directory.CreateDirectory(Path.Join(store.Folder, "tmp")).FullName;
        var (left, held, young) = (Path.Join(folder, "left"), Path.Join(folder, "held"), Path.Join(folder, "young"));
        await File.WriteAllTextAsync(left, "part");
        await File.WriteAllTextAsync(young, "part");
        using var writer = new FileStream(held, FileMode.CreateNew, FileAccess.Write, FileShare.Delete);
        foreach (var old in (string[])[left, held])
        {
            File.SetLastWriteTimeUtc(old, TimeProvider.System.GetUtcNow().UtcDateTime - TimeSpan.FromHours(1));
        }

        Assert.Equal(1, await store.RemoveAbandonedAsync(TimeSpan.FromMinutes(-1), TestContext.Current.CancellationToken));
        Assert.Equal([held, young], Directory.GetFiles(folder).Order(StringComparer.Ordinal));
    }

    protected override Task ReplaceAsync(Digest blob, byte[]? bytes)
    {
        var path = store.BlobPath(blob);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.Delete(path);
        return bytes is null ? Task.CompletedTask : File.WriteAllBytesAsync(path, bytes);
    }
}
