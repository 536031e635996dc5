using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Caching;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Registry;
using FastDraft.Server.Retention;
using FastDraft.Server.Telemetry;
using FastDraft.Server.Worker;
using FastDraft.Storage;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.Logging;

namespace FastDraft.Server.Dispatch;

/// <param name="ExitCode">Null: the attempt was taken from the stage and says nothing about it; it does not count against the retries.</param>
internal sealed record AttemptOutcome(int? ExitCode, string? Failure, string? Hint, long? PeakRssBytes = null)
{
    public IReadOnlyList<(string Port, Digest Digest, ArtifactManifest Manifest)> Outputs { get; init; } = [];

    /// <summary>The last garbage collection that was over before the first output was put.</summary>
    public long LastOver { get; init; }

    /// <summary>The outcome the stage chose; null is its first.</summary>
    public string? Outcome { get; init; }

    public static AttemptOutcome Of(StageFailureException e) => new(Core.Stages.ExitCode.Of(e.Kind), e.Message, e.Hint);
}

/// <summary>
/// One attempt of a stage run: wins the lease, runs the worker process, stores what it wrote and commits once. Every write
/// carries the lease's epoch, so an attempt whose lease passed to another changes nothing.
/// </summary>
internal sealed class AttemptRunner(PipelineOptions options, PipelineStore store, RunEngine engine, KeyBuilder keys, LeaseOwner owner)
{
    private static readonly TimeSpan CommitAgainAfter = TimeSpan.FromSeconds(1);

    private readonly ConcurrentDictionary<Guid, CancellationTokenSource> running = new();
    private readonly ILogger log = options.Loggers.CreateLogger("FastDraft.Attempts");

    private long Now => options.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>Ends the process tree of an attempt of this host.</summary>
    public async Task StopAsync(Guid stageRunId)
    {
        if (running.TryGetValue(stageRunId, out var source))
        {
            await source.CancelAsync();
        }
    }

    public async Task RunAsync(Guid id, CancellationToken hostStop)
    {
        using var lease = await Lease.TryAcquireAsync(store, options, owner, id, CancellationToken.None);
        if (lease is null)
        {
            return;
        }

        using var about = log.About(lease.StageRun, lease.Attempt);
        log.AttemptBegins(lease.StageRun, lease.Attempt, JobQueue.AcceleratorOf(lease.StageRun));
        Failpoint.Reach(Failpoint.Leased);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(hostStop, lease.Lost);
        running[id] = stop;
        var scratch = store.ScratchFolder(lease.Attempt.Id);
        try
        {
            var outcome = await WorkAsync(lease, scratch, stop.Token);
            if (hostStop.IsCancellationRequested && outcome.ExitCode != ExitCode.Ok)
            {
                outcome = new AttemptOutcome(null, "The host stopped.", null);
            }
            else if (lease.Lost.IsCancellationRequested)
            {
                outcome = Fenced(lease);
            }

            while (!await TryCommitAsync(lease, outcome, hostStop))
            {
                outcome = await PutAgainAsync(outcome, scratch, stop.Token);
            }

            log.AttemptEnded(lease.StageRun, lease.Attempt, outcome.ExitCode, outcome.Failure);
        }
        finally
        {
            await lease.StopRenewingAsync();
            running.TryRemove(id, out _);
            DeleteQuietly(scratch);
        }
    }

    /// <summary>The one commit of an attempt. False when its lease has passed to another, or it has ended already.</summary>
    public async Task<bool> EndAsync(Guid id, long epoch, AttemptOutcome outcome, CancellationToken ct)
    {
        while (true)
        {
            await using var look = store.Open();
            var row = await look.StageRuns.AsNoTracking().SingleAsync(s => s.Id == id, ct);
            if (row.LeaseEpoch != epoch || row.State is not (StageRunState.Running or StageRunState.Cancelling))
            {
                return false;
            }

            try
            {
                if (await TryEndAsync(row, outcome, takenOver: false, ct))
                {
                    return true;
                }

                // The row changed in between, by a cancellation: look again.
            }
            catch (StageFailureException e) when (outcome.ExitCode == ExitCode.Ok)
            {
                // The registry refused the outputs, and nothing of that transaction is left: the attempt ends as one that failed.
                outcome = AttemptOutcome.Of(e) with { PeakRssBytes = outcome.PeakRssBytes };
            }
        }
    }

    /// <summary>
    /// Ends the attempt of a host that is gone. The epoch rises in the same transaction, so that host, should it only have been
    /// stopped, is refused whatever it still wants to write.
    /// </summary>
    public Task<bool> TakeOverAsync(StageRunRow row, CancellationToken ct) =>
        TryEndAsync(row, new AttemptOutcome(null, "The host died while the stage ran.", "more memory or a smaller batchSize, if it was that; then fastdraft runs retry"), takenOver: true, ct);

