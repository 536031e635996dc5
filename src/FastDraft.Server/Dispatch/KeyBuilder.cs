using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Caching;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Lineage;
using FastDraft.Storage;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>An earlier stage run with the same key whose outputs are whole, byte by byte.</summary>
internal sealed record CacheHit(StageRunRow Row, IReadOnlyList<StageRunPortRow> Outputs);

/// <summary>What a path setting denotes: the digest of its content, and the files that it is.</summary>
internal sealed record PathContent(Digest Digest, IReadOnlyList<ExternalFile> Files);

/// <summary>Makes StageKeys and finds earlier stage runs that have them.</summary>
internal sealed class KeyBuilder(PipelineStore store, Func<string, IReadOnlyList<string>>? expandPath) : IDisposable
{
    private const int FilesOfAQuery = 256;

    // A file may be written again within one tick of its clock without a trace: its digest is kept only once it is older.
    private static readonly TimeSpan Settled = TimeSpan.FromSeconds(2);

    // Twenty runs that name the same target read it once.
    private readonly SemaphoreSlim hashing = new(1);

    public void Dispose() => hashing.Dispose();

    /// <returns>The key, and the files that its path settings denote.</returns>
    public async Task<(StageKey Key, IReadOnlyDictionary<string, PathContent> Paths)> BuildAsync(
        StageDescriptor stage, JsonObject settings, IReadOnlyDictionary<string, Digest> inputs, CancellationToken ct)
    {
        var paths = await PathsAsync(stage, settings, ct);
        var environment = new Dictionary<string, string> { ["architecture"] = RuntimeInformation.ProcessArchitecture.ToString() };
        return (StageKey.Of(stage, settings, paths.ToDictionary(p => p.Key, p => p.Value.Digest), inputs, environment), paths);
    }

    /// <exception cref="StageFailureException">A path setting no longer has the content that the key names.</exception>
    public async Task RequireUnchangedAsync(StageDescriptor stage, JsonObject settings, StageKey key, CancellationToken ct)
    {
        foreach (var (setting, content) in await PathsAsync(stage, settings, ct))
        {
            if (key.Paths.GetValueOrDefault(setting) != content.Digest.ToString())
            {
                throw new StageFailureException(
                    FailureKind.Data, $"Setting '{setting}': the files of {settings[setting]!.ToJsonString()} changed while the stage ran.", "Run it again when they are complete.");
            }
        }
    }

    /// <summary>
    /// The newest stage run with this key whose outputs are all whole. What was damaged on the way there is told in
    /// <paramref name="damaged"/>; what has been collected is passed over.
    /// </summary>
    public async Task<CacheHit?> FindAsync(PipelineDbContext db, Digest key, ICollection<BlobDamage> damaged, CancellationToken ct)
    {
        var text = key.ToString();
        foreach (var row in await db.StageRuns.AsNoTracking().Where(s => s.KeyDigest == text && s.State == StageRunState.Succeeded)
            .OrderByDescending(s => s.EndedAt).Take(3).ToListAsync(ct))
        {
            var outputs = await db.Ports.AsNoTracking().Where(p => p.StageRunId == row.Id && p.IsOutput).ToListAsync(ct);
            var digests = outputs.Select(o => o.Digest).ToList();
            var whole = !await db.Blobs.AnyAsync(b => digests.Contains(b.Digest) && b.CollectionId != null, ct);
            foreach (var digest in !whole ? [] : outputs.Select(o => Digest.Parse(o.Digest)))
            {
                foreach (var damage in await store.Artifacts.VerifyAsync(digest, VerifyDepth.Cheap, ct))
                {
                    whole = false;
                    damaged.Add(damage);
                }
            }

            if (whole)
            {
                return new CacheHit(row, outputs);
            }
        }

        return null;
    }

    /// <summary>Against the last stage run of the activity, else of the stage in another run: two activities of one run are not before and after.</summary>
    /// <param name="runId">The run that the key is of; null where there is none yet.</param>
    public static async Task<IReadOnlyList<string>> ExplainAsync(PipelineDbContext db, StageKey key, Guid? runId, string activityId, CancellationToken ct)
    {
        var previous = await db.StageRuns.AsNoTracking()
            .Where(s => s.Stage == key.Stage && s.KeyJson != null && (s.State == StageRunState.Succeeded || s.State == StageRunState.Cached) && (s.RunId != runId || s.ActivityId == activityId))
            .OrderByDescending(s => s.ActivityId == activityId).ThenByDescending(s => s.EndedAt).Select(s => s.KeyJson).FirstOrDefaultAsync(ct);
        return StageKey.Explain(previous is null ? null : StageKey.FromJson(previous), key);
    }

