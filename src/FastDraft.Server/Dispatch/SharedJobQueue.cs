using System.Diagnostics;
using System.Globalization;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using Hangfire.PostgreSql;
using Hangfire.PostgreSql.Factories;
using Hangfire.States;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Queues in the database, one for each accelerator: any host that has it takes from its queue. A stage run stands in line once, whichever
/// host put it there; where its job was lost (a host died with it, the database crashed while it was taken) it is put there again.
/// </summary>
internal sealed class SharedJobQueue(PipelineStore store, IReadOnlyList<string> accelerators) : JobQueue(StorageOf(store.Database.ConnectionString!))
{
    /// <summary>After so long it is looked whether the job of a stage run still stands in line.</summary>
    private const long LookAgainMs = 10_000;

    public override void Start(PipelineHost host, PipelineOptions options)
    {
        // A server takes from the first of its queues that is not empty, so each accelerator has its own.
        foreach (var accelerator in accelerators)
        {
            Serve(host, accelerator, Math.Max(1, options.MaxParallelStages));
        }

        // The ticks of schedules.
        Serve(host, EnqueuedState.DefaultQueue, 1);
    }

    public override async Task<IReadOnlyList<StageRunRow>> ClaimAsync(IReadOnlyList<StageRunRow> queued, CancellationToken ct)
    {
        var ids = queued.Select(r => r.Id).Where(id => !Has(id)).ToArray();
        if (ids.Length == 0)
        {
            return [];
        }

        await using var db = store.Open();

        // One statement for all of them. A row that somebody is changing in this moment is left out: whoever waits for many rows while he
        // holds others may wait for ever.
        var claimed = await db.Database.SqlQuery<Claim>($"""
            UPDATE stage_runs SET "EnqueuedAt" = EXTRACT(EPOCH FROM clock_timestamp()) * 1000 WHERE "Id" IN (
                SELECT "Id" FROM stage_runs
                WHERE "Id" = ANY({ids}) AND "State" = {nameof(StageRunState.Queued)}
                    AND ("EnqueuedAt" IS NULL OR "EnqueuedAt" < EXTRACT(EPOCH FROM clock_timestamp()) * 1000 - {LookAgainMs})
                FOR UPDATE SKIP LOCKED)
            RETURNING "Id", "JobId"
            """).ToListAsync(ct);
        var inLine = await InLineAsync(db, [.. claimed.Select(c => JobOf(c.JobId)).OfType<long>()], ct);
        var missing = claimed.Where(c => JobOf(c.JobId) is not { } job || !inLine.Contains(job)).Select(c => c.Id).ToHashSet();
        return [.. queued.Where(r => missing.Contains(r.Id))];
    }

    public override bool TryBegin(Guid stageRun) => Here.TryAdd(stageRun, 0);

    public override async Task EnqueueAsync(StageRunRow row, CancellationToken ct)
    {
        var job = Enqueue(row.Id, AcceleratorOf(row));
        await using var db = store.Open();
        await db.StageRuns.Where(s => s.Id == row.Id && s.State == StageRunState.Queued).ExecuteUpdateAsync(u => u.SetProperty(s => s.JobId, job), ct);
    }

    public override async Task ReleaseAsync(Guid stageRun)
    {
        Here.TryRemove(stageRun, out _);
        try
        {
            // Its job is gone and it is queued: another with its key works, or it is tried again.
            await using var db = store.Open();
            await db.StageRuns.Where(s => s.Id == stageRun && s.State == StageRunState.Queued)
                .ExecuteUpdateAsync(u => u.SetProperty(s => s.EnqueuedAt, (long?)null).SetProperty(s => s.JobId, (string?)null));
        }
        catch (Exception e) when (PipelineDatabase.IsTrouble(e))
        {
            // The next look finds that its job is not in line.
            Trace.TraceWarning(e.Message);
        }
    }

    /// <summary>
    /// Asks the queue itself, for what Hangfire says of a job's state outlives its place in the queue. A job that somebody took while its stage
    /// run is still queued is no longer counted upon: whoever took it may be gone, or may have lost the database at that moment and keep it for
    /// ever. Should it begin all the same, the lease decides between the two.
    /// </summary>
    private static async Task<HashSet<long>> InLineAsync(PipelineDbContext db, long[] jobs, CancellationToken ct) => jobs.Length == 0 ? []
        : [.. await db.Database.SqlQuery<long>($"SELECT jobid AS \"Value\" FROM hangfire.jobqueue WHERE jobid = ANY({jobs}) AND fetchedat IS NULL").ToListAsync(ct)];

    private static long? JobOf(string? id) => long.TryParse(id, NumberStyles.None, CultureInfo.InvariantCulture, out var job) ? job : null;

    private static PostgreSqlStorage StorageOf(string connectionString)
    {
        var options = new PostgreSqlStorageOptions
        {
            SchemaName = "hangfire",
            PrepareSchemaIfNecessary = true,

            // A stage may work for days; its job stays invisible while its host renews it, and comes back when that host is gone.
            UseSlidingInvisibilityTimeout = true,
            InvisibilityTimeout = TimeSpan.FromMinutes(5),
            EnableLongPolling = false,
            QueuePollInterval = TimeSpan.FromMilliseconds(500),
        };
        return new PostgreSqlStorage(new NpgsqlConnectionFactory(connectionString, options), options);
    }

    private sealed record Claim(Guid Id, string? JobId);
}
