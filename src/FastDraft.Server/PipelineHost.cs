using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Worker;
using Hangfire;
using Hangfire.InMemory;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server;

/// <summary>
/// The embedded runtime. The tables are the truth and Hangfire a thread pool: a job carries a stage run's id, the reconciler
/// enqueues whatever the tables say is due, and each attempt's writes are fenced by its lease epoch.
/// </summary>
public sealed class PipelineHost : IAsyncDisposable
{
    private readonly PipelineOptions options;
    private readonly KeyBuilder keys;
    private readonly string owner;
    private readonly CancellationTokenSource stop = new();
    private readonly SemaphoreSlim signal = new(0);
    private readonly SemaphoreSlim engine = new(1);
    private readonly ConcurrentDictionary<Guid, CancellationTokenSource> active = new();
    private readonly ConcurrentDictionary<Guid, byte> enqueued = new();
    private readonly ConcurrentDictionary<Guid, byte> takenUp = new();
    private readonly InMemoryStorage jobs = new();
    private readonly BackgroundJobClient client;
    private readonly BackgroundJobServer server;
    private Task reconciler = Task.CompletedTask;

    private PipelineHost(PipelineOptions options, PipelineStore store)
    {
        this.options = options;
        Store = store;
        keys = new KeyBuilder(store, options.ExpandPath);
        using var self = Process.GetCurrentProcess();
        owner = string.Create(CultureInfo.InvariantCulture, $"{Environment.MachineName}|{Environment.ProcessId}|{self.StartTime.Ticks}|{Guid.CreateVersion7():N}");
        client = new BackgroundJobClient(jobs);
        server = new BackgroundJobServer(
            new BackgroundJobServerOptions
            {
                WorkerCount = Math.Max(1, options.MaxParallelStages), Activator = new HostActivator(this),
                SchedulePollingInterval = TimeSpan.FromSeconds(1), ShutdownTimeout = TimeSpan.FromSeconds(10),
            },
            jobs);
    }

    public PipelineStore Store { get; }

    public PipelineQueries Queries => Store.Queries;

    public static async Task<PipelineHost> StartAsync(PipelineOptions options, CancellationToken ct = default)
    {
        var host = new PipelineHost(options, await PipelineStore.OpenAsync(options.DataFolder, ct));
        host.reconciler = Task.Run(host.ReconcileAsync, CancellationToken.None);
        return host;
    }

    public async Task<Guid> SubmitAsync(
        WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs, bool bypassCache = false, CancellationToken ct = default)
    {
        var transition = Interpreter.Start(definition, options.Stages, inputs);
        var run = new RunRow
        {
            Id = Guid.CreateVersion7(), WorkflowName = definition.Name, DefinitionJson = definition.ToJson(), DefinitionDigest = definition.Digest.ToString(),
            InputsJson = JsonSerializer.Serialize(inputs), State = RunState.Running, BypassCache = bypassCache, CreatedAt = Now,
        };
        TakeUp(run.Id);
        await using var db = Store.Open();
        db.Runs.Add(run);
        await ApplyAsync(db, run, transition, ct);
        await db.SaveChangesAsync(ct);
        signal.Release();
        return run.Id;
    }

    /// <summary>Makes this host responsible for a run; needed only where it does not take up all of them.</summary>
    public void TakeUp(Guid runId)
    {
        takenUp[runId] = 0;
        signal.Release();
    }

    public IAsyncEnumerable<RunEvent> WatchAsync(Guid runId, CancellationToken ct = default) => Store.WatchAsync(runId, ct);

    public async Task<bool> CancelAsync(Guid runId, CancellationToken ct = default)
    {
        var accepted = await Store.CancelAsync(runId, ct);
        signal.Release();
        return accepted;
    }

