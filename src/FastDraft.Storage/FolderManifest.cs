using FastDraft.Core.Artifacts;

namespace FastDraft.Storage;

/// <summary>What a folder would be as an artifact, without putting it into a store.</summary>
public static class FolderManifest
{
    /// <exception cref="FastDraft.Core.Stages.StageFailureException">It holds a link.</exception>
    public static async Task<ArtifactManifest> OfAsync(string kind, string folder, CancellationToken cancellationToken)
    {
        var files = new List<ArtifactFile>();
        foreach (var file in ArtifactFolder.Files(folder))
        {
            await using var stream = file.OpenRead();
            files.Add(new ArtifactFile(ArtifactFolder.NameOf(folder, file), stream.Length, await Digest.OfStreamAsync(stream, cancellationToken)));
        }

        return new ArtifactManifest(kind, files);
    }
}
