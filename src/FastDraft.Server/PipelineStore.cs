using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Server.Gates;
using FastDraft.Storage;
using FastDraft.Storage.FileSystem;
using FastDraft.Storage.S3;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server;

/// <summary>Where a pipeline keeps what it knows and makes: database, artifacts and logs. Any number of processes may have it open.</summary>
public sealed class PipelineStore : IAsyncDisposable
{
    private static readonly TimeSpan WatchersPatience = TimeSpan.FromMinutes(2);

    private PipelineStore(string dataFolder, PipelineSettings settings)
    {
        DataFolder = Path.GetFullPath(dataFolder);
        Database = DatabaseOf(DataFolder, settings);
        Queries = new PipelineQueries(Database, Path.Combine(DataFolder, "logs"));
        Artifacts = settings.Store is { } bucket
            ? new S3ArtifactStore(bucket, Path.Combine(DataFolder, "cache"))
            : new FileSystemArtifactStore(Path.Combine(DataFolder, "cas"));
    }

    public string DataFolder { get; }

    public PipelineQueries Queries { get; }

    public IArtifactStore Artifacts { get; }

    internal PipelineDatabase Database { get; }

    /// <summary>With everything in the data folder.</summary>
    public static Task<PipelineStore> OpenAsync(string dataFolder, CancellationToken ct = default) => OpenAsync(dataFolder, new PipelineSettings(), ct);

    /// <exception cref="StageFailureException">The settings name no database, or its schema was made by a later version.</exception>
    public static async Task<PipelineStore> OpenAsync(string dataFolder, PipelineSettings settings, CancellationToken ct = default)
    {
        var store = new PipelineStore(dataFolder, settings);
        Directory.CreateDirectory(store.DataFolder);
        try
        {
            await store.Database.MigrateAsync(ct);
        }
        catch (NewerSchemaException e)
        {
            throw new StageFailureException(FailureKind.Config, e.Message, "the fastdraft that made it, or a later one; or another database", e);
        }

        return store;
    }

    /// <summary>The database that the settings name.</summary>
    /// <exception cref="StageFailureException">They name none that can be read.</exception>
    public static PipelineDatabase DatabaseOf(string dataFolder, PipelineSettings settings)
    {
        try
        {
            return PipelineDatabase.Of(settings.Database, dataFolder);
        }
        catch (ArgumentException e)
        {
            // The text itself may hold a password.
            throw new StageFailureException(
                FailureKind.Config, $"FASTDRAFT_DATABASE is no PostgreSQL connection string: {e.Message}", "Host=db.example;Database=fastdraft;Username=fastdraft;Password=...", e);
        }
    }

    public Task<bool> CancelAsync(Guid runId, CancellationToken ct = default) => Database.TransactAsync(
        async db =>
        {
            db.Remember(new AuditEntry(AuditAction.RunCancelled, runId.ToString()));
            return await db.Runs.Where(r => r.Id == runId && (r.State == RunState.Pending || r.State == RunState.Running || r.State == RunState.Cancelling))
                .ExecuteUpdateAsync(u => u.SetProperty(r => r.CancelRequested, true), ct) == 1;
        },
        ct);

    /// <summary>Adds a row to the audit for an act that changes no other row: files that left the store, or were taken out of it.</summary>
    public Task RememberAsync(AuditEntry entry, CancellationToken ct = default) => Database.TransactAsync(
        db =>
        {
            db.Remember(entry);
            return Task.FromResult(true);
        },
        ct);