    private async Task<AttemptOutcome> WorkAsync(Lease lease, string scratch, CancellationToken stop)
    {
        var row = lease.StageRun;
        try
        {
            var stage = options.Stages.FirstOrDefault(s => s.Name == row.Stage)
                ?? throw new StageFailureException(FailureKind.Config, $"This host has no stage '{row.Stage}'.");
            var resume = store.ResumeFolder(Digest.Parse(row.KeyDigest!));
            Directory.CreateDirectory(resume);
            Directory.CreateDirectory(scratch);
            var settings = JsonNode.Parse(row.SettingsJson)!.AsObject();
            var inputs = await MaterializeInputsAsync(row.Id, scratch, stop);
            var folders = stage.Outputs.ToDictionary(o => o.Name, o => Path.Combine(scratch, "out", o.Name));
            var job = new WorkerJob(row.Stage, settings, inputs, folders, scratch, resume, JobQueue.AcceleratorOf(row));
            var jobFile = Path.Combine(scratch, "job.json");
            await File.WriteAllTextAsync(jobFile, JsonSerializer.Serialize(job), stop);
            Failpoint.Reach(Failpoint.InputsReady);
            var result = await RunWorkerAsync(lease, jobFile, resume, stop);
            Failpoint.Reach(Failpoint.WorkerEnded);
            stop.ThrowIfCancellationRequested();
            if (result.ExitCode != ExitCode.Ok)
            {
                return new AttemptOutcome(result.ExitCode, result.Failure ?? Describe(result), result.Hint, result.PeakRssBytes);
            }

            if (result.Outcome is { } outcome && !stage.Outcomes.Contains(outcome))
            {
                throw new StageFailureException(FailureKind.Bug, $"The stage ended with the outcome '{outcome}', which it does not declare.");
            }

            await keys.RequireUnchangedAsync(stage, settings, StageKey.FromJson(row.KeyJson!), stop);
            long lastOver;
            await using (var db = store.Open())
            {
                lastOver = await BlobLedger.LastOverAsync(db, stop);
            }

            var outputs = new List<(string Port, Digest Digest, ArtifactManifest Manifest)>();
            foreach (var output in stage.Outputs)
            {
                if (!Directory.Exists(folders[output.Name]))
                {
                    if (!output.Required)
                    {
                        continue;
                    }

                    throw new StageFailureException(FailureKind.Bug, $"The stage did not write its output '{output.Name}'.");
                }

                var (digest, manifest) = await store.Artifacts.PutFolderAsync(output.Kind, folders[output.Name], stop);
                outputs.Add((output.Name, digest, manifest));
                Failpoint.Reach(Failpoint.OutputStored);
            }

            return new AttemptOutcome(ExitCode.Ok, null, null, result.PeakRssBytes) { Outputs = outputs, LastOver = lastOver, Outcome = result.Outcome };
        }
        catch (StageFailureException e)
        {
            return AttemptOutcome.Of(e);
        }
        catch (OperationCanceledException)
        {
            return new AttemptOutcome(ExitCode.Cancelled, "The attempt was stopped.", null);
        }
        catch (IOException e) when (DiskSpace.IsFull(e))
        {
            return AttemptOutcome.Of(DiskSpace.Full(scratch, null, "the attempt", e));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new AttemptOutcome(ExitCode.Io, e.Message, "Check the data folder's disk.");
        }
        catch (Exception e) when (PipelineDatabase.IsTrouble(e))
        {
            return new AttemptOutcome(null, "The database was away: " + e.Message, null);
        }
        catch (Exception e)
        {
            // Nothing of one stage run may end the host, or come back for ever.
            Trace.TraceError(e.ToString());
            return new AttemptOutcome(ExitCode.Bug, $"{e.GetType().Name}: {e.Message}", null);
        }
    }

    /// <summary>Stores the outputs once more, from the scratch folder, after a collection that may have taken some of them.</summary>
    private async Task<AttemptOutcome> PutAgainAsync(AttemptOutcome outcome, string scratch, CancellationToken stop)
    {
        try
        {
            var lastOver = await BlobLedger.WaitUntilOverAsync(store, stop);
            foreach (var (port, _, manifest) in outcome.Outputs)
            {
                await store.Artifacts.PutFolderAsync(manifest.Kind, Path.Combine(scratch, "out", port), stop);
            }

            return outcome with { LastOver = lastOver };
        }
        catch (StageFailureException e)
        {
            return AttemptOutcome.Of(e);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException || PipelineDatabase.IsTrouble(e))
        {
            return new AttemptOutcome(null, "What it made was collected and could not be stored again: " + e.Message, null);
        }
    }