    /// <summary>A new run of the same definition and inputs: what had succeeded is cached, what was killed resumes.</summary>
    public async Task<Guid> RetryAsync(Guid runId, CancellationToken ct = default)
    {
        var run = await Queries.GetRunAsync(runId, ct) ?? throw new ArgumentException($"There is no run {runId}.", nameof(runId));
        return await SubmitAsync(
            WorkflowDefinition.Parse(run.DefinitionJson), JsonSerializer.Deserialize<Dictionary<string, JsonNode?>>(run.InputsJson)!, ct: ct);
    }

    /// <summary>Stops the workers; unfinished runs stay in the tables and are taken up by the next host.</summary>
    public async ValueTask DisposeAsync()
    {
        await stop.CancelAsync();
        server.SendStop();
        await reconciler;
        await server.WaitForShutdownAsync(CancellationToken.None);
        server.Dispose();
        stop.Dispose();
    }

    private long Now => options.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    [AutomaticRetry(Attempts = 0)]
    public async Task ExecuteAsync(Guid stageRunId)
    {
        try
        {
            await AttemptAsync(stageRunId);
        }
        finally
        {
            enqueued.TryRemove(stageRunId, out _);
            if (!stop.IsCancellationRequested)
            {
                signal.Release();
            }
        }
    }

