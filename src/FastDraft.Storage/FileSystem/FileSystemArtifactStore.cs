using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Storage.FileSystem;

/// <summary>
/// Content-addressed blobs at <c>sha256/aa/&lt;hex&gt;</c>. Names never become paths. A blob appears whole (tmp, fsync, rename,
/// fsync of the folder) and read-only or not at all, so putting the same bytes twice is harmless. What was put and never
/// referenced is an orphan: legal, and collected when it is old.
/// </summary>
public sealed partial class FileSystemArtifactStore(string folder) : IArtifactStore
{
    // A writer locks its temporary file a moment after it made it; until then it only looks abandoned.
    private static readonly TimeSpan Young = TimeSpan.FromMinutes(1);

    public string Folder { get; } = Path.GetFullPath(folder);

    private string TemporaryFolder => Path.Combine(Folder, "tmp");

    public async Task<(Digest Digest, ArtifactManifest Manifest)> PutFolderAsync(string kind, string source, CancellationToken cancellationToken)
    {
        var paths = ArtifactFolder.Files(source);
        Directory.CreateDirectory(TemporaryFolder);
        DiskSpace.Require(Folder, paths.Sum(p => p.Length), $"an artifact of kind {kind}");
        var files = new List<ArtifactFile>();
        var parents = new HashSet<string>();
        foreach (var path in paths)
        {
            await using var stream = path.OpenRead();
            var (digest, size) = await PutAsync(stream, parents, cancellationToken);
            files.Add(new ArtifactFile(ArtifactFolder.NameOf(source, path), size, digest));
        }

        var manifest = new ArtifactManifest(kind, files);
        using var json = new MemoryStream(manifest.ToCanonicalJson());
        var (manifestDigest, _) = await PutAsync(json, parents, cancellationToken);

        // Only now are the new names safe from a power cut; the caller's commit follows.
        foreach (var parent in parents)
        {
            SyncFolder(parent);
        }

        return (manifestDigest, manifest);
    }

    public async Task<ArtifactManifest> ManifestAsync(Digest digest, CancellationToken cancellationToken)
    {
        var path = BlobPath(digest);
        if (!File.Exists(path))
        {
            throw new StageFailureException(FailureKind.Data, $"Artifact {digest} is not in the store.", "Run the stage that made it again.");
        }

        var bytes = await File.ReadAllBytesAsync(path, cancellationToken);
        return Digest.OfBytes(bytes) == digest
            ? ArtifactManifest.Parse(bytes)
            : throw new StageFailureException(FailureKind.Data, $"The manifest of artifact {digest} is damaged.", "Restore the store from a backup or run the stage again.");
    }

    public async Task MaterializeAsync(Digest digest, string target, CancellationToken cancellationToken)
    {
        var manifest = await ManifestAsync(digest, cancellationToken);
        Directory.CreateDirectory(target);
        foreach (var file in manifest.Files)
        {
            await RequireWholeAsync(digest, file, cancellationToken);
            ArtifactFolder.LayOut(BlobPath(file.Digest), target, digest, file);
        }
    }

    public async Task<byte[]> ReadAsync(Digest digest, string path, CancellationToken cancellationToken)
    {
        var file = ArtifactFolder.Find(await ManifestAsync(digest, cancellationToken), digest, path);
        await RequireWholeAsync(digest, file, cancellationToken);
        return await File.ReadAllBytesAsync(BlobPath(file.Digest), cancellationToken);
    }

    /// <summary>The bytes of a file of any size, all of them verified before the first is given out.</summary>
    /// <exception cref="StageFailureException">It is absent or damaged.</exception>
    public async Task<Stream> OpenAsync(Digest digest, ArtifactFile file, CancellationToken cancellationToken)
    {
        await RequireWholeAsync(digest, file, cancellationToken);
        return File.OpenRead(BlobPath(file.Digest));
    }

    /// <summary>Hashes every file again, at either depth.</summary>
    public async Task<IReadOnlyList<BlobDamage>> VerifyAsync(Digest digest, VerifyDepth depth, CancellationToken cancellationToken)
    {
        ArtifactManifest manifest;
        try
        {
            manifest = await ManifestAsync(digest, cancellationToken);
        }
        catch (StageFailureException e)
        {
            return [new BlobDamage(digest, !File.Exists(BlobPath(digest)), e.Message)];
        }

        var damaged = new List<BlobDamage>();
        foreach (var file in manifest.Files)
        {
            if (await DamageAsync(file, cancellationToken) is { } damage)
            {
                damaged.Add(damage);
            }
        }

        return damaged;
    }