    private async Task<Dictionary<string, string>> MaterializeInputsAsync(Guid id, string scratch, CancellationToken stop)
    {
        await using var db = store.Open();
        var inputs = new Dictionary<string, string>();
        foreach (var port in await db.Ports.AsNoTracking().Where(p => p.StageRunId == id && !p.IsOutput && !p.External).ToListAsync(stop))
        {
            inputs[port.Port] = Path.Combine(scratch, "in", port.Port);
            var digest = Digest.Parse(port.Digest);
            try
            {
                await store.Artifacts.MaterializeAsync(digest, inputs[port.Port], stop);
            }
            catch (StageFailureException e) when (e.Kind == FailureKind.Data)
            {
                // So that a retry of the run finds it gone and makes it again.
                await new Collector(store, options.Clock).EvictAsync(await store.Artifacts.VerifyAsync(digest, VerifyDepth.Full, stop), stop);
                throw;
            }
        }

        return inputs;
    }

    private async Task<WorkerResult> RunWorkerAsync(Lease lease, string jobFile, string resume, CancellationToken stop)
    {
        using var ended = new CancellationTokenSource();
        var (log, metrics) = (new AttemptLog(store, lease, options.Clock), new AttemptMetrics(store, lease));
        var writing = Task.WhenAll(log.RunAsync(ended.Token), metrics.RunAsync(ended.Token));
        try
        {
            if (lease.Attempt.Number > 1)
            {
                // Checkpoints lie in the data folder of the host that wrote them.
                log.Say(Directory.EnumerateFileSystemEntries(resume).Any(f => Path.GetFileName(f) != WorkerProgram.ResumeLock)
                    ? $"Attempt {lease.Attempt.Number} finds what an earlier one left on {Environment.MachineName} and goes on from there."
                    : $"Attempt {lease.Attempt.Number} begins at the beginning: no checkpoint of an earlier one is on {Environment.MachineName}.");
            }

            return await WorkerProcess.RunAsync(options, jobFile, lease, log.Write, metrics.Add, stop);
        }
        finally
        {
            await ended.CancelAsync();
            await writing;
        }
    }

