using System.Runtime.CompilerServices;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Storage.S3;

/// <summary>
/// Blobs as objects <c>prefix/sha256/aa/&lt;hex&gt;</c> of a bucket. An object appears with its last byte or not at all, so what a
/// killed writer leaves is at most an orphan or an unfinished upload that nobody sees. What a node reads or makes it keeps in a cache.
/// </summary>
public sealed class S3ArtifactStore : IArtifactStore, IDisposable
{
    private readonly S3Settings settings;
    private readonly TimeProvider clock;
    private readonly S3Client client;
    private readonly BlobCache cache;

    public S3ArtifactStore(S3Settings settings, string cacheFolder, TimeProvider? clock = null)
    {
        (this.settings, this.clock) = (settings, clock ?? TimeProvider.System);
        client = new S3Client(settings, this.clock);
        cache = new BlobCache(Path.GetFullPath(cacheFolder), settings.CacheBytes);
    }

    public void Dispose() => client.Dispose();

    public async Task<(Digest Digest, ArtifactManifest Manifest)> PutFolderAsync(string kind, string source, CancellationToken cancellationToken)
    {
        var paths = ArtifactFolder.Files(source);
        var files = new ArtifactFile[paths.Count];
        await Parallel.ForAsync(0, files.Length, Parallelism(cancellationToken), async (i, token) =>
        {
            var blob = await PutAsync(paths[i].FullName, token);
            files[i] = new ArtifactFile(ArtifactFolder.NameOf(source, paths[i]), blob.Length, blob.Digest);
        });

        // The manifest comes last: one that is there names blobs that are there.
        var manifest = new ArtifactManifest(kind, files);
        var scratch = Path.GetTempFileName();
        try
        {
            await File.WriteAllBytesAsync(scratch, manifest.ToCanonicalJson(), cancellationToken);
            return ((await PutAsync(scratch, cancellationToken)).Digest, manifest);
        }
        finally
        {
            File.Delete(scratch);
        }
    }

    public async Task<ArtifactManifest> ManifestAsync(Digest digest, CancellationToken cancellationToken)
    {
        try
        {
            await using var stream = await cache.OpenAsync(digest, 0, (target, token) => client.ReadAsync(Key(digest), digest, target, token), cancellationToken);
            return ArtifactManifest.Parse(await BytesAsync(stream, cancellationToken));
        }
        catch (BlobMissingException e)
        {
            throw new StageFailureException(FailureKind.Data, $"Artifact {digest} is not in the store: {e.Message}", "Run the stage that made it again.");
        }
        catch (BlobDamagedException e)
        {
            throw new StageFailureException(FailureKind.Data, $"The manifest of artifact {digest} is damaged: {e.Message}", "Restore the store from a backup or run the stage again.");
        }
    }

    public async Task MaterializeAsync(Digest digest, string target, CancellationToken cancellationToken)
    {
        var manifest = await ManifestAsync(digest, cancellationToken);
        Directory.CreateDirectory(target);
        await Parallel.ForEachAsync(manifest.Files, Parallelism(cancellationToken), async (file, token) =>
        {
            await using var blob = await OpenAsync(digest, file, token);
            ArtifactFolder.LayOut(blob.Name, target, digest, file);
        });
    }

    public async Task<byte[]> ReadAsync(Digest digest, string path, CancellationToken cancellationToken)
    {
        await using var blob = await OpenAsync(digest, ArtifactFolder.Find(await ManifestAsync(digest, cancellationToken), digest, path), cancellationToken);
        return await BytesAsync(blob, cancellationToken);
    }

    public async Task<IReadOnlyList<BlobDamage>> VerifyAsync(Digest digest, VerifyDepth depth, CancellationToken cancellationToken)
    {
        ArtifactManifest manifest;
        try
        {
            // Of the bucket, whatever this node remembers: others have to read it, too.
            if (await client.StatAsync(Key(digest), cancellationToken) is null)
            {
                return [new BlobDamage(digest, IsMissing: true, $"Artifact {digest} is not in the store.")];
            }

            manifest = await ManifestAsync(digest, cancellationToken);
        }
        catch (StageFailureException e) when (e.Kind == FailureKind.Data)
        {
            return [new BlobDamage(digest, IsMissing: false, e.Message)];
        }

        var damaged = new BlobDamage?[manifest.Files.Count];
        await Parallel.ForAsync(0, damaged.Length, Parallelism(cancellationToken), async (i, token) => damaged[i] = await DamageAsync(manifest.Files[i], depth, token));
        return [.. damaged.OfType<BlobDamage>()];
    }