    public async IAsyncEnumerable<RunEvent> WatchAsync(Guid runId, [EnumeratorCancellation] CancellationToken ct = default)
    {
        var seen = new Dictionary<Guid, (StageRunState State, int Attempts)>();
        var read = new Dictionary<Guid, int>();
        var ended = new HashSet<Guid>();
        var gates = new HashSet<(string Reference, bool? Approved)>();
        long lastJournal = 0;
        while (true)
        {
            var run = await PatientlyAsync(() => Queries.GetRunAsync(runId, ct), ct);
            if (run is null)
            {
                yield break;
            }

            foreach (var stage in run.Stages)
            {
                // Nothing is added to the log of an attempt that has ended.
                foreach (var attempt in stage.Attempts.Where(a => !ended.Contains(a.Id)))
                {
                    var (lines, last) = await PatientlyAsync(() => Queries.LogAsync(attempt.Id, read.GetValueOrDefault(attempt.Id), ct), ct);
                    read[attempt.Id] = last;
                    if (attempt.EndedAt is not null)
                    {
                        ended.Add(attempt.Id);
                    }

                    foreach (var line in lines)
                    {
                        if (ParseLine(stage.ActivityId, line) is { } e)
                        {
                            yield return e;
                        }
                    }
                }

                var now = (stage.State, stage.Attempts.Count);
                if (!seen.TryGetValue(stage.Id, out var before) || before != now)
                {
                    seen[stage.Id] = now;
                    yield return new StageChanged(
                        stage.EndedAt ?? stage.StartedAt ?? run.CreatedAt, stage.ActivityId, stage.Stage, stage.State, stage.Attempts.Count,
                        stage.CachedFromRunId, stage.Failure ?? (stage.Attempts is [.., var last] ? last.Failure : null), stage.Hint);
                }
            }

            foreach (var gate in await PatientlyAsync(() => new GateStore(this, TimeProvider.System).OfRunAsync(runId, ct), ct))
            {
                if (gates.Add((gate.Reference, gate.Approved)))
                {
                    yield return gate.Approved is { } approved
                        ? new GateAnswered(gate.DecidedAt!.Value, gate.Reference, gate.ActivityId, gate.Title, approved, gate.DecidedBy!, gate.Reason)
                        : new GateOpened(gate.OpenedAt, gate.Reference, gate.ActivityId, gate.Title, gate.Instructions);
                }
            }

            foreach (var row in await PatientlyAsync(() => NewJournalAsync(runId, lastJournal, ct), ct))
            {
                lastJournal = row.Id;
                if (row.Event == "WriteLine")
                {
                    yield return new LineWritten(DateTimeOffset.FromUnixTimeMilliseconds(row.At), row.Text ?? "");
                }
            }

            if (RunStateMachine.IsTerminal(run.State))
            {
                yield return new RunFinished(run.EndedAt ?? run.CreatedAt, run.State, run.Incident);
                yield break;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(250), ct);
        }
    }

    public ValueTask DisposeAsync()
    {
        Database.Dispose();
        (Artifacts as IDisposable)?.Dispose();
        return ValueTask.CompletedTask;
    }

    internal PipelineDbContext Open() => Database.Open();

    internal string ScratchFolder(Guid attemptId) => Path.Combine(DataFolder, "scratch", attemptId.ToString("N"));

    /// <summary>By key: whoever works on the same thing next goes on there.</summary>
    internal string ResumeFolder(Digest key) => Path.Combine(DataFolder, "resume", key.Hex);

    private async Task<List<JournalRow>> NewJournalAsync(Guid runId, long after, CancellationToken ct)
    {
        await using var db = Open();
        return await db.Journal.AsNoTracking().Where(j => j.RunId == runId && j.Id > after).OrderBy(j => j.Id).ToListAsync(ct);
    }

    /// <summary>A read, again and again while the database is away: whoever watches a run of hours does not stop for a restart.</summary>
    private static async Task<T> PatientlyAsync<T>(Func<Task<T>> read, CancellationToken ct)
    {
        var began = TimeProvider.System.GetTimestamp();
        while (true)
        {
            try
            {
                return await read();
            }
            catch (Exception e) when (PipelineDatabase.IsTrouble(e) && TimeProvider.System.GetElapsedTime(began) < WatchersPatience)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(500), ct);
            }
        }
    }

    /// <summary>What a line of an attempt's log says; null for a line that is not for watching. A line that is no event is a message.</summary>
    public static RunEvent? ParseLine(string activityId, string line)
    {
        try
        {
            var json = JsonNode.Parse(line)!.AsObject();
            var at = DateTimeOffset.FromUnixTimeMilliseconds((long?)json["at"] ?? 0);
            return (string?)json["type"] switch
            {
                "progress" => new StageProgress(at, activityId, (long)json["done"]!, (long?)json["total"], (string)json["unit"]!),
                "metric" => new StageMetric(at, activityId, (string)json["name"]!, (double)json["value"]!, (long)json["step"]!),
                "log" => new StageLog(at, activityId, (string)json["level"]!, (string)json["message"]!),
                _ => null,
            };
        }
        catch (Exception e) when (e is System.Text.Json.JsonException or InvalidOperationException or ArgumentException or NullReferenceException or FormatException)
        {
            return new StageLog(default, activityId, "Information", line);
        }
    }
}
