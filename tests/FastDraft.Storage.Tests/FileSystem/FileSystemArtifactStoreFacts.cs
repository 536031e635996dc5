using FastDraft.Core.Artifacts;
using FastDraft.Storage.FileSystem;

namespace FastDraft.Storage.Tests.FileSystem;

public sealed class FileSystemArtifactStoreFacts : ArtifactStoreContract, IDisposable
{
    private readonly FileSystemArtifactStore store;

    public FileSystemArtifactStoreFacts() => store = new FileSystemArtifactStore(Scratch.Of("cas"));

    protected override IArtifactStore Store => store;

    public void Dispose() => Scratch.Dispose();

    protected override Task ReplaceAsync(Digest blob, byte[]? bytes)
    {
        var path = store.BlobPath(blob);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.Delete(path);
        return bytes is null ? Task.CompletedTask : File.WriteAllBytesAsync(path, bytes);
    }
}
