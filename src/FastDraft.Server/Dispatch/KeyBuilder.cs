using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Caching;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>Makes StageKeys and finds earlier stage runs that have them.</summary>
internal sealed class KeyBuilder(PipelineStore store, Func<string, IReadOnlyList<string>>? expandPath)
{
    public async Task<StageKey> BuildAsync(StageDescriptor stage, JsonObject settings, IReadOnlyDictionary<string, Digest> inputs, CancellationToken ct)
    {
        var paths = new Dictionary<string, Digest>();
        foreach (var setting in stage.Settings.Where(s => s.Type is SettingType.Path or SettingType.PathList))
        {
            if (settings[setting.Name] is { } value)
            {
                var items = value is JsonArray array ? array.Select(n => n!.GetValue<string>()).ToList() : [value.GetValue<string>()];
                var text = new StringBuilder();
                foreach (var item in items)
                {
                    text.Append((await OfPathAsync(setting.Name, item, ct)).ToString()).Append('\n');
                }

                paths[setting.Name] = Digest.OfBytes(Encoding.UTF8.GetBytes(text.ToString()));
            }
        }

        var environment = new Dictionary<string, string> { ["architecture"] = RuntimeInformation.ProcessArchitecture.ToString() };
        return StageKey.Of(stage, settings, paths, inputs, environment);
    }

    /// <summary>The newest stage run with this key whose outputs are all whole, and those outputs.</summary>
    public async Task<(StageRunRow Row, IReadOnlyList<StageRunPortRow> Outputs)?> FindAsync(PipelineDbContext db, Digest key, CancellationToken ct)
    {
        var text = key.ToString();
        foreach (var row in await db.StageRuns.AsNoTracking().Where(s => s.KeyDigest == text && s.State == StageRunState.Succeeded)
            .OrderByDescending(s => s.EndedAt).Take(3).ToListAsync(ct))
        {
            var outputs = await db.Ports.AsNoTracking().Where(p => p.StageRunId == row.Id && p.IsOutput).ToListAsync(ct);
            var whole = true;
            foreach (var output in outputs)
            {
                whole &= await store.Artifacts.IsWholeAsync(Digest.Parse(output.Digest), ct);
            }

            if (whole)
            {
                return (row, outputs);
            }
        }

        return null;
    }

    public static async Task<IReadOnlyList<string>> ExplainAsync(PipelineDbContext db, StageKey key, string activityId, CancellationToken ct)
    {
        var previous = await db.StageRuns.AsNoTracking()
            .Where(s => s.Stage == key.Stage && s.KeyJson != null && (s.State == StageRunState.Succeeded || s.State == StageRunState.Cached))
            .OrderByDescending(s => s.ActivityId == activityId).ThenByDescending(s => s.EndedAt).Select(s => s.KeyJson).FirstOrDefaultAsync(ct);
        return StageKey.Explain(previous is null ? null : StageKey.FromJson(previous), key);
    }

    private async Task<Digest> OfPathAsync(string setting, string path, CancellationToken ct)
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
        await using var db = store.Open();
        foreach (var file in files.Select(Path.GetFullPath))
        {
            var info = new FileInfo(file);
            var row = await db.PathDigests.FindAsync([file], ct);
            if (row is null || row.SizeBytes != info.Length || row.ModifiedTicks != info.LastWriteTimeUtc.Ticks)
            {
                await using var stream = info.OpenRead();
                var digest = await Digest.OfStreamAsync(stream, ct);
                row ??= db.PathDigests.Add(new PathDigestRow { Path = file }).Entity;
                (row.SizeBytes, row.ModifiedTicks, row.Digest) = (info.Length, info.LastWriteTimeUtc.Ticks, digest.ToString());
            }

            lines.Add((folder is null ? info.Name : Path.GetRelativePath(folder, file)) + "\0" + row.Digest);
        }

        await db.SaveChangesAsync(ct);
        return Digest.OfBytes(Encoding.UTF8.GetBytes(string.Join('\n', lines.Order(StringComparer.Ordinal))));
    }
}
