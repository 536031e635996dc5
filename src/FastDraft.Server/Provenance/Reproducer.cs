using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Lineage;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Projections.OpenTelemetry;
using FastDraft.Server.Worker;
using FastDraft.Storage;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Provenance;

/// <summary>
/// Does again what made an artifact, in a folder of its own, and compares digests. It writes no row and puts nothing into the store:
/// what comes out is a statement about what is there, not another version of it. A kill leaves the folder, which the next one removes.
/// </summary>
public sealed class Reproducer(PipelineOptions options, PipelineStore store)
{
    private const string LockName = "lock";

    private string Parent => Path.Combine(store.DataFolder, "reproductions");

    /// <param name="whole">Every stage run from the files outside the store on, each fed by what the ones before it made now; otherwise only
    /// the one that made the artifact, fed from the store.</param>
    /// <param name="onStage">Told before each stage run.</param>
    /// <exception cref="StageFailureException">Nothing in the tables made it, this build has not its stage, or a stage failed.</exception>
    public async Task<Reproduction> ReproduceAsync(string digest, bool whole, Action<string> onStage, CancellationToken ct)
    {
        var origin = await ArtifactOrigin.FindAsync(store, digest, ct);
        var steps = await StepsAsync(origin, whole, ct);
        var changed = await ChangedInputsAsync(steps, ct);
        var result = new Reproduction(digest, origin.Manifest.Kind, origin.Code, changed, []);
        if (changed.Count > 0)
        {
            return result;
        }

        var folder = Path.Combine(Parent, Guid.CreateVersion7().ToString("N"));
        Directory.CreateDirectory(folder);
        using var alive = FileLock.TryTake(Path.Combine(folder, LockName)) ?? throw new IOException($"'{folder}' is in use.");
        RemoveDead();
        try
        {
            // What was made now, by the digest of then: a later step takes it in the place of what the store has.
            var made = new Dictionary<string, string>(StringComparer.Ordinal);
            var stages = new List<ReproducedStage>();
            foreach (var step in steps)
            {
                onStage(step.Row.ActivityId);
                stages.Add(await RunAsync(step, Path.Combine(folder, step.Row.Id.ToString("N")), made, ct));
            }

            return result with { Stages = stages };
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>The stage runs to do again, each after those that feed it. Of several that made equal bytes the first one counts.</summary>
    private async Task<IReadOnlyList<Step>> StepsAsync(ArtifactOrigin origin, bool whole, CancellationToken ct)
    {
        var ids = whole ? Chain(origin.Upstream) : [origin.StageRun.Id];
        await using var db = store.Open();
        var rows = await db.StageRuns.AsNoTracking().Where(s => EF.Parameter(ids).Contains(s.Id)).ToDictionaryAsync(s => s.Id, ct);
        var ports = (await db.Ports.AsNoTracking().Where(p => EF.Parameter(ids).Contains(p.StageRunId)).OrderBy(p => p.Port).ToListAsync(ct)).ToLookup(p => p.StageRunId);
        return
        [
            .. ids.Select(id => new Step(
                rows[id],
                options.Stages.FirstOrDefault(s => s.Name == rows[id].Stage) ?? throw new StageFailureException(FailureKind.Config, $"This build has no stage '{rows[id].Stage}'.", $"the version that made it: {origin.Code}"),
                [.. ports[id]])),
        ];
    }

    private static List<Guid> Chain(LineageView upstream)
    {
        var nodes = upstream.Nodes.ToDictionary(n => n.Id, StringComparer.Ordinal);
        var into = upstream.Edges.ToLookup(e => e.To, e => e.From, StringComparer.Ordinal);
        var chain = new List<Guid>();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var open = new Stack<(string Artifact, string? Stage)>([(upstream.Start, null)]);
        while (open.TryPop(out var next))
        {
            if (next.Stage is { } done)
            {
                chain.Add(Guid.Parse(done.AsSpan("stage:".Length)));
            }
            else if (into[next.Artifact].MinBy(s => nodes[s].Stage!.EndedAt) is { } maker && seen.Add(maker))
            {
                // Taken up again once everything that feeds it has been.
                open.Push((next.Artifact, maker));
                foreach (var input in into[maker])
                {
                    open.Push((input, null));
                }
            }
        }

        return chain;
    }

    private async Task<IReadOnlyList<ChangedInput>> ChangedInputsAsync(IReadOnlyList<Step> steps, CancellationToken ct)
    {
        using var keys = new KeyBuilder(store, options.ExpandPath);
        await using var db = store.Open();
        var changed = new List<ChangedInput>();
        foreach (var step in steps)
        {
            foreach (var (setting, paths) in step.Stage.PathsIn(step.Settings))
            {
                var recorded = step.Ports.Single(p => p.Port == "setting:" + setting.Name).Digest;
                IReadOnlyList<ExternalFile> now = [];
                try
                {
                    var content = (await keys.PathsAsync(step.Stage with { Settings = [setting] }, step.Settings, ct))[setting.Name];
                    if (content.Digest.ToString() == recorded)
                    {
                        continue;
                    }

                    now = content.Files;
                }
                catch (StageFailureException)
                {
                    // Nothing is there any more: all that was read is missing.
                }

                var then = await db.ExternalFiles.AsNoTracking().Where(f => f.Digest == recorded).Select(f => new ExternalFile(f.Path, f.FileDigest, f.SizeBytes)).ToListAsync(ct);
                var found = Differences(then, now).Select(d => new ChangedInput(step.Row.ActivityId, setting.Name, d.Path, d.Change)).Distinct().ToList();
                changed.AddRange(found.Count > 0 ? found : paths.Select(p => new ChangedInput(step.Row.ActivityId, setting.Name, p, "changed")));
            }
        }

        return changed;
    }

    /// <summary>By name: where the files lie may have changed, and is not what they are.</summary>
    private static IEnumerable<(string Path, string Change)> Differences(IReadOnlyList<ExternalFile> then, IReadOnlyList<ExternalFile> now)
    {
        var present = now.ToLookup(f => Path.GetFileName(f.Path), StringComparer.Ordinal);
        var earlier = then.ToLookup(f => Path.GetFileName(f.Path), StringComparer.Ordinal);
        foreach (var file in then.Where(f => !present[Path.GetFileName(f.Path)].Any(n => n.Digest == f.Digest)))
        {
            yield return (file.Path, present.Contains(Path.GetFileName(file.Path)) ? "changed" : "missing");
        }

        foreach (var file in now.Where(f => !earlier.Contains(Path.GetFileName(f.Path))))
        {
            yield return (file.Path, "new");
        }
    }

    private async Task<ReproducedStage> RunAsync(Step step, string folder, Dictionary<string, string> made, CancellationToken ct)
    {
        var inputs = new Dictionary<string, string>();
        foreach (var port in step.Ports.Where(p => !p.IsOutput && !p.External))
        {
            if (!made.TryGetValue(port.Digest, out var source))
            {
                source = Path.Combine(folder, "in", port.Port);
                await store.Artifacts.MaterializeAsync(Digest.Parse(port.Digest), source, ct);
            }

            inputs[port.Port] = source;
        }

        var scratch = Directory.CreateDirectory(Path.Combine(folder, "scratch")).FullName;
        var outputs = step.Stage.Outputs.ToDictionary(o => o.Name, o => Path.Combine(folder, "out", o.Name));
        var job = new WorkerJob(
            step.Row.Stage, step.Settings, inputs, outputs, scratch, Directory.CreateDirectory(Path.Combine(folder, "resume")).FullName, step.Settings["accelerator"]?.GetValue<string>() ?? "cpu");
        var jobFile = Path.Combine(folder, "job.json");
        await File.WriteAllTextAsync(jobFile, JsonSerializer.Serialize(job), ct);
        var result = await WorkerProcess.RunAsync(options, jobFile, new OwnLife(options.Clock), _ => { }, _ => { }, ct);
        ct.ThrowIfCancellationRequested();
        if (result.ExitCode != ExitCode.Ok)
        {
            throw new StageFailureException(FailureKind.Data, $"Stage '{step.Row.ActivityId}' failed when it was run again: {result.Failure ?? $"exit code {result.ExitCode}"}", result.Hint);
        }

        var compared = new List<ReproducedOutput>();
        foreach (var port in step.Ports.Where(p => p.IsOutput))
        {
            var now = await FolderManifest.OfAsync(port.Kind, outputs[port.Port], ct);
            var digest = now.ComputeDigest().ToString();
            made[port.Digest] = outputs[port.Port];
            compared.Add(new ReproducedOutput(port.Port, port.Kind, port.Digest, digest, digest == port.Digest ? null : await FirstDifferenceAsync(port.Digest, now, ct)));
        }

        return new ReproducedStage(step.Row.ActivityId, step.Row.Stage, step.Row.StageVersion, step.Stage.Version, step.Row.RunId, compared);
    }

    private async Task<string> FirstDifferenceAsync(string recorded, ArtifactManifest now, CancellationToken ct)
    {
        try
        {
            var then = await store.Artifacts.ManifestAsync(Digest.Parse(recorded), ct);
            return then.Files.Select(f => f.Path).Union(now.Files.Select(f => f.Path)).Order(StringComparer.Ordinal)
                .First(path => then.Files.FirstOrDefault(f => f.Path == path)?.Digest != now.Files.FirstOrDefault(f => f.Path == path)?.Digest);
        }
        catch (StageFailureException)
        {
            return "(the store no longer has what it was)";
        }
    }

    private void RemoveDead()
    {
        foreach (var folder in Directory.EnumerateDirectories(Parent))
        {
            using var dead = FileLock.TryTake(Path.Combine(folder, LockName));
            if (dead is not null)
            {
                Directory.Delete(folder, recursive: true);
            }
        }
    }

    /// <summary>As long as this process lives: a worker whose standard input ends, ends itself.</summary>
    private sealed class OwnLife(TimeProvider clock) : IWorkerLife
    {
        private static readonly TimeSpan Term = TimeSpan.FromMinutes(1);

        public Guid Id { get; } = Guid.CreateVersion7();

        public string Trace => TraceIds.Parent(Id, Id);

        public long Renewal => clock.GetUtcNow().ToUnixTimeSeconds() / 10;

        public TimeSpan Remaining => Term;
    }

    private sealed record Step(StageRunRow Row, StageDescriptor Stage, IReadOnlyList<StageRunPortRow> Ports)
    {
        public JsonObject Settings { get; } = JsonNode.Parse(Row.SettingsJson)!.AsObject();
    }
}