    /// <summary>What each path setting that has a value denotes now.</summary>
    public async Task<Dictionary<string, PathContent>> PathsAsync(StageDescriptor stage, JsonObject settings, CancellationToken ct)
    {
        var paths = new Dictionary<string, PathContent>();
        foreach (var (setting, items) in stage.PathsIn(settings))
        {
            var (text, files) = (new StringBuilder(), new List<ExternalFile>());
            foreach (var item in items)
            {
                text.Append((await OfPathAsync(setting.Name, item, files, ct)).ToString()).Append('\n');
            }

            paths[setting.Name] = new PathContent(Digest.OfBytes(Encoding.UTF8.GetBytes(text.ToString())), files);
        }

        return paths;
    }

    private async Task<Digest> OfPathAsync(string setting, string path, List<ExternalFile> found, CancellationToken ct)
    {
        var files = expandPath is not null ? expandPath(path)
            : Directory.Exists(path) ? Directory.GetFiles(path, "*", SearchOption.AllDirectories)
            : File.Exists(path) ? [path] : [];
        if (files.Count == 0)
        {
            throw new StageFailureException(FailureKind.Config, $"Setting '{setting}': '{path}' denotes no file.", "Check the path.");
        }

        var folder = Directory.Exists(path) ? Path.GetFullPath(path) : null;
        var lines = new List<string>();
        await hashing.WaitAsync(ct);
        try
        {
            foreach (var chunk in files.Select(Path.GetFullPath).Chunk(FilesOfAQuery))
            {
                foreach (var file in await OfFilesAsync(chunk, ct))
                {
                    found.Add(file);
                    lines.Add((folder is null ? Path.GetFileName(file.Path) : Path.GetRelativePath(folder, file.Path)) + "\0" + file.Digest);
                }
            }
        }
        finally
        {
            hashing.Release();
        }

        return Digest.OfBytes(Encoding.UTF8.GetBytes(string.Join('\n', lines.Order(StringComparer.Ordinal))));
    }

    /// <summary>Digests of files, read only where size or time differ from those of the last reading.</summary>
    private async Task<List<ExternalFile>> OfFilesAsync(string[] files, CancellationToken ct)
    {
        await using var db = store.Open();
        var known = await db.PathDigests.AsNoTracking().Where(r => r.Machine == Environment.MachineName && files.Contains(r.Path)).ToDictionaryAsync(r => r.Path, ct);
        var digests = new List<ExternalFile>();
        var fresh = new List<PathDigestRow>();
        foreach (var file in files)
        {
            // A link's own size and time say nothing about the file it leads to.
            var info = new FileInfo(file);
            info = info.LinkTarget is null ? info : (FileInfo)(info.ResolveLinkTarget(returnFinalTarget: true) ?? info);
            if (known.TryGetValue(file, out var row) && row.SizeBytes == info.Length && row.ModifiedTicks == info.LastWriteTimeUtc.Ticks)
            {
                digests.Add(new ExternalFile(file, row.Digest, row.SizeBytes));
                continue;
            }

            await using var stream = info.OpenRead();
            var digest = (await Digest.OfStreamAsync(stream, ct)).ToString();
            digests.Add(new ExternalFile(file, digest, info.Length));
            if (TimeProvider.System.GetUtcNow() - info.LastWriteTimeUtc > Settled)
            {
                fresh.Add(new PathDigestRow { Machine = Environment.MachineName, Path = file, SizeBytes = info.Length, ModifiedTicks = info.LastWriteTimeUtc.Ticks, Digest = digest });
            }
        }

        if (fresh.Count > 0)
        {
            var paths = fresh.Select(r => r.Path).ToList();
            await store.Database.TransactAsync(
                async change =>
                {
                    await change.PathDigests.Where(r => r.Machine == Environment.MachineName && paths.Contains(r.Path)).ExecuteDeleteAsync(ct);
                    change.PathDigests.AddRange(fresh);
                    return true;
                },
                ct);
        }

        return digests;
    }
}
