using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Registry;
using FastDraft.Server.Worker;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// One attempt of a stage run: wins the lease, runs the worker process, stores what it wrote and commits once. Every write
/// carries the lease's epoch, so an attempt whose lease passed to another changes nothing.
/// </summary>
internal sealed class AttemptRunner(PipelineOptions options, PipelineStore store, RunEngine engine, LeaseOwner owner)
{
    private readonly ConcurrentDictionary<Guid, CancellationTokenSource> running = new();

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
        await using var db = store.Open();
        // Database time decides who holds the lease; one statement, so two hosts cannot both win.
        var won = await db.Database.ExecuteSqlAsync($"""
            UPDATE stage_runs SET State = 'Running', LeaseEpoch = LeaseEpoch + 1, LeaseOwner = {owner.Name},
              LeaseExpiresAt = CAST(unixepoch('subsec') * 1000 AS INTEGER) + 30000,
              StartedAt = COALESCE(StartedAt, CAST(unixepoch('subsec') * 1000 AS INTEGER))
            WHERE Id = {id} AND State = 'Queued'
            """, CancellationToken.None);
        if (won != 1)
        {
            return;
        }

        var row = await db.StageRuns.AsNoTracking().SingleAsync(s => s.Id == id, CancellationToken.None);
        using var cancel = CancellationTokenSource.CreateLinkedTokenSource(hostStop);
        running[id] = cancel;
        var attempt = new AttemptRow
        {
            Id = Guid.CreateVersion7(), StageRunId = id, Number = await db.Attempts.CountAsync(a => a.StageRunId == id, CancellationToken.None) + 1, LeaseEpoch = row.LeaseEpoch,
            State = StageRunState.Running, StartedAt = Now, EnvironmentJson = options.Environment.Count == 0 ? null : JsonSerializer.Serialize(options.Environment),
        };
        attempt.LogFile = Path.GetFileName(store.LogPath(attempt.Id));
        db.Attempts.Add(attempt);
        await db.SaveChangesAsync(CancellationToken.None);
        var scratch = Path.Combine(store.DataFolder, "scratch", attempt.Id.ToString("N"));
        var resume = Path.Combine(store.DataFolder, "resume", Digest.Parse(row.KeyDigest!).Hex);
        WorkerResult result;
        var outputs = new List<(string Port, Digest Digest, ArtifactManifest Manifest)>();
        try
        {
            using var renewing = CancellationTokenSource.CreateLinkedTokenSource(cancel.Token);
            var renewal = RenewAsync(id, row.LeaseEpoch, cancel, renewing.Token);
            try
            {
                var stage = options.Stages.First(s => s.Name == row.Stage);
                Directory.CreateDirectory(resume);
                Directory.CreateDirectory(scratch);
                var settings = JsonNode.Parse(row.SettingsJson)!.AsObject();
                var inputs = new Dictionary<string, string>();
                foreach (var port in await db.Ports.AsNoTracking().Where(p => p.StageRunId == id && !p.IsOutput && !p.External).ToListAsync(cancel.Token))
                {
                    inputs[port.Port] = Path.Combine(scratch, "in", port.Port);
                    await store.Artifacts.MaterializeAsync(Digest.Parse(port.Digest), inputs[port.Port], cancel.Token);
                }

                var folders = stage.Outputs.ToDictionary(o => o.Name, o => Path.Combine(scratch, "out", o.Name));
                var job = new WorkerJob(row.Stage, settings, inputs, folders, scratch, resume, settings["accelerator"]?.GetValue<string>() ?? "cpu");
                var jobFile = Path.Combine(scratch, "job.json");
                await File.WriteAllTextAsync(jobFile, JsonSerializer.Serialize(job), cancel.Token);
                result = await WorkerProcess.RunAsync(options, jobFile, store.LogPath(attempt.Id), cancel.Token);
                if (result.Outcome is { } outcome && !stage.Outcomes.Contains(outcome))
                {
                    throw new StageFailureException(FailureKind.Bug, $"The stage ended with the outcome '{outcome}', which it does not declare.");
                }

                foreach (var output in result.ExitCode == ExitCode.Ok ? stage.Outputs : [])
                {
                    if (!Directory.Exists(folders[output.Name]))
                    {
                        throw new StageFailureException(FailureKind.Bug, $"The stage did not write its output '{output.Name}'.");
                    }

                    var (digest, manifest) = await store.Artifacts.PutFolderAsync(output.Kind, folders[output.Name], cancel.Token);
                    outputs.Add((output.Name, digest, manifest));
                }
            }
            finally
            {
                await renewing.CancelAsync();
                await renewal;
            }
        }
        catch (StageFailureException e)
        {
            result = new WorkerResult(ExitCode.Of(e.Kind), e.Message, e.Hint, null, []);
        }
        catch (OperationCanceledException)
        {
            result = new WorkerResult(ExitCode.Cancelled, "The attempt was stopped.", null, null, []);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            result = new WorkerResult(ExitCode.Io, e.Message, "Check the data folder's disk.", null, []);
        }