    public async IAsyncEnumerable<StoredBlob> ListAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var item in client.ListAsync(KeyPrefix + "sha256/", cancellationToken))
        {
            // What is not ours by its name is nobody's to judge.
            if (Digest.TryParse("sha256:" + item.Key[(item.Key.LastIndexOf('/') + 1)..], out var digest) && item.Key == Key(digest))
            {
                yield return new StoredBlob(digest, item.Length, item.Modified);
            }
        }
    }

    public Task DeleteAsync(Digest blob, CancellationToken cancellationToken) => client.DeleteAsync(Key(blob), cancellationToken);

    /// <summary>Unfinished uploads: their parts are stored, and nobody sees them.</summary>
    public Task<int> RemoveAbandonedAsync(TimeSpan age, CancellationToken cancellationToken) => client.AbortUploadsAsync(KeyPrefix + "sha256/", clock.GetUtcNow() - age, cancellationToken);

    /// <summary>An address from which anyone who has it can read one file until it expires.</summary>
    public Task<Uri> LinkAsync(ArtifactFile file, TimeSpan valid) => client.LinkAsync(Key(file.Digest), valid);

    /// <summary>How long the server takes to answer, and by how much its clock is ahead of this machine's.</summary>
    public Task<(TimeSpan RoundTrip, TimeSpan Skew)> ProbeAsync(CancellationToken cancellationToken) => client.ProbeAsync(cancellationToken);

    private ParallelOptions Parallelism(CancellationToken cancellationToken) => new() { MaxDegreeOfParallelism = settings.MaxParallel, CancellationToken = cancellationToken };

    private async Task<BlobFile> PutAsync(string path, CancellationToken cancellationToken)
    {
        var blob = await BlobFile.ReadAsync(path, settings.PartBytes, cancellationToken);
        await client.PutAsync(Key(blob.Digest), blob, cancellationToken);
        await cache.AddAsync(blob);
        return blob;
    }

    private async Task<FileStream> OpenAsync(Digest digest, ArtifactFile file, CancellationToken cancellationToken)
    {
        try
        {
            return await cache.OpenAsync(file.Digest, file.SizeBytes, (target, token) => client.ReadAsync(Key(file.Digest), file.Digest, target, token), cancellationToken);
        }
        catch (Exception e) when (e is BlobMissingException or BlobDamagedException)
        {
            throw new StageFailureException(FailureKind.Data, $"Artifact {digest} is damaged in the store: '{file.Path}': {e.Message}", "Retry the run: the stage that made it runs again.");
        }
    }

    private async Task<BlobDamage?> DamageAsync(ArtifactFile file, VerifyDepth depth, CancellationToken cancellationToken)
    {
        try
        {
            if (depth == VerifyDepth.Full)
            {
                await client.ReadAsync(Key(file.Digest), file.Digest, Stream.Null, cancellationToken);
            }
            else if ((await client.StatAsync(Key(file.Digest), cancellationToken) ?? throw new BlobMissingException(file.Path)).Length is var length && length != file.SizeBytes)
            {
                return new BlobDamage(file.Digest, IsMissing: false, $"'{file.Path}' is damaged: it has {length} bytes instead of {file.SizeBytes}.");
            }

            return null;
        }
        catch (BlobMissingException)
        {
            return new BlobDamage(file.Digest, IsMissing: true, $"'{file.Path}' is missing.");
        }
        catch (BlobDamagedException e)
        {
            return new BlobDamage(file.Digest, IsMissing: false, $"'{file.Path}' is damaged: {e.Message}");
        }
    }

    private string KeyPrefix => settings.Prefix.Length == 0 ? "" : settings.Prefix + "/";

    private string Key(Digest digest) => $"{KeyPrefix}sha256/{digest.Hex[..2]}/{digest.Hex}";

    private static async Task<byte[]> BytesAsync(FileStream stream, CancellationToken cancellationToken)
    {
        var bytes = new byte[stream.Length];
        await stream.ReadExactlyAsync(bytes, cancellationToken);
        return bytes;
    }
}