    private async Task ReconcileAsync()
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await ReconcileOnceAsync(stop.Token);
                await signal.WaitAsync(TimeSpan.FromSeconds(2), stop.Token);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                // The next pass reads the tables again; a reconciler that ended would strand every run.
                Trace.TraceError(e.ToString());
                await Task.Delay(TimeSpan.FromMilliseconds(200), CancellationToken.None);
            }
        }
    }

    private async Task ReconcileOnceAsync(CancellationToken ct)
    {
        await using var db = Store.Open();
        foreach (var run in await db.Runs.AsNoTracking().Where(r => r.CancelRequested && (r.State == RunState.Running || r.State == RunState.Cancelling)).ToListAsync(ct))
        {
            await CommitAsync(run.Id, new CancelRequested(), (_, _) => Task.FromResult(true), ct);
        }

        foreach (var row in await MineAsync(db, [StageRunState.Running, StageRunState.Cancelling], ct))
        {
            if (enqueued.ContainsKey(row.Id))
            {
                // Ours, even in the moment between winning the lease and entering the active ones.
                if (row.State == StageRunState.Cancelling && active.TryGetValue(row.Id, out var source))
                {
                    await source.CancelAsync();
                }
            }
            else if (row.LeaseExpiresAt < Now || OwnerIsDead(row.LeaseOwner))
            {
                await EndAttemptAsync(row.Id, row.LeaseEpoch, new WorkerResult(-1, "The host stopped.", null, null, []), hostStopped: true, [], ct);
            }
        }

        foreach (var row in await MineAsync(db, [StageRunState.Pending], ct))
        {
            await PrepareAsync(row, ct);
        }

        foreach (var row in await MineAsync(db, [StageRunState.Queued], ct))
        {
            var id = row.Id;
            if (enqueued.TryAdd(id, 0))
            {
                client.Enqueue<PipelineHost>(h => h.ExecuteAsync(id));
            }
        }
    }

    private async Task<List<StageRunRow>> MineAsync(PipelineDbContext db, StageRunState[] states, CancellationToken ct)
    {
        var rows = await db.StageRuns.AsNoTracking().Where(s => states.Contains(s.State)).OrderBy(s => s.CreatedAt).ToListAsync(ct);
        return options.TakesUpUnfinishedRuns ? rows : [.. rows.Where(s => takenUp.ContainsKey(s.RunId))];
    }

    /// <summary>Computes the key of a new stage run: cached, or queued.</summary>
    private async Task PrepareAsync(StageRunRow row, CancellationToken ct)
    {
        await using var db = Store.Open();
        var stage = options.Stages.First(s => s.Name == row.Stage);
        var settings = JsonNode.Parse(row.SettingsJson)!.AsObject();
        var ports = new List<StageRunPortRow>();
        foreach (var (port, feed) in JsonSerializer.Deserialize<Dictionary<string, PortSource>>(row.SourcesJson)!)
        {
            var source = await (from p in db.Ports
                                join s in db.StageRuns on p.StageRunId equals s.Id
                                where s.RunId == row.RunId && s.ActivityInstanceId == feed.ActivityInstanceId && p.IsOutput && p.Port == feed.Port
                                select p).SingleAsync(ct);
            ports.Add(new StageRunPortRow { StageRunId = row.Id, Port = port, Kind = source.Kind, Digest = source.Digest });
        }

        try
        {
            var key = await keys.BuildAsync(stage, settings, ports.ToDictionary(p => p.Port, p => Digest.Parse(p.Digest)), ct);
            var bypass = await db.Runs.Where(r => r.Id == row.RunId).Select(r => r.BypassCache).SingleAsync(ct);
            var hit = bypass ? null : await keys.FindAsync(db, key.ComputeDigest(), ct);
            var reasons = hit is null ? await KeyBuilder.ExplainAsync(db, key, row.ActivityId, ct) : [];
            ports.AddRange(key.Paths.Select(p => new StageRunPortRow { StageRunId = row.Id, Port = "setting:" + p.Key, Kind = "path", Digest = p.Value, External = true }));
            await CommitAsync(row.RunId, hit is null ? null : new StageSucceeded(row.ActivityInstanceId), async (d, _) =>
            {
                var current = await d.StageRuns.SingleAsync(s => s.Id == row.Id, ct);
                if (current.State != StageRunState.Pending)
                {
                    return false;
                }

                current.KeyJson = key.ToJson();
                current.KeyDigest = key.ComputeDigest().ToString();
                current.State = RunStateMachine.Move(current.State, hit is null ? StageRunState.Queued : StageRunState.Cached);
                current.MissReasonsJson = hit is null ? JsonSerializer.Serialize(reasons) : null;
                if (hit is { } found)
                {
                    current.CachedFromRunId = found.Row.RunId;
                    current.StartedAt = current.EndedAt = Now;
                    ports.AddRange(found.Outputs.Select(o => new StageRunPortRow { StageRunId = row.Id, IsOutput = true, Port = o.Port, Kind = o.Kind, Digest = o.Digest }));
                }

                d.Ports.AddRange(ports);
                return true;
            }, ct);
        }
        catch (Exception e) when (e is StageFailureException or IOException or UnauthorizedAccessException)
        {
            await CommitAsync(row.RunId, new StageFailed(row.ActivityInstanceId, e.Message), async (d, _) =>
            {
                var current = await d.StageRuns.SingleAsync(s => s.Id == row.Id, ct);
                (current.State, current.Failure, current.Hint, current.EndedAt) =
                    (RunStateMachine.Move(current.State, StageRunState.Failed), e.Message, (e as StageFailureException)?.Hint, Now);
                return true;
            }, ct);
        }

        signal.Release();
    }

    private async Task AttemptAsync(Guid id)
    {
        await using var db = Store.Open();
        // Database time decides who holds the lease; one statement, so two hosts cannot both win.
        var won = await db.Database.ExecuteSqlAsync($"""
            UPDATE stage_runs SET State = 'Running', LeaseEpoch = LeaseEpoch + 1, LeaseOwner = {owner},
              LeaseExpiresAt = CAST(unixepoch('subsec') * 1000 AS INTEGER) + 30000,
              StartedAt = COALESCE(StartedAt, CAST(unixepoch('subsec') * 1000 AS INTEGER))
            WHERE Id = {id} AND State = 'Queued'
            """, CancellationToken.None);
        if (won != 1)
        {
            return;
        }

        var row = await db.StageRuns.AsNoTracking().SingleAsync(s => s.Id == id);
        using var cancel = CancellationTokenSource.CreateLinkedTokenSource(stop.Token);
        active[id] = cancel;
        var attempt = new AttemptRow
        {
            Id = Guid.CreateVersion7(), StageRunId = id, Number = await db.Attempts.CountAsync(a => a.StageRunId == id) + 1, LeaseEpoch = row.LeaseEpoch,
            State = StageRunState.Running, StartedAt = Now,
        };
        attempt.LogFile = Path.GetFileName(Store.LogPath(attempt.Id));
        db.Attempts.Add(attempt);
        await db.SaveChangesAsync();
        var scratch = Path.Combine(Store.DataFolder, "scratch", attempt.Id.ToString("N"));
        var resume = Path.Combine(Store.DataFolder, "resume", Digest.Parse(row.KeyDigest!).Hex);
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
                    await Store.Artifacts.MaterializeAsync(Digest.Parse(port.Digest), inputs[port.Port], cancel.Token);
                }

                var folders = stage.Outputs.ToDictionary(o => o.Name, o => Path.Combine(scratch, "out", o.Name));
                var job = new WorkerJob(row.Stage, settings, inputs, folders, scratch, resume, settings["accelerator"]?.GetValue<string>() ?? "cpu");
                var jobFile = Path.Combine(scratch, "job.json");
                await File.WriteAllTextAsync(jobFile, JsonSerializer.Serialize(job), cancel.Token);
                result = await WorkerProcess.RunAsync(options, jobFile, Store.LogPath(attempt.Id), cancel.Token);
                foreach (var output in result.ExitCode == ExitCode.Ok ? stage.Outputs : [])
                {
                    if (!Directory.Exists(folders[output.Name]))
                    {
                        throw new StageFailureException(FailureKind.Bug, $"The stage did not write its output '{output.Name}'.");
                    }

                    var (digest, manifest) = await Store.Artifacts.PutFolderAsync(output.Kind, folders[output.Name], cancel.Token);
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
            var committed = await EndAttemptAsync(id, row.LeaseEpoch, result, stop.IsCancellationRequested, outputs, CancellationToken.None);
            if (committed && result.ExitCode == ExitCode.Ok)
            {
                Directory.Delete(resume, recursive: true);
            }
        }
        finally
        {
            active.TryRemove(id, out _);
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
                await using var db = Store.Open();
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
    internal async Task<bool> EndAttemptAsync(
        Guid id, long epoch, WorkerResult result, bool hostStopped, IReadOnlyList<(string Port, Digest Digest, ArtifactManifest Manifest)> outputs, CancellationToken ct)
    {
        await using var look = Store.Open();
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
        WorkflowEvent? happened = state == StageRunState.Succeeded ? new StageSucceeded(row.ActivityInstanceId)
            : state == StageRunState.Cancelled || retry ? null : new StageFailed(row.ActivityInstanceId, failure!);
        return await CommitAsync(row.RunId, happened, async (db, run) =>
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

            return true;
        }, ct);
    }

    /// <summary>One transaction: the change, the interpreter's answer to the event, and the effects of that answer.</summary>
    private async Task<bool> CommitAsync(Guid runId, WorkflowEvent? happened, Func<PipelineDbContext, RunRow, Task<bool>> change, CancellationToken ct)
    {
        await engine.WaitAsync(ct);
        try
        {
            await using var db = Store.Open();
            // Opened as a writer at once: a reader that upgrades could meet a busy database.
            await using var transaction = await db.Database.BeginTransactionAsync(System.Data.IsolationLevel.Serializable, ct);
            var run = await db.Runs.SingleAsync(r => r.Id == runId, ct);
            if (!await change(db, run))
            {
                return false;
            }

            await db.SaveChangesAsync(ct);
            if (happened is CancelRequested && run.State == RunState.Running)
            {
                run.State = RunState.Cancelling;
                await StopStagesAsync(db, run.Id, null, ct);
            }

            if (happened is not null && !RunStateMachine.IsTerminal(run.State))
            {
                var busy = await db.StageRuns.AnyAsync(s => s.RunId == runId && (s.State == StageRunState.Running || s.State == StageRunState.Cancelling), ct)
                    || db.ChangeTracker.Entries<StageRunRow>().Any(e => e.Entity.State == StageRunState.Cancelling);
                if (happened is not CancelRequested || !busy)
                {
                    var definition = WorkflowDefinition.Parse(run.DefinitionJson);
                    await ApplyAsync(db, run, Interpreter.Apply(definition, options.Stages, WorkflowState.FromJson(run.StateJson), happened), ct);
                }
            }

            run.Version++;
            await db.SaveChangesAsync(ct);
            await transaction.CommitAsync(ct);
            return true;
        }
        finally
        {
            engine.Release();
        }
    }

    private async Task ApplyAsync(PipelineDbContext db, RunRow run, Transition transition, CancellationToken ct)
    {
        run.StateJson = transition.State.ToJson();
        foreach (var effect in transition.Effects)
        {
            switch (effect)
            {
                case StartStage start when run.State == RunState.Running:
                    db.StageRuns.Add(new StageRunRow
                    {
                        Id = Guid.CreateVersion7(), RunId = run.Id, ActivityInstanceId = start.ActivityInstanceId, ActivityId = start.ActivityId,
                        Stage = start.Stage.Name, StageVersion = start.Stage.Version, State = StageRunState.Pending, CreatedAt = Now,
                        SettingsJson = start.Settings.ToJsonString(), SourcesJson = JsonSerializer.Serialize(start.Inputs),
                    });
                    break;
                case CancelStage cancel:
                    await StopStagesAsync(db, run.Id, cancel.ActivityInstanceId, ct);
                    break;
                case WriteLine line:
                    db.Journal.Add(new JournalRow { RunId = run.Id, At = Now, Event = "WriteLine", Text = line.Text });
                    break;
                case JournalEntry entry:
                    db.Journal.Add(new JournalRow { RunId = run.Id, At = Now, Event = entry.EventName, ActivityId = entry.ActivityId, Text = entry.Message });
                    break;
                case FinishWorkflow finish:
                    await StopStagesAsync(db, run.Id, null, ct);
                    run.State = run.State == RunState.Cancelling || finish.Status == WorkflowStatus.Cancelled ? RunState.Cancelled
                        : finish.Status == WorkflowStatus.Finished ? RunState.Succeeded : RunState.Failed;
                    (run.Incident, run.EndedAt) = (finish.Incident, Now);
                    break;
            }
        }
    }

    private async Task StopStagesAsync(PipelineDbContext db, Guid runId, string? activityInstanceId, CancellationToken ct)
    {
        foreach (var stage in await db.StageRuns.Where(s => s.RunId == runId && (activityInstanceId == null || s.ActivityInstanceId == activityInstanceId)).ToListAsync(ct))
        {
            if (stage.State is StageRunState.Pending or StageRunState.Queued)
            {
                (stage.State, stage.EndedAt) = (StageRunState.Cancelled, Now);
            }
            else if (stage.State == StageRunState.Running)
            {
                stage.State = StageRunState.Cancelling;
            }
        }
    }

    /// <summary>True when the lease belongs to a host on this machine whose process is gone, or to an earlier host of this process.</summary>
    private bool OwnerIsDead(string? leaseOwner)
    {
        var parts = leaseOwner?.Split('|') ?? [];
        if (parts.Length != 4 || parts[0] != Environment.MachineName)
        {
            return leaseOwner is null;
        }

        var id = int.Parse(parts[1], CultureInfo.InvariantCulture);
        if (id == Environment.ProcessId)
        {
            return leaseOwner == owner || parts[2] != owner.Split('|')[2];
        }

        try
        {
            using var process = Process.GetProcessById(id);
            return process.StartTime.Ticks.ToString(CultureInfo.InvariantCulture) != parts[2];
        }
        catch (ArgumentException)
        {
            return true;
        }
    }

    private sealed class HostActivator(PipelineHost host) : JobActivator
    {
        public override object ActivateJob(Type jobType) => host;

        public override JobActivatorScope BeginScope(JobActivatorContext context) => new Scope(host);

        // The default scope would dispose the host after each job.
        private sealed class Scope(PipelineHost host) : JobActivatorScope
        {
            public override object Resolve(Type type) => host;
        }
    }
}
