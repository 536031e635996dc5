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

    /// <summary>What is wrong with an artifact, one message for each file; empty when it is good.</summary>
    /// <param name="depth">Whether every byte is read again.</param>
    /// <exception cref="StageFailureException">The store does not answer.</exception>
    Task<IReadOnlyList<string>> VerifyAsync(Digest digest, VerifyDepth depth, CancellationToken cancellationToken);

    /// <summary>
    /// Held from the first put of an artifact until the commit that references it: nothing is collected in between. It ends with its process.
    /// </summary>
    Task<IDisposable> BeginPublishAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Removes the damaged blobs of an artifact, so that nobody reads them again; whole ones, which other artifacts may share, stay.
    /// False, with nothing done, while somebody publishes: putting the same bytes again repairs a blob as well.
    /// </summary>
    Task<bool> EvictAsync(Digest digest, CancellationToken cancellationToken);

    /// <summary>
    /// Deletes every blob that no artifact of <paramref name="referenced"/> needs, and what killed writers left. The number of files deleted.
    /// </summary>
    Task<int> CollectAsync(Func<Task<IReadOnlyList<Digest>>> referenced, CancellationToken cancellationToken);
}

/// <summary>How closely <see cref="IArtifactStore.VerifyAsync"/> looks.</summary>
public enum VerifyDepth
{
    /// <summary>As closely as costs no transfer: on a local disk every byte, over a network that each blob is there with its size.</summary>
    Cheap,

    /// <summary>Every byte.</summary>
    Full,
}
