using System.Diagnostics;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server.Worker;
using FastDraft.Storage;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Removes what nobody can need any more from the data folder of this host, which other hosts of the machine may share. A folder is moved
/// aside first, so that nobody finds it half deleted.
/// </summary>
internal sealed class Sweeper(PipelineStore store, LeaseOwner owner, TimeProvider clock)
{
    /// <summary>A host may live for months, and beside it others die.</summary>
    internal static readonly TimeSpan Every = TimeSpan.FromHours(1);

    // A stage that failed or was cancelled may be retried and then goes on from its checkpoint; not for ever.
    private static readonly TimeSpan KeepCheckpoints = TimeSpan.FromDays(30);

    private static readonly TimeSpan KeepLogs = TimeSpan.FromDays(90);

    private string Trash => Path.Combine(store.DataFolder, "trash");

    private readonly TaskCompletionSource swept = new();

    /// <summary>Completes when it has swept for the first time.</summary>
    public Task Swept => swept.Task;

    public async Task RunAsync(CancellationToken stop)
    {
        using var timer = new PeriodicTimer(Every, clock);
        try
        {
            do
            {
                await SweepAsync(stop);
                swept.TrySetResult();
            }
            while (await timer.WaitForNextTickAsync(stop));
        }
        catch (OperationCanceledException)
        {
            // The host ends.
            swept.TrySetResult();
        }
    }

    private async Task SweepAsync(CancellationToken ct)
    {
        await EachAsync(() => MoveDeadFoldersAsync(ct));
        await EachAsync(() => EmptyTrashAsync(ct));
        await EachAsync(() => DeleteOldLogsAsync(ct));
    }

    /// <summary>One thing that cannot be removed keeps nothing else: another host deletes the same, or a row cannot be read. What is left is found the next time.</summary>
    private static async Task EachAsync(Func<Task> act)
    {
        try
        {
            await act();
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            Trace.TraceWarning("Sweep: " + e.Message);
        }
    }

    private async Task EmptyTrashAsync(CancellationToken ct)
    {
        foreach (var folder in Folders(Trash))
        {
            await EachAsync(() => Task.Run(() => Directory.Delete(folder, recursive: true), ct));
        }
    }

    /// <summary>Lines that are old, and those of runs that were deleted from the lists.</summary>
    private async Task DeleteOldLogsAsync(CancellationToken ct)
    {
        await using var db = store.Open();
        var before = (clock.GetUtcNow() - KeepLogs).ToUnixTimeMilliseconds();
        var unlisted = from a in db.Attempts join s in db.StageRuns on a.StageRunId equals s.Id join r in db.Runs on s.RunId equals r.Id where r.DeletedAt != null select a.Id;
        await db.AttemptLog.Where(l => l.At < before || unlisted.Contains(l.AttemptId)).ExecuteDeleteAsync(ct);
    }

    private async Task MoveDeadFoldersAsync(CancellationToken ct)
    {
        // First what is there and then what the tables say of it: a folder appears after its row.
        var (scratch, resume, reports) = (FoldersOf("scratch"), FoldersOf("resume"), FoldersOf("reports"));
        await using var db = store.Open();
        var attempts = (await db.Attempts.Where(a => a.State == StageRunState.Running).Select(a => a.Id).ToListAsync(ct)).ToHashSet();
        var artifacts = (await db.Artifacts.Select(a => a.Digest).ToListAsync(ct)).ToHashSet();
        scratch.Where(f => Guid.TryParseExact(Path.GetFileName(f), "N", out var attempt) && !attempts.Contains(attempt)).ToList().ForEach(MoveAside);
        reports.Where(f => Digest.TryParse("sha256:" + Path.GetFileName(f), out var report) && !artifacts.Contains(report.ToString())).ToList().ForEach(MoveAside);
        foreach (var folder in resume)
        {
            await EachAsync(() => MoveDeadResumeAsync(db, folder, ct));
        }

        owner.Sweep((await db.StageRuns.Where(s => s.LeaseOwner != null).Select(s => s.LeaseOwner!).Distinct().ToListAsync(ct)).ToHashSet());
    }

    private async Task MoveDeadResumeAsync(PipelineDbContext db, string folder, CancellationToken ct)
    {
        if (Digest.TryParse("sha256:" + Path.GetFileName(folder), out var key) && await IsDeadAsync(db, key, folder, ct))
        {
            // Its writer holds this lock. Once it is ours, nobody has gone on there since the tables were asked, or they say so now.
            using var alone = FileLock.TryTake(Path.Combine(folder, WorkerProgram.ResumeLock));
            if (alone is not null && await IsDeadAsync(db, key, folder, ct))
            {
                MoveAside(folder);
            }
        }
    }

    private async Task<bool> IsDeadAsync(PipelineDbContext db, Digest key, string folder, CancellationToken ct)
    {
        var text = key.ToString();
        var states = await db.StageRuns.Where(s => s.KeyDigest == text).Select(s => s.State).Distinct().ToListAsync(ct);
        return states.All(RunStateMachine.IsTerminal)
            && (states.Contains(StageRunState.Succeeded) || clock.GetUtcNow() - Directory.GetLastWriteTimeUtc(folder) > KeepCheckpoints);
    }

    private void MoveAside(string folder)
    {
        Directory.CreateDirectory(Trash);
        Directory.Move(folder, Path.Combine(Trash, Guid.CreateVersion7().ToString("N")));
    }

    private List<string> FoldersOf(string parent) => Folders(Path.Combine(store.DataFolder, parent));

    private static List<string> Folders(string parent) => Directory.Exists(parent) ? [.. Directory.EnumerateDirectories(parent)] : [];
}
