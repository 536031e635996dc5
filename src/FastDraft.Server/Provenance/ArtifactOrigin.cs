using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Lineage;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Lineage;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Provenance;

/// <summary>
/// Where an artifact came from, as the tables know it: its files, the stage run that first made it, the run of that, and everything
/// upstream. What is told of an artifact to the outside is made of this when somebody asks; nothing of it is in the artifact's bytes, so
/// that a second run of the same inputs has the same digest.
/// </summary>
internal sealed record ArtifactOrigin(
    Digest Digest, ArtifactManifest Manifest, StageRunRow StageRun, RunRow Run, IReadOnlyDictionary<string, string> Environment,
    IReadOnlyList<StageRunPortRow> Ports, LineageView Upstream)
{
    private const int MaxNodes = 100_000;

    /// <summary>The version of the code that made it, with its commit where the build knew it.</summary>
    public string Code => Environment.GetValueOrDefault("code") ?? "unknown";

    public IEnumerable<StageRunPortRow> Inputs => Ports.Where(p => !p.IsOutput && !p.External);

    /// <exception cref="StageFailureException">Nothing in the tables made it, or its manifest is not in the store.</exception>
    public static async Task<ArtifactOrigin> FindAsync(PipelineStore store, string digest, CancellationToken ct)
    {
        await using var db = store.Open();
        var found = await (from a in db.Artifacts.AsNoTracking()
                           join s in db.StageRuns.AsNoTracking() on a.StageRunId equals s.Id
                           join r in db.Runs.AsNoTracking() on s.RunId equals r.Id
                           where a.Digest == digest
                           select new { StageRun = s, Run = r }).SingleOrDefaultAsync(ct)
            ?? throw new StageFailureException(FailureKind.Data, $"No stage run that made {digest} is known here.", "fastdraft artifacts list");
        var environment = await db.Attempts.Where(a => a.StageRunId == found.StageRun.Id && a.State == StageRunState.Succeeded).Select(a => a.EnvironmentJson).FirstOrDefaultAsync(ct);
        return new ArtifactOrigin(
            Digest.Parse(digest), await store.Artifacts.ManifestAsync(Digest.Parse(digest), ct), found.StageRun, found.Run,
            JsonNode.Parse(environment ?? "{}")!.AsObject().ToDictionary(p => p.Key, p => p.Value!.GetValue<string>()),
            await db.Ports.AsNoTracking().Where(p => p.StageRunId == found.StageRun.Id).OrderBy(p => p.Port).ToListAsync(ct),
            await store.Queries.LineageAsync(new LineageQuery(digest, LineageDirection.Upstream, Limit: MaxNodes), ct));
    }
}