        try
        {
            var committed = await EndAsync(id, row.LeaseEpoch, result, hostStop.IsCancellationRequested, outputs, CancellationToken.None);
            if (committed && result.ExitCode == ExitCode.Ok)
            {
                Directory.Delete(resume, recursive: true);
            }
        }
        finally
        {
            running.TryRemove(id, out _);
            if (Directory.Exists(scratch))
            {
                Directory.Delete(scratch, recursive: true);
            }
        }
    }

    private async Task RenewAsync(Guid id, long epoch, CancellationTokenSource attempt, CancellationToken ct)
    {
        try
        {
            while (true)
            {
                await Task.Delay(TimeSpan.FromSeconds(10), options.Clock, ct);
                await using var db = store.Open();
                if (await db.Database.ExecuteSqlAsync(
                    $"UPDATE stage_runs SET LeaseExpiresAt = CAST(unixepoch('subsec') * 1000 AS INTEGER) + 30000 WHERE Id = {id} AND LeaseEpoch = {epoch}", ct) != 1)
                {
                    await attempt.CancelAsync();
                    return;
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The attempt ended.
        }
    }

    /// <summary>The one commit of an attempt. False when its lease has passed to another.</summary>
    public async Task<bool> EndAsync(
        Guid id, long epoch, WorkerResult result, bool hostStopped, IReadOnlyList<(string Port, Digest Digest, ArtifactManifest Manifest)> outputs, CancellationToken ct)
    {
        try
        {
            return await CommitAsync(id, epoch, result, hostStopped, outputs, ct);
        }
        catch (StageFailureException e)
        {
            // The registry refused the outputs, and nothing of that transaction is left: the attempt ends as one that failed.
            return await CommitAsync(id, epoch, result with { ExitCode = ExitCode.Of(e.Kind), Failure = e.Message, Hint = e.Hint }, hostStopped, [], ct);
        }
    }

    private async Task<bool> CommitAsync(
        Guid id, long epoch, WorkerResult result, bool hostStopped, IReadOnlyList<(string Port, Digest Digest, ArtifactManifest Manifest)> outputs, CancellationToken ct)
    {
        await using var look = store.Open();
        var row = await look.StageRuns.AsNoTracking().SingleAsync(s => s.Id == id, ct);
        var cancelling = row.State == StageRunState.Cancelling;
        var state = cancelling ? StageRunState.Cancelled
            : result.ExitCode == ExitCode.Ok ? StageRunState.Succeeded
            : hostStopped ? StageRunState.Crashed
            : result.ExitCode is ExitCode.Config or ExitCode.Data or ExitCode.Bug or ExitCode.Io ? StageRunState.Failed
            : StageRunState.Crashed;
        // A host that stopped says nothing about the stage, so that attempt does not count; such an attempt has no exit code.
        var crashes = await look.Attempts.CountAsync(a => a.StageRunId == id && a.State == StageRunState.Crashed && a.ExitCode != null, ct) + 1;
        var retry = state == StageRunState.Crashed && (hostStopped || RetryPolicy.ShouldRetry(state, crashes));
        var failure = state is StageRunState.Succeeded or StageRunState.Cancelled ? null : result.Failure ?? $"The worker ended with exit code {result.ExitCode}.";
        var outcome = result.Outcome ?? options.Stages.First(s => s.Name == row.Stage).Outcomes[0];
        WorkflowEvent? happened = state == StageRunState.Succeeded ? new StageSucceeded(row.ActivityInstanceId, outcome)
            : state == StageRunState.Cancelled || retry ? null : new StageFailed(row.ActivityInstanceId, failure!);
        return await engine.CommitAsync(row.RunId, happened, async (db, run) =>
        {
            var current = await db.StageRuns.SingleAsync(s => s.Id == id, ct);
            if (current.LeaseEpoch != epoch || current.State != row.State || RunStateMachine.IsTerminal(current.State))
            {
                return false;
            }

            current.State = RunStateMachine.Move(current.State, state);
            if (state == StageRunState.Crashed)
            {
                current.State = RunStateMachine.Move(current.State, retry ? StageRunState.Queued : StageRunState.Failed);
            }

            (current.LeaseOwner, current.LeaseExpiresAt, current.EndedAt) = (null, null, retry ? null : Now);
            current.Outcome = state == StageRunState.Succeeded ? outcome : null;
            (current.Failure, current.Hint) = retry ? (null, null) : (failure, result.Hint);
            if (await db.Attempts.SingleOrDefaultAsync(a => a.StageRunId == id && a.LeaseEpoch == epoch, ct) is { } attempt)
            {
                (attempt.State, attempt.ExitCode, attempt.Failure, attempt.Hint, attempt.EndedAt, attempt.PeakRssBytes) =
                    (state, hostStopped ? null : result.ExitCode, failure, result.Hint, Now, result.PeakRssBytes);
                db.Metrics.AddRange(result.Metrics.Select(m => new MetricRow { AttemptId = attempt.Id, Name = m.Name, Step = m.Step, Value = m.Value }));
            }

            foreach (var (port, digest, manifest) in state == StageRunState.Succeeded ? outputs : [])
            {
                if (await db.Artifacts.FindAsync([digest.ToString()], ct) is null)
                {
                    db.Artifacts.Add(new ArtifactRow
                    {
                        Digest = digest.ToString(), Kind = manifest.Kind, SizeBytes = manifest.SizeBytes, NumFiles = manifest.Files.Count, CreatedAt = Now, StageRunId = id,
                    });
                }

                db.Ports.Add(new StageRunPortRow { StageRunId = id, IsOutput = true, Port = port, Kind = manifest.Kind, Digest = digest.ToString() });
            }

            if (state == StageRunState.Succeeded)
            {
                await DraftRegistry.ApplyAsync(db, store.Artifacts, current, outputs.Select(o => (o.Port, o.Manifest.Kind, o.Digest.ToString())), Now, ct);
            }

            return true;
        }, ct);
    }
}
