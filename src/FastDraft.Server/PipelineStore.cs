using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server.Gates;
using FastDraft.Storage;
using FastDraft.Storage.FileSystem;
using FastDraft.Storage.S3;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server;

/// <summary>A data folder: database, artifacts and logs. Any number of processes may have it open.</summary>
public sealed class PipelineStore : IAsyncDisposable
{
    private PipelineStore(string dataFolder, PipelineSettings settings)
    {
        DataFolder = Path.GetFullPath(dataFolder);
        Database = PipelineDbContext.OptionsFor(Path.Combine(DataFolder, "pipeline.db"));
        Queries = new PipelineQueries(Database, LogFolder);
        Artifacts = settings.Store is { } bucket
            ? new S3ArtifactStore(bucket, Path.Combine(DataFolder, "cache"))
            : new FileSystemArtifactStore(Path.Combine(DataFolder, "cas"));
    }

    public string DataFolder { get; }

    public PipelineQueries Queries { get; }

    public IArtifactStore Artifacts { get; }

    internal DbContextOptions<PipelineDbContext> Database { get; }

    internal string LogFolder => Path.Combine(DataFolder, "logs");

    /// <summary>With everything in the data folder.</summary>
    public static Task<PipelineStore> OpenAsync(string dataFolder, CancellationToken ct = default) => OpenAsync(dataFolder, new PipelineSettings(), ct);

    public static async Task<PipelineStore> OpenAsync(string dataFolder, PipelineSettings settings, CancellationToken ct = default)
    {
        var store = new PipelineStore(dataFolder, settings);
        Directory.CreateDirectory(store.LogFolder);
        await using var db = store.Open();
        if ((await db.Database.GetPendingMigrationsAsync(ct)).Any())
        {
            // EF's own migration lock is a row that outlives a killed process and would block every later one. Under ours, which
            // ends with its process, such a row can only be left over.
            using var alone = await FileLock.TakeAsync(Path.Combine(store.DataFolder, "migration.lock"), shared: false, ct);
            await db.Database.ExecuteSqlRawAsync("PRAGMA journal_mode=WAL; DROP TABLE IF EXISTS __EFMigrationsLock", ct);
            await db.Database.MigrateAsync(ct);
        }

        return store;
    }

    public async Task<bool> CancelAsync(Guid runId, CancellationToken ct = default)
    {
        await using var db = Open();
        return await db.Runs.Where(r => r.Id == runId && (r.State == RunState.Pending || r.State == RunState.Running || r.State == RunState.Cancelling))
            .ExecuteUpdateAsync(u => u.SetProperty(r => r.CancelRequested, true), ct) == 1;
    }

    public async IAsyncEnumerable<RunEvent> WatchAsync(Guid runId, [EnumeratorCancellation] CancellationToken ct = default)
    {
        var seen = new Dictionary<Guid, (StageRunState State, int Attempts)>();
        var offsets = new Dictionary<Guid, long>();
        var gates = new HashSet<(string Reference, bool? Approved)>();
        long lastJournal = 0;
        while (true)
        {
            var run = await Queries.GetRunAsync(runId, ct);
            if (run is null)
            {
                yield break;
            }

            foreach (var stage in run.Stages)
            {
                foreach (var attempt in stage.Attempts)
                {
                    foreach (var line in await NewLinesAsync(attempt.Id, offsets, ct))
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

            foreach (var gate in await new GateStore(this, TimeProvider.System).OfRunAsync(runId, ct))
            {
                if (gates.Add((gate.Reference, gate.Approved)))
                {
                    yield return gate.Approved is { } approved
                        ? new GateAnswered(gate.DecidedAt!.Value, gate.Reference, gate.ActivityId, gate.Title, approved, gate.DecidedBy!, gate.Reason)
                        : new GateOpened(gate.OpenedAt, gate.Reference, gate.ActivityId, gate.Title, gate.Instructions);
                }
            }

            await using (var db = Open())
            {
                foreach (var row in await db.Journal.AsNoTracking().Where(j => j.RunId == runId && j.Id > lastJournal).OrderBy(j => j.Id).ToListAsync(ct))
                {
                    lastJournal = row.Id;
                    if (row.Event == "WriteLine")
                    {
                        yield return new LineWritten(DateTimeOffset.FromUnixTimeMilliseconds(row.At), row.Text ?? "");
                    }
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
        (Artifacts as IDisposable)?.Dispose();
        return ValueTask.CompletedTask;
    }

    internal PipelineDbContext Open() => new(Database);

    internal string ScratchFolder(Guid attemptId) => Path.Combine(DataFolder, "scratch", attemptId.ToString("N"));

    /// <summary>By key: whoever works on the same thing next goes on there.</summary>
    internal string ResumeFolder(Digest key) => Path.Combine(DataFolder, "resume", key.Hex);

    internal string LogPath(Guid attemptId) => Path.Combine(LogFolder, attemptId.ToString("N") + ".jsonl");

    private async Task<IReadOnlyList<string>> NewLinesAsync(Guid attempt, Dictionary<Guid, long> offsets, CancellationToken ct)
    {
        var path = LogPath(attempt);
        if (!File.Exists(path))
        {
            return [];
        }

        await using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        stream.Position = offsets.GetValueOrDefault(attempt);
        using var reader = new StreamReader(stream);
        var text = await reader.ReadToEndAsync(ct);
        var whole = text.LastIndexOf('\n') + 1;
        offsets[attempt] = offsets.GetValueOrDefault(attempt) + System.Text.Encoding.UTF8.GetByteCount(text.AsSpan(0, whole));
        return text[..whole].Split('\n', StringSplitOptions.RemoveEmptyEntries);
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
