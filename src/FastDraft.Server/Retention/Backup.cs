using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Storage.FileSystem;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Retention;

/// <param name="HasDatabase">False: the database is copied by its own tools.</param>
public sealed record BackupReport(string Folder, bool HasDatabase, int NumArtifacts, long SizeBytes);

/// <summary>
/// Copies a pipeline into a folder that is a data folder itself, while runs go on. The database comes first: whatever its copy names
/// was put before it was named, and nothing leaves the store while garbage collection is held off. What is committed after the copy
/// of the database is not in the backup.
/// </summary>
public static class Backup
{
    private static readonly TimeSpan RenewEvery = TimeSpan.FromMinutes(5);

    /// <param name="folder">Must be empty or not there.</param>
    /// <exception cref="StageFailureException">The folder cannot be made or is not empty, a collection is at work, an artifact is missing or damaged, or the disk is full.</exception>
    public static async Task<BackupReport> WriteAsync(PipelineStore store, string folder, CancellationToken ct)
    {
        folder = Made(folder);
        if (Directory.EnumerateFileSystemEntries(folder).Any())
        {
            throw new StageFailureException(FailureKind.Config, $"'{folder}' is not empty; a backup is written into a folder of its own.", "a new folder");
        }

        await using var held = await Collector.HoldOffAsync(store, "a backup was written", RenewEvery, ct);
        var hasDatabase = await store.Database.TryCopyAsync(folder, ct);
        await using var db = hasDatabase ? PipelineDatabase.Of(null, folder).Open() : store.Open();
        var artifacts = await db.Artifacts.AsNoTracking().Where(a => !db.Blobs.Any(b => b.Digest == a.Digest && b.CollectionId != null)).ToListAsync(ct);
        var copy = new FileSystemArtifactStore(Path.Combine(folder, "cas"));
        foreach (var artifact in artifacts)
        {
            var scratch = Path.Combine(folder, "scratch", Guid.CreateVersion7().ToString("N"));
            try
            {
                // Read against its digests on the way out, and hashed again on the way in.
                await store.Artifacts.MaterializeAsync(Digest.Parse(artifact.Digest), scratch, ct);
                await copy.PutFolderAsync(artifact.Kind, scratch, ct);
            }
            finally
            {
                if (Directory.Exists(scratch))
                {
                    Directory.Delete(scratch, recursive: true);
                }
            }
        }

        return new BackupReport(folder, hasDatabase, artifacts.Count, artifacts.Sum(a => a.SizeBytes));
    }

    /// <returns>The folder's absolute path; it is there now.</returns>
    private static string Made(string folder)
    {
        try
        {
            return Directory.CreateDirectory(Path.GetFullPath(folder)).FullName;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new StageFailureException(FailureKind.Resource, $"A backup cannot be written into '{folder}': {e.Message}", "a new folder where this user may write", e);
        }
    }
}
