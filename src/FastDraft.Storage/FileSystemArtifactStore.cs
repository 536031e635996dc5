using System.Security.Cryptography;
using System.Runtime.InteropServices;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Storage;

/// <summary>
/// Content-addressed blobs at <c>sha256/aa/&lt;hex&gt;</c>. Names never become paths. A blob appears whole (tmp, fsync,
/// rename) and read-only or not at all, so putting the same bytes twice is harmless.
/// </summary>
public sealed partial class FileSystemArtifactStore(string folder)
{
    private const int DiskFullHResult = 28;

    public string Folder { get; } = Path.GetFullPath(folder);

    /// <summary>Stores every file of <paramref name="source"/> and the manifest that names them.</summary>
    /// <exception cref="StageFailureException">The disk is full, or the folder holds a link.</exception>
    public async Task<(Digest Digest, ArtifactManifest Manifest)> PutFolderAsync(string kind, string source, CancellationToken cancellationToken)
    {
        var files = new List<ArtifactFile>();
        foreach (var path in Directory.EnumerateFiles(source, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            if (new FileInfo(path).LinkTarget is not null)
            {
                throw new StageFailureException(FailureKind.Data, $"Output file '{Path.GetFileName(path)}' is a link.", "Write the file itself.");
            }

            var (digest, size) = await PutFileAsync(path, cancellationToken);
            files.Add(new ArtifactFile(Path.GetRelativePath(source, path).Replace('\\', '/'), size, digest));
        }

        var manifest = new ArtifactManifest(kind, files);
        var json = manifest.ToCanonicalJson();
        var manifestDigest = Digest.OfBytes(json);
        using var stream = new MemoryStream(json);
        await PutStreamAsync(stream, cancellationToken);
        return (manifestDigest, manifest);
    }

    /// <exception cref="StageFailureException">The manifest is absent or damaged.</exception>
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

    /// <summary>True when the manifest and every file exist with the right size.</summary>
    public async Task<bool> IsWholeAsync(Digest digest, CancellationToken cancellationToken)
    {
        try
        {
            var manifest = await ManifestAsync(digest, cancellationToken);
            return manifest.Files.All(f => new FileInfo(BlobPath(f.Digest)) is { Exists: true } info && info.Length == f.SizeBytes);
        }
        catch (StageFailureException)
        {
            return false;
        }
    }

    /// <summary>Lays the artifact's files out in <paramref name="target"/>, by hard link where the file system allows it.</summary>
    /// <exception cref="StageFailureException">A file is absent or has the wrong size.</exception>
    public async Task MaterializeAsync(Digest digest, string target, CancellationToken cancellationToken)
    {
        var manifest = await ManifestAsync(digest, cancellationToken);
        var root = Path.GetFullPath(target);
        Directory.CreateDirectory(root);
        foreach (var file in manifest.Files)
        {
            var blob = BlobPath(file.Digest);
            var info = new FileInfo(blob);
            if (!info.Exists || info.Length != file.SizeBytes)
            {
                throw new StageFailureException(FailureKind.Data, $"File '{file.Path}' of artifact {digest} is damaged in the store.", "Run the stage that made it again.");
            }

            var path = Path.GetFullPath(Path.Combine(root, file.Path));
            if (!path.StartsWith(root + Path.DirectorySeparatorChar, StringComparison.Ordinal))
            {
                throw new StageFailureException(FailureKind.Data, $"Artifact {digest} names a file outside its folder: '{file.Path}'.");
            }

            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.Delete(path);
            if (OperatingSystem.IsWindows() || Link(blob, path) != 0)
            {
                File.Copy(blob, path);
            }
        }
    }

    /// <summary>Hashes every file again. One message per damaged file; empty when the artifact is good.</summary>
    public async Task<IReadOnlyList<string>> VerifyAsync(Digest digest, CancellationToken cancellationToken)
    {
        ArtifactManifest manifest;
        try
        {
            manifest = await ManifestAsync(digest, cancellationToken);
        }
        catch (StageFailureException e)
        {
            return [e.Message];
        }

        var damaged = new List<string>();
        foreach (var file in manifest.Files)
        {
            var path = BlobPath(file.Digest);
            if (!File.Exists(path))
            {
                damaged.Add($"'{file.Path}' is missing.");
                continue;
            }

            await using var stream = File.OpenRead(path);
            var actual = await Digest.OfStreamAsync(stream, cancellationToken);
            if (actual != file.Digest)
            {
                damaged.Add($"'{file.Path}' is damaged: expected {file.Digest}, found {actual}.");
            }
        }

        return damaged;
    }

    /// <summary>Where a blob lies. The digest is parsed, so the path cannot leave the store.</summary>
    public string BlobPath(Digest digest) => Path.Combine(Folder, "sha256", digest.Hex[..2], digest.Hex);

    private async Task<(Digest Digest, long Size)> PutFileAsync(string path, CancellationToken cancellationToken)
    {
        await using var stream = File.OpenRead(path);
        return await PutStreamAsync(stream, cancellationToken);
    }

    private async Task<(Digest Digest, long Size)> PutStreamAsync(Stream source, CancellationToken cancellationToken)
    {
        var temporary = Path.Combine(Folder, "tmp", Guid.CreateVersion7().ToString("N"));
        Directory.CreateDirectory(Path.GetDirectoryName(temporary)!);
        try
        {
            long size = 0;
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            await using (var target = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write))
            {
                var buffer = new byte[1 << 20];
                int read;
                while ((read = await source.ReadAsync(buffer, cancellationToken)) > 0)
                {
                    hash.AppendData(buffer, 0, read);
                    await target.WriteAsync(buffer.AsMemory(0, read), cancellationToken);
                    size += read;
                }

                target.Flush(flushToDisk: true);
            }

            var digest = Digest.FromHash(hash.GetHashAndReset());
            var blob = BlobPath(digest);
            Directory.CreateDirectory(Path.GetDirectoryName(blob)!);
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(temporary, UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
            }

            // Replacing also repairs a damaged blob of the same name.
            File.Move(temporary, blob, overwrite: true);
            return (digest, size);
        }
        catch (IOException e) when ((e.HResult & 0xffff) == DiskFullHResult)
        {
            var free = new DriveInfo(Folder).AvailableFreeSpace;
            throw new StageFailureException(
                FailureKind.Resource, $"The disk of the artifact store is full: {source.Length} bytes needed, {free} free.", "Free space and retry the run.", e);
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    [LibraryImport("libc", EntryPoint = "link", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Link(string existing, string created);
}