    public async IAsyncEnumerable<StoredBlob> ListAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await Task.CompletedTask;
        var blobs = new DirectoryInfo(Path.Combine(Folder, "sha256"));
        foreach (var file in blobs.Exists ? blobs.EnumerateFiles("*", SearchOption.AllDirectories) : [])
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (Digest.TryParse("sha256:" + file.Name, out var digest))
            {
                yield return new StoredBlob(digest, file.Length, new DateTimeOffset(file.LastWriteTimeUtc, TimeSpan.Zero));
            }
        }
    }

    public Task DeleteAsync(Digest blob, CancellationToken cancellationToken)
    {
        if (File.Exists(BlobPath(blob)))
        {
            File.Delete(BlobPath(blob));
        }

        return Task.CompletedTask;
    }

    /// <summary>A writer keeps its temporary file open, and so locked, until it has its final name.</summary>
    public Task<int> RemoveAbandonedAsync(TimeSpan age, CancellationToken cancellationToken)
    {
        var removed = 0;
        foreach (var path in Directory.Exists(TemporaryFolder) ? Directory.EnumerateFiles(TemporaryFolder) : [])
        {
            using var dead = TimeProvider.System.GetUtcNow() - File.GetLastWriteTimeUtc(path) > (age > Young ? age : Young) ? FileLock.TryTake(path) : null;
            if (dead is not null)
            {
                File.Delete(path);
                removed++;
            }
        }

        return Task.FromResult(removed);
    }

    /// <summary>Where a blob lies. The digest is parsed, so the path cannot leave the store.</summary>
    public string BlobPath(Digest digest) => Path.Combine(Folder, "sha256", digest.Hex[..2], digest.Hex);

    private async Task RequireWholeAsync(Digest digest, ArtifactFile file, CancellationToken cancellationToken)
    {
        if (await DamageAsync(file, cancellationToken) is { } damage)
        {
            throw new StageFailureException(FailureKind.Data, $"Artifact {digest} is damaged in the store: {damage.Message}", "Retry the run: the stage that made it runs again.");
        }
    }

    /// <summary>What is wrong with a stored file; null when its bytes are those of its digest.</summary>
    private async Task<BlobDamage?> DamageAsync(ArtifactFile file, CancellationToken cancellationToken)
    {
        try
        {
            await using var stream = File.OpenRead(BlobPath(file.Digest));
            var actual = await Digest.OfStreamAsync(stream, cancellationToken);
            return actual == file.Digest ? null : new BlobDamage(file.Digest, IsMissing: false, $"'{file.Path}' is damaged: expected {file.Digest}, found {actual}.");
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return new BlobDamage(file.Digest, IsMissing: true, $"'{file.Path}' is missing.");
        }
    }

    private async Task<(Digest Digest, long Size)> PutAsync(Stream source, HashSet<string> parents, CancellationToken cancellationToken)
    {
        var temporary = Path.Combine(TemporaryFolder, Guid.CreateVersion7().ToString("N"));
        try
        {
            long size = 0;
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            await using var target = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.Delete);
            var buffer = new byte[1 << 20];
            int read;
            while ((read = await source.ReadAsync(buffer, cancellationToken)) > 0)
            {
                hash.AppendData(buffer, 0, read);
                await target.WriteAsync(buffer.AsMemory(0, read), cancellationToken);
                size += read;
            }

            target.Flush(flushToDisk: true);
            var digest = Digest.FromHash(hash.GetHashAndReset());
            var blob = BlobPath(digest);
            var parent = Path.GetDirectoryName(blob)!;
            Directory.CreateDirectory(parent);
            ArtifactFolder.MakeReadOnly(temporary);

            // Replacing also repairs a damaged blob of the same name.
            File.Move(temporary, blob, overwrite: true);
            parents.Add(parent);
            return (digest, size);
        }
        catch (IOException e) when (DiskSpace.IsFull(e))
        {
            throw DiskSpace.Full(Folder, source.Length, "a file of an artifact", e);
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    /// <summary>Makes the names in a folder durable; a file system that cannot do it for folders does it by itself.</summary>
    private static void SyncFolder(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        var descriptor = Open(path, 0);
        if (descriptor >= 0)
        {
            _ = Sync(descriptor);
            _ = Close(descriptor);
        }
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync")]
    private static partial int Sync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}
