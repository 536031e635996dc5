using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Retention;

/// <summary>A blob that the commit is about to reference was condemned after the first put: it may be gone and must be put again.</summary>
internal sealed class CollectedMeanwhileException() : Exception("A blob was collected between its put and its commit.");

/// <summary>
/// What keeps collection away from artifacts that are being committed, without a lock in the store: both sides write the blob's row,
/// so the database puts them in an order. A commit that comes first is seen by the collection; one that comes second is refused here
/// and puts its bytes again.
/// </summary>
internal static class BlobLedger
{
    private const int DigestsOfAQuery = 500;

    private static readonly TimeSpan LookAgain = TimeSpan.FromMilliseconds(200);

    /// <summary>
    /// The last collection that is certainly over. Asked before the first put of an artifact: what any later one condemns may be gone
    /// by the time of the commit.
    /// </summary>
    public static async Task<long> LastOverAsync(PipelineDbContext db, CancellationToken ct)
    {
        // In this order: one that begins in between is later than the newest.
        var newest = await db.Collections.MaxAsync(c => (long?)c.Id, ct) ?? 0;
        return await Alive(db).MinAsync(c => (long?)c.Id, ct) is { } alive && alive <= newest ? alive - 1 : newest;
    }

    /// <summary>Collections that may still delete something.</summary>
    public static IQueryable<CollectionRow> Alive(PipelineDbContext db) => db.Collections.Where(c => c.EndedAt == null && c.ExpiresAt > PipelineDbContext.DatabaseNow());

    /// <summary>
    /// Waits until the collections that are alive now are over, and says as <see cref="LastOverAsync"/> does. Not for those that begin
    /// meanwhile: where collections follow each other without a pause nobody would ever get through.
    /// </summary>
    public static async Task<long> WaitUntilOverAsync(PipelineStore store, CancellationToken ct)
    {
        long? last = null;
        while (true)
        {
            await using (var db = store.Open())
            {
                last ??= await db.Collections.MaxAsync(c => (long?)c.Id, ct) ?? 0;
                if (!await Alive(db).AnyAsync(c => c.Id <= last, ct))
                {
                    return await LastOverAsync(db, ct);
                }
            }

            await Task.Delay(LookAgain, ct);
        }
    }

    /// <summary>Records that an artifact is there, in the transaction that commits it.</summary>
    /// <param name="lastOver">What <see cref="LastOverAsync"/> said before its first put.</param>
    /// <exception cref="CollectedMeanwhileException">Some of it may be gone.</exception>
    public static async Task ReferenceAsync(PipelineDbContext db, Digest artifact, ArtifactManifest manifest, long lastOver, CancellationToken ct)
    {
        var blobs = manifest.Files.GroupBy(f => f.Digest.ToString()).ToDictionary(g => g.Key, g => g.First().SizeBytes);
        foreach (var chunk in blobs.Keys.Append(artifact.ToString()).Distinct().Chunk(DigestsOfAQuery))
        {
            var known = await db.Blobs.Where(b => chunk.Contains(b.Digest)).ToDictionaryAsync(b => b.Digest, ct);
            foreach (var digest in chunk)
            {
                // Two outputs of one stage run may share a blob: its row is in the context already, then.
                var row = known.GetValueOrDefault(digest) ?? db.Blobs.Local.FirstOrDefault(b => b.Digest == digest) ?? db.Blobs.Add(new BlobRow { Digest = digest }).Entity;
                if (row.CollectionId > lastOver)
                {
                    throw new CollectedMeanwhileException();
                }

                row.CollectionId = null;
                row.Version++;
            }
        }

        var id = artifact.ToString();
        if (!await db.ArtifactBlobs.AnyAsync(a => a.ArtifactDigest == id, ct) && !db.ArtifactBlobs.Local.Any(a => a.ArtifactDigest == id))
        {
            db.ArtifactBlobs.AddRange(blobs.Select(b => new ArtifactBlobRow { ArtifactDigest = id, BlobDigest = b.Key, SizeBytes = b.Value }));
        }
    }

    /// <summary>
    /// Records, in the transaction that does so, that artifacts which are there already are used again. False: one of them has been
    /// collected, and the caller has to look again.
    /// </summary>
    public static async Task<bool> ReuseAsync(PipelineDbContext db, IEnumerable<string> artifacts, CancellationToken ct)
    {
        var digests = artifacts.Distinct().ToList();
        var rows = await db.Blobs.Where(b => digests.Contains(b.Digest)).ToListAsync(ct);
        rows.ForEach(r => r.Version++);
        return rows.TrueForAll(r => r.CollectionId is null);
    }
}