    /// <summary>
    /// Commits until the database takes it: what the attempt made is stored already and would be lost for nothing. False: some of it
    /// has been collected in between and must be put again.
    /// </summary>
    private async Task<bool> TryCommitAsync(Lease lease, AttemptOutcome outcome, CancellationToken hostStop)
    {
        while (true)
        {
            try
            {
                Failpoint.Reach(Failpoint.BeforeCommit);
                if (await EndAsync(lease.StageRun.Id, lease.Epoch, outcome, CancellationToken.None))
                {
                    Failpoint.Reach(Failpoint.Committed);
                    if (outcome.ExitCode == ExitCode.Ok)
                    {
                        DeleteQuietly(store.ResumeFolder(Digest.Parse(lease.StageRun.KeyDigest!)));
                    }
                }

                return true;
            }
            catch (CollectedMeanwhileException)
            {
                return false;
            }
            catch (Exception e) when (PipelineDatabase.IsTrouble(e) && !hostStop.IsCancellationRequested)
            {
                Trace.TraceWarning($"Commit of {lease.StageRun.Id}: {e.Message}");
                await Task.Delay(CommitAgainAfter, options.Clock, hostStop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    private AttemptOutcome Fenced(Lease lease) => store.Database.IsFull(lease.LastError)
        ? AttemptOutcome.Of(DiskSpace.Full(store.DataFolder, null, "the database", lease.LastError))
        : new AttemptOutcome(null, "The lease could not be renewed: " + (lease.LastError?.Message ?? "another host took over."), null);

    private static string Describe(WorkerResult result)
    {
        var text = result.ExitCode > 128 ? $"The worker was killed by signal {result.ExitCode - 128}" : $"The worker ended with exit code {result.ExitCode}";
        text += result.PeakRssBytes is { } peak ? string.Create(CultureInfo.InvariantCulture, $"; its memory peak was {peak / (1024.0 * 1024):F0} MiB") : "";
        return text + (result.OutOfMemory ? ". The kernel ran out of memory." : ".");
    }

    private async Task<bool> TryEndAsync(StageRunRow row, AttemptOutcome outcome, bool takenOver, CancellationToken ct)
    {
        var state = row.State == StageRunState.Cancelling ? StageRunState.Cancelled
            : outcome.ExitCode is null ? StageRunState.Crashed
            : outcome.ExitCode == ExitCode.Ok ? StageRunState.Succeeded
            : outcome.ExitCode is ExitCode.Config or ExitCode.Data or ExitCode.Bug or ExitCode.Io ? StageRunState.Failed
            : StageRunState.Crashed;
        await using var look = store.Open();
        var crashes = await look.Attempts.CountAsync(a => a.StageRunId == row.Id && a.State == StageRunState.Crashed && a.ExitCode != null, ct) + 1;

        // An attempt raises the epoch by one and a take-over by one more, so what is beyond the attempts are the hosts that died.
        var deaths = takenOver ? row.LeaseEpoch - await look.Attempts.CountAsync(a => a.StageRunId == row.Id, ct) + 1 : 0;
        var retry = state == StageRunState.Crashed && (outcome.ExitCode is null ? deaths < RetryPolicy.MaxHostDeaths : RetryPolicy.ShouldRetry(state, crashes));
        var failure = state is StageRunState.Succeeded or StageRunState.Cancelled ? null : outcome.Failure;
        var chosen = outcome.Outcome ?? options.Stages.FirstOrDefault(s => s.Name == row.Stage)?.Outcomes[0];
        WorkflowEvent? happened = state == StageRunState.Succeeded ? new StageSucceeded(row.ActivityInstanceId, chosen!)
            : state == StageRunState.Cancelled || retry ? null : new StageFailed(row.ActivityInstanceId, failure!);
        return await engine.CommitAsync(row.RunId, happened, async (db, _) =>
        {
            if (takenOver && !await TakeLeaseAsync(db, row, ct))
            {
                return false;
            }

            var current = await db.StageRuns.SingleAsync(s => s.Id == row.Id, ct);
            if (current.LeaseEpoch != row.LeaseEpoch + (takenOver ? 1 : 0) || current.State != row.State)
            {
                return false;
            }

            current.State = RunStateMachine.Move(current.State, state);
            if (state == StageRunState.Crashed)
            {
                current.State = RunStateMachine.Move(current.State, retry ? StageRunState.Queued : StageRunState.Failed);
            }

            (current.LeaseOwner, current.LeaseExpiresAt, current.EndedAt) = (null, null, retry ? null : Now);
            current.Outcome = state == StageRunState.Succeeded ? chosen : null;
            (current.Failure, current.Hint) = retry ? (null, null) : (failure, outcome.Hint);
            if (await db.Attempts.SingleOrDefaultAsync(a => a.StageRunId == row.Id && a.LeaseEpoch == row.LeaseEpoch, ct) is { } attempt)
            {
                (attempt.State, attempt.ExitCode, attempt.Failure, attempt.Hint, attempt.EndedAt, attempt.PeakRssBytes) =
                    (state, outcome.ExitCode, failure, outcome.Hint, Now, outcome.PeakRssBytes);
            }

            foreach (var (port, digest, manifest) in state == StageRunState.Succeeded ? outcome.Outputs : [])
            {
                if (await db.Artifacts.FindAsync([digest.ToString()], ct) is null)
                {
                    db.Artifacts.Add(new ArtifactRow
                    {
                        Digest = digest.ToString(), Kind = manifest.Kind, SizeBytes = manifest.SizeBytes, NumFiles = manifest.Files.Count, CreatedAt = Now, StageRunId = row.Id,
                    });
                }

                db.Ports.Add(new StageRunPortRow { StageRunId = row.Id, IsOutput = true, Port = port, Kind = manifest.Kind, Digest = digest.ToString() });
                await BlobLedger.ReferenceAsync(db, digest, manifest, outcome.LastOver, ct);
            }

            if (state == StageRunState.Succeeded)
            {
                await DraftRegistry.ApplyAsync(db, store.Artifacts, current, outcome.Outputs.Select(o => (o.Port, o.Manifest.Kind, o.Digest.ToString())), Now, ct);
            }

            Failpoint.Reach(Failpoint.Committing);
            return true;
        }, ct);
    }

    /// <summary>In the transaction that takes over, one statement: a lease that is renewed in the same moment is not taken.</summary>
    private async Task<bool> TakeLeaseAsync(PipelineDbContext db, StageRunRow row, CancellationToken ct)
    {
        var isGone = row.LeaseOwner == owner.Name || owner.IsGone(row.LeaseOwner);
        return await db.StageRuns
            .Where(s => s.Id == row.Id && s.LeaseEpoch == row.LeaseEpoch && s.State == row.State)
            .Where(s => isGone || s.LeaseExpiresAt == null || s.LeaseExpiresAt < PipelineDbContext.DatabaseNow())
            .ExecuteUpdateAsync(u => u.SetProperty(s => s.LeaseEpoch, s => s.LeaseEpoch + 1), ct) == 1;
    }

    private static void DeleteQuietly(string folder)
    {
        try
        {
            if (Directory.Exists(folder))
            {
                Directory.Delete(folder, recursive: true);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The sweep of the next host finds it dead.
            Trace.TraceWarning(e.Message);
        }
    }
}
