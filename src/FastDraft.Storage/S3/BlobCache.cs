using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Storage.S3;

/// <summary>
/// Blobs that this node has fetched or made, so that it does not fetch them again. Any number of processes share it. A blob is in use
/// while somebody has it open here; of the others the least recently used go when there are too many bytes. Nothing is lost with it:
/// the bucket has all.
/// </summary>
internal sealed class BlobCache(string folder, long maxBytes)
{
    private string Temporary => Path.Combine(folder, "tmp");

    /// <summary>Opens the blob, which is whole: what is found damaged is fetched again. It is in use until the stream is closed.</summary>
    /// <param name="fetch">Writes the blob's bytes, verified, into a stream; asked by one at a time.</param>
    public async Task<FileStream> OpenAsync(Digest digest, long length, Func<Stream, CancellationToken, Task> fetch, CancellationToken cancellationToken)
    {
        if (await TryOpenAsync(digest, cancellationToken) is { } found)
        {
            return found;
        }

        // Two attempts that want the same corpus fetch it once.
        using var alone = await FileLock.TakeAsync(Path.Combine(folder, "locks", digest.Hex[..2]), shared: false, cancellationToken);
        if (await TryOpenAsync(digest, cancellationToken) is { } meanwhile)
        {
            return meanwhile;
        }

        await MakeRoomAsync(length);
        Directory.CreateDirectory(Temporary);
        DiskSpace.Require(folder, length, "a file of an artifact");
        var temporary = Path.Combine(Temporary, Guid.CreateVersion7().ToString("N"));
        try
        {
            await using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Delete))
            {
                await fetch(stream, cancellationToken);
            }

            return Keep(temporary, digest);
        }
        catch (IOException e) when (DiskSpace.IsFull(e))
        {
            throw DiskSpace.Full(folder, length, "a file of an artifact", e);
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    /// <summary>Takes up a blob that was made here, as a link to its file; where that is not possible it does nothing.</summary>
    public async Task AddAsync(BlobFile file)
    {
        if (file.Length > maxBytes || File.Exists(PathOf(file.Digest)))
        {
            return;
        }

        await MakeRoomAsync(file.Length);
        Directory.CreateDirectory(Temporary);
        var temporary = Path.Combine(Temporary, Guid.CreateVersion7().ToString("N"));
        if (ArtifactFolder.TryLink(file.Path, temporary))
        {
            await using var kept = Keep(temporary, file.Digest);
        }
    }

    /// <summary>Deletes until <paramref name="neededBytes"/> more fit, and what killed writers left.</summary>
    private Task MakeRoomAsync(long neededBytes) => Task.Run(() =>
    {
        var blobs = Path.Combine(folder, "sha256");
        var files = Directory.Exists(blobs) ? new DirectoryInfo(blobs).EnumerateFiles("*", SearchOption.AllDirectories).ToList() : [];
        var over = files.Sum(f => f.Length) + neededBytes - maxBytes;
        foreach (var file in files.OrderBy(f => f.LastWriteTimeUtc))
        {
            if (over <= 0)
            {
                break;
            }

            if (TryDelete(file.FullName))
            {
                over -= file.Length;
            }
        }
    });

    private async Task<FileStream?> TryOpenAsync(Digest digest, CancellationToken cancellationToken)
    {
        var path = PathOf(digest);
        FileStream stream;
        try
        {
            stream = Open(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }

        if (await Digest.OfStreamAsync(stream, cancellationToken) == digest)
        {
            File.SetLastWriteTimeUtc(path, TimeProvider.System.GetUtcNow().UtcDateTime);
            stream.Position = 0;
            return stream;
        }

        await stream.DisposeAsync();
        File.Delete(path);
        return null;
    }

    private FileStream Keep(string temporary, Digest digest)
    {
        var path = PathOf(digest);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        ArtifactFolder.MakeReadOnly(temporary);

        // Open before it has its name: nobody can delete it in between.
        using var held = Open(temporary);
        File.Move(temporary, path, overwrite: true);
        return Open(path);
    }

    private static FileStream Open(string path) => new(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);

    private static bool TryDelete(string path)
    {
        try
        {
            using var alone = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.None);
            File.Delete(path);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private string PathOf(Digest digest) => Path.Combine(folder, "sha256", digest.Hex[..2], digest.Hex);
}
