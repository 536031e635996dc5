using System.Data.Common;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;

namespace FastDraft.Persistence.Audit;

/// <summary>
/// Writes what a transaction did as its last statements: an act and its row are committed together or not at all. Last, because every
/// other writer of the audit waits from the first of them to the commit, and because who holds the head never waits for another row,
/// so two hosts cannot hold one another up for ever.
/// </summary>
internal sealed class AuditOnCommit : DbTransactionInterceptor
{
    private static readonly JsonSerializerOptions Plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private AuditOnCommit()
    {
    }

    public static AuditOnCommit Instance { get; } = new();

    public override InterceptionResult TransactionCommitting(DbTransaction transaction, TransactionEventData eventData, InterceptionResult result) =>
        eventData.Context is PipelineDbContext { Acts.Count: > 0 }
            ? throw new NotSupportedException("A transaction with an audit row is committed asynchronously.")
            : result;

    public override async ValueTask<InterceptionResult> TransactionCommittingAsync(
        DbTransaction transaction, TransactionEventData eventData, InterceptionResult result, CancellationToken cancellationToken = default)
    {
        if (eventData.Context is PipelineDbContext { Acts.Count: > 0 } db)
        {
            // Those of a transaction that was rolled back did not happen.
            foreach (var (_, entry) in db.Acts.Where(a => a.Transaction == eventData.TransactionId).ToList())
            {
                await AppendAsync(db, entry, cancellationToken);
            }

            db.Acts.Clear();
        }

        return result;
    }

    private static async Task AppendAsync(PipelineDbContext db, AuditEntry entry, CancellationToken ct)
    {
        // Taking the number locks the head's row until the commit; a rollback gives the number back.
        if (await db.AuditHead.ExecuteUpdateAsync(u => u.SetProperty(h => h.Sequence, h => h.Sequence + 1).SetProperty(h => h.At, h => PipelineDbContext.DatabaseNow()), ct) != 1)
        {
            throw new InvalidOperationException("The head of the audit is gone: fastdraft audit verify says what is left.");
        }

        var head = await db.AuditHead.AsNoTracking().SingleAsync(ct);
        var row = new AuditRow
        {
            Sequence = head.Sequence, At = head.At, Actor = StorableText.Of(entry.By!), Action = entry.Action, ObjectKind = entry.Action[..entry.Action.IndexOf('.', StringComparison.Ordinal)],
            ObjectId = StorableText.Of(entry.ObjectId), Before = entry.Before, After = entry.After, DetailsJson = StorableText.Of((entry.Details ?? []).ToJsonString(Plain)), PreviousHash = head.Hash,
        };

        // Over what the database keeps, not over what was said.
        row.Hash = AuditChain.HashOf(row);
        db.Audit.Add(row);
        await db.SaveChangesAsync(ct);
        await db.AuditHead.ExecuteUpdateAsync(u => u.SetProperty(h => h.Hash, row.Hash), ct);
    }
}
