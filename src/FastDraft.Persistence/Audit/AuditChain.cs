using System.Globalization;
using System.Text.Json;
using FastDraft.Core.Artifacts;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Persistence.Audit;

/// <summary>Something wrong with the chain, from one sequence number to another. <paramref name="Kind"/>: edited, removed, inserted, replaced.</summary>
public sealed record AuditFinding(string Kind, long From, long To, string Message);

/// <summary><paramref name="Head"/> is <c>SEQUENCE:HASH</c>: kept elsewhere, it shows later that nothing up to it was rewritten.</summary>
public sealed record AuditVerification(long NumRows, string Head, IReadOnlyList<AuditFinding> Findings)
{
    public bool IsIntact => Findings.Count == 0;
}

/// <summary>
/// The hash chain over audit rows: each row's hash covers its content and the hash before it. Editing, removing or inserting a row
/// shows in the chain; rewriting every row after it as well shows against a head that was noted elsewhere.
/// </summary>
public static class AuditChain
{
    private const int RowsOfARead = 2000;

    /// <summary>What the first row follows.</summary>
    public static string Genesis { get; } = "sha256:" + new string('0', 64);

    /// <summary>SHA-256 over the members in this order, as JSON in UTF-8 without white space.</summary>
    public static string HashOf(AuditRow row)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteNumber("sequence", row.Sequence);
            json.WriteNumber("at", row.At);
            json.WriteString("actor", row.Actor);
            json.WriteString("action", row.Action);
            json.WriteString("objectKind", row.ObjectKind);
            json.WriteString("objectId", row.ObjectId);
            json.WriteString("before", row.Before);
            json.WriteString("after", row.After);
            json.WriteString("details", row.DetailsJson);
            json.WriteString("previousHash", row.PreviousHash);
            json.WriteEndObject();
        }

        return Digest.OfBytes(buffer.ToArray()).ToString();
    }

    /// <summary>Computes the whole chain again.</summary>
    /// <param name="expectedHead">A head that was noted earlier: that row must still be what it was.</param>
    /// <exception cref="FormatException"><paramref name="expectedHead"/> is not SEQUENCE:HASH.</exception>
    public static async Task<AuditVerification> VerifyAsync(DbContextOptions<PipelineDbContext> options, string? expectedHead, CancellationToken ct)
    {
        var expected = expectedHead is null ? ((long Sequence, string Hash)?)null : ParseHead(expectedHead);
        await using var db = new PipelineDbContext(options);

        // The head is read first: rows that are appended meanwhile lie beyond it and belong to the next verification.
        var head = await db.AuditHead.AsNoTracking().SingleOrDefaultAsync(ct);
        var newest = await db.Audit.MaxAsync(r => (long?)r.Sequence, ct) ?? 0;
        var (findings, previous, count) = (new List<AuditFinding>(), new AuditRow { Hash = Genesis }, 0L);
        var noted = (string?)null;
        var upTo = Math.Max(newest, head?.Sequence ?? 0);
        while (previous.Sequence < upTo)
        {
            var rows = await db.Audit.AsNoTracking().Where(r => r.Sequence > previous.Sequence && r.Sequence <= upTo).OrderBy(r => r.Sequence).Take(RowsOfARead).ToListAsync(ct);
            if (rows.Count == 0)
            {
                break;
            }

            foreach (var row in rows)
            {
                Compare(previous, row, findings);
                noted = row.Sequence == expected?.Sequence ? HashOf(row) : noted;
                previous = row;
                count++;
            }
        }

        await EndAsync(db, head, previous, findings, ct);
        if (expected is { } wanted && wanted.Sequence > 0 && noted != wanted.Hash && !findings.Any(f => f.From <= wanted.Sequence && wanted.Sequence <= f.To))
        {
            findings.Add(noted is null
                ? new AuditFinding("removed", previous.Sequence + 1, wanted.Sequence, $"The chain once reached row {wanted.Sequence} and now ends at row {previous.Sequence}.")
                : new AuditFinding("replaced", wanted.Sequence, wanted.Sequence, $"Row {wanted.Sequence} is not the one that was noted: it or rows before it were written anew."));
        }

        return new AuditVerification(count, FormattableString.Invariant($"{previous.Sequence}:{previous.Hash}"), findings);
    }

    private static void Compare(AuditRow previous, AuditRow row, List<AuditFinding> findings)
    {
        if (row.Sequence > previous.Sequence + 1)
        {
            findings.Add(Removed(previous.Sequence + 1, row.Sequence - 1));
        }
        else if (row.PreviousHash != previous.Hash)
        {
            findings.Add(new AuditFinding(
                "replaced", previous.Sequence, row.Sequence, $"Row {row.Sequence} was not written after the row {previous.Sequence} that is here now: one of the two was written anew or inserted."));
        }

        if (HashOf(row) != row.Hash)
        {
            findings.Add(new AuditFinding("edited", row.Sequence, row.Sequence, $"Row {row.Sequence} ({row.Action} {row.ObjectId}) is not what was written."));
        }
    }

    private static async Task EndAsync(PipelineDbContext db, AuditHeadRow? head, AuditRow last, List<AuditFinding> findings, CancellationToken ct)
    {
        if (head is null)
        {
            findings.Add(new AuditFinding("removed", 0, 0, "The row that says where the chain ends is gone."));
            return;
        }

        // Appended between the two reads: the head has moved on to it.
        var moved = last.Sequence > head.Sequence ? await db.AuditHead.AsNoTracking().SingleOrDefaultAsync(ct) ?? head : head;
        if (last.Sequence < head.Sequence)
        {
            findings.Add(Removed(last.Sequence + 1, head.Sequence));
        }
        else if (last.Sequence > moved.Sequence)
        {
            findings.Add(new AuditFinding("inserted", moved.Sequence + 1, last.Sequence, $"{Rows(moved.Sequence + 1, last.Sequence)} inserted: the chain ends at row {moved.Sequence}."));
        }
        else if (last.Sequence == head.Sequence && last.Hash != head.Hash)
        {
            findings.Add(new AuditFinding("replaced", last.Sequence, last.Sequence, $"Row {last.Sequence}, the last one, is not the one that the chain ends with."));
        }
    }

    private static AuditFinding Removed(long from, long to) => new("removed", from, to, $"{Rows(from, to)} removed.");

    private static string Rows(long from, long to) => from == to ? $"Row {from} was" : $"Rows {from} to {to} were";

    private static (long Sequence, string Hash) ParseHead(string text)
    {
        var colon = text.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 && long.TryParse(text[..colon], NumberStyles.None, CultureInfo.InvariantCulture, out var sequence) && Digest.TryParse(text[(colon + 1)..], out _)
            ? (sequence, text[(colon + 1)..])
            : throw new FormatException($"'{text}' is no head of the audit: expected SEQUENCE:sha256:HEX, as a verification prints it.");
    }
}
