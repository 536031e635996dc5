using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Storage;

/// <summary>
/// Where artifacts' bytes are kept: blobs named by the SHA-256 of what they hold, so names never become locations and putting the
/// same bytes twice is harmless. A blob is visible whole or not at all. Every read compares what it read with the name.
/// </summary>
public interface IArtifactStore
{
    /// <summary>Stores every file of <paramref name="source"/> and then the manifest that names them.</summary>
    /// <exception cref="StageFailureException">The disk is full, the folder holds a link, or the store does not answer.</exception>
    Task<(Digest Digest, ArtifactManifest Manifest)> PutFolderAsync(string kind, string source, CancellationToken cancellationToken);

    /// <exception cref="StageFailureException">The manifest is absent or damaged, or the store does not answer.</exception>
    Task<ArtifactManifest> ManifestAsync(Digest digest, CancellationToken cancellationToken);

    /// <summary>Lays the artifact's files out in <paramref name="target"/>, every byte verified; as links where that costs nothing, so they are read only.</summary>
    /// <exception cref="StageFailureException">A file is absent or damaged, the disk is full, or the store does not answer.</exception>
    Task MaterializeAsync(Digest digest, string target, CancellationToken cancellationToken);

    /// <summary>The bytes of one small file of an artifact.</summary>
    /// <param name="path">As the manifest names it.</param>
    /// <exception cref="StageFailureException">It is absent or damaged, or the store does not answer.</exception>
    Task<byte[]> ReadAsync(Digest digest, string path, CancellationToken cancellationToken);

    /// <summary>What is wrong with an artifact; empty when it is good.</summary>
    /// <param name="depth">Whether every byte is read again.</param>
    /// <exception cref="StageFailureException">The store does not answer.</exception>
    Task<IReadOnlyList<BlobDamage>> VerifyAsync(Digest digest, VerifyDepth depth, CancellationToken cancellationToken);

    /// <summary>Every blob that is there, in no order. It ends early with an exception only.</summary>
    IAsyncEnumerable<StoredBlob> ListAsync(CancellationToken cancellationToken);

    /// <summary>Deletes one blob; nothing happens where it is not. Whether it may go is for the caller to know: the store has no references.</summary>
    Task DeleteAsync(Digest blob, CancellationToken cancellationToken);

    /// <summary>Removes what writers that ended left unfinished more than so long ago. How many.</summary>
    Task<int> RemoveAbandonedAsync(TimeSpan age, CancellationToken cancellationToken);
}

/// <param name="Modified">When it was last put.</param>
public sealed record StoredBlob(Digest Digest, long SizeBytes, DateTimeOffset Modified);

/// <param name="Blob">The blob that is missing or has other bytes: a file's, or the manifest's own.</param>
/// <param name="Message">For people, with the file's name.</param>
public sealed record BlobDamage(Digest Blob, bool IsMissing, string Message);

/// <summary>How closely <see cref="IArtifactStore.VerifyAsync"/> looks.</summary>
public enum VerifyDepth
{
    /// <summary>As closely as costs no transfer: on a local disk every byte, over a network that each blob is there with its size.</summary>
    Cheap,

    /// <summary>Every byte.</summary>
    Full,
}
