using System.Text.Json.Nodes;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Persistence.Audit;

/// <summary>An act to be remembered. <paramref name="By"/>: who did it, where that is not whoever this call acts for.</summary>
/// <param name="Action">One of <see cref="AuditAction"/>.</param>
/// <param name="Before">Digest or version of the object before the act.</param>
public sealed record AuditEntry(string Action, string ObjectId, string? Before = null, string? After = null, JsonObject? Details = null, string? By = null);

/// <summary>An act as it was remembered.</summary>
public sealed record AuditView(
    long Sequence, DateTimeOffset At, string Actor, string Action, string ObjectKind, string ObjectId, string? Before, string? After, JsonNode? Details, string Hash);

/// <summary>Which acts to list. <paramref name="Object"/>: the object's kind, its id, or the beginning of its id.</summary>
/// <param name="Before">Only rows with a smaller sequence number: where the page before ended.</param>
public sealed record AuditFilter(string? Actor = null, string? Action = null, string? Object = null, DateTimeOffset? Since = null, int Limit = 50, long? Before = null);

/// <summary>What the audit holds. Rows come into it by <see cref="PipelineDbContext.Remember"/>.</summary>
public static class AuditLog
{
    /// <summary>The newest acts that fit, the newest first.</summary>
    public static async Task<IReadOnlyList<AuditView>> ListAsync(DbContextOptions<PipelineDbContext> options, AuditFilter filter, CancellationToken ct)
    {
        await using var db = new PipelineDbContext(options);
        var rows = db.Audit.AsNoTracking().Where(r => (filter.Actor == null || r.Actor == filter.Actor) && (filter.Action == null || r.Action == filter.Action));
        if (filter.Object is { } wanted)
        {
            rows = rows.Where(r => r.ObjectKind == wanted || r.ObjectId.StartsWith(wanted));
        }

        if (filter.Since is { } since)
        {
            var from = since.ToUnixTimeMilliseconds();
            rows = rows.Where(r => r.At >= from);
        }

        if (filter.Before is { } before)
        {
            rows = rows.Where(r => r.Sequence < before);
        }

        return [.. (await rows.OrderByDescending(r => r.Sequence).Take(filter.Limit).ToListAsync(ct)).Select(r => new AuditView(
            r.Sequence, DateTimeOffset.FromUnixTimeMilliseconds(r.At), r.Actor, r.Action, r.ObjectKind, r.ObjectId, r.Before, r.After, JsonNode.Parse(r.DetailsJson), r.Hash))];
    }
}
