using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Retention;

/// <param name="Collected">When and why its bytes went; null while they are there.</param>
public sealed record RetentionView(string Digest, PinView? Pin, CollectedView? Collected);

public sealed record PinView(string Reason, string By, DateTimeOffset At);

public sealed record CollectedView(DateTimeOffset At, string Why);

/// <summary>What a person says and asks about the keeping of one artifact.</summary>
public static class Pins
{
    /// <summary>Keeps an artifact whatever the rules say; a second pin replaces the reason of the first.</summary>
    /// <exception cref="StageFailureException">Its bytes are gone already.</exception>
    public static Task PinAsync(PipelineStore store, string digest, string reason, string by, DateTimeOffset now, CancellationToken ct) => store.Database.TransactAsync(async db =>
    {
        // The blob's row is written, too: a collection that is about to condemn it begins again and sees the pin.
        if (!await BlobLedger.ReuseAsync(db, [digest], ct))
        {
            throw new StageFailureException(FailureKind.Data, $"Artifact {digest} has been collected already.", $"fastdraft artifacts show {digest} says how to make it again");
        }

        var row = await db.Pins.FindAsync([digest], ct) ?? db.Pins.Add(new PinRow { ArtifactDigest = digest }).Entity;
        (row.Reason, row.By, row.At) = (reason, by, now.ToUnixTimeMilliseconds());
        db.Remember(new AuditEntry(AuditAction.ArtifactPinned, digest, Details: new JsonObject { ["by"] = by, ["reason"] = reason }));
        return true;
    }, ct);

    /// <summary>False: it was not pinned.</summary>
    public static Task<bool> UnpinAsync(PipelineStore store, string digest, CancellationToken ct) => store.Database.TransactAsync(async db =>
    {
        db.Remember(new AuditEntry(AuditAction.ArtifactUnpinned, digest));
        return await db.Pins.Where(p => p.ArtifactDigest == digest).ExecuteDeleteAsync(ct) > 0;
    }, ct);

    public static async Task<RetentionView> ShowAsync(PipelineStore store, string digest, CancellationToken ct)
    {
        await using var db = store.Open();
        var pin = await db.Pins.AsNoTracking().SingleOrDefaultAsync(p => p.ArtifactDigest == digest, ct);
        var collection = await (from b in db.Blobs join c in db.Collections on b.CollectionId equals c.Id where b.Digest == digest select c).AsNoTracking().SingleOrDefaultAsync(ct);
        return new RetentionView(
            digest,
            pin is null ? null : new PinView(pin.Reason, pin.By, DateTimeOffset.FromUnixTimeMilliseconds(pin.At)),
            collection is null ? null : new CollectedView(DateTimeOffset.FromUnixTimeMilliseconds(collection.StartedAt), collection.Why));
    }
}
