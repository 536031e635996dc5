using System.Data;
using System.Diagnostics;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Removes what nobody can need any more. Folders are judged and moved aside inside a write transaction: no attempt of any host
/// can start, and none can find a folder that was judged dead, before the move is done.
/// </summary>
internal sealed class Sweeper(PipelineStore store, LeaseOwner owner)
{
    // A stage that failed or was cancelled may be retried and then goes on from its checkpoint; not for ever.
    private static readonly TimeSpan KeepCheckpoints = TimeSpan.FromDays(30);

    private string Trash => Path.Combine(store.DataFolder, "trash");

    public async Task SweepAsync(CancellationToken ct)
    {
        try
        {
            await MoveDeadFoldersAsync(ct);
            foreach (var folder in Folders(Trash))
            {
                Directory.Delete(folder, recursive: true);
            }

            await store.Artifacts.CollectAsync(ReferencedAsync, ct);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or OperationCanceledException || Database.IsTrouble(e))
        {
            // Another host may be deleting the same; what is left is found by the next.
            Trace.TraceInformation(e.Message);
        }
    }

    private async Task MoveDeadFoldersAsync(CancellationToken ct)
    {
        await using var db = store.Open();
        await using var transaction = await db.Database.BeginTransactionAsync(IsolationLevel.Serializable, ct);
        var attempts = (await db.Attempts.Where(a => a.State == StageRunState.Running).Select(a => a.Id).ToListAsync(ct)).ToHashSet();
        var keys = (await db.StageRuns.Where(s => s.KeyDigest != null).Select(s => new { s.KeyDigest, s.State }).Distinct().ToListAsync(ct)).ToLookup(s => s.KeyDigest!, s => s.State);
        var artifacts = (await db.Artifacts.Select(a => a.Digest).ToListAsync(ct)).ToHashSet();
        var owners = (await db.StageRuns.Where(s => s.LeaseOwner != null).Select(s => s.LeaseOwner!).Distinct().ToListAsync(ct)).ToHashSet();

        MoveWhere("scratch", (name, _) => Guid.TryParseExact(name, "N", out var attempt) && !attempts.Contains(attempt));
        MoveWhere("resume", (name, folder) => Digest.TryParse("sha256:" + name, out var key) && IsDead(keys[key.ToString()], folder));
        MoveWhere("reports", (name, _) => Digest.TryParse("sha256:" + name, out var report) && !artifacts.Contains(report.ToString()));
        owner.Sweep(owners);
    }

    private static bool IsDead(IEnumerable<StageRunState> states, string folder) =>
        states.All(RunStateMachine.IsTerminal)
        && (states.Contains(StageRunState.Succeeded) || TimeProvider.System.GetUtcNow() - Directory.GetLastWriteTimeUtc(folder) > KeepCheckpoints);

    private void MoveWhere(string parent, Func<string, string, bool> isDead)
    {
        foreach (var folder in Folders(Path.Combine(store.DataFolder, parent)).Where(f => isDead(Path.GetFileName(f), f)))
        {
            Directory.CreateDirectory(Trash);
            Directory.Move(folder, Path.Combine(Trash, Guid.CreateVersion7().ToString("N")));
        }
    }

    private async Task<IReadOnlyList<Digest>> ReferencedAsync()
    {
        await using var db = store.Open();
        var digests = await db.Artifacts.Select(a => a.Digest).Union(db.Ports.Where(p => !p.External).Select(p => p.Digest)).ToListAsync();
        return [.. digests.Select(Digest.Parse)];
    }

    private static List<string> Folders(string parent) => Directory.Exists(parent) ? [.. Directory.EnumerateDirectories(parent)] : [];
}
