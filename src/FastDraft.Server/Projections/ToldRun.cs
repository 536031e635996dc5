using FastDraft.Core.Runs;
using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Projections;

/// <summary>What an event tells of, as the tables have it. What has ended does not change any more, so telling it again tells the same.</summary>
/// <param name="StageRun">Null for an event of the run itself.</param>
/// <param name="Attempts">Of the stage run, in order.</param>
internal sealed record ToldRun(
    RunRow Run, StageRunRow? StageRun, IReadOnlyList<AttemptRow> Attempts, IReadOnlyList<StageRunPortRow> Inputs, IReadOnlyList<StageRunPortRow> Outputs,
    IReadOnlyDictionary<string, ArtifactRow> Artifacts)
{
    /// <exception cref="DeliveryException">The rows are gone.</exception>
    public static async Task<ToldRun> ReadAsync(PipelineStore store, OutboxEventRow told, CancellationToken ct)
    {
        await using var db = store.Open();
        var run = await db.Runs.AsNoTracking().SingleOrDefaultAsync(r => r.Id == told.RunId, ct);
        var stage = told.StageRunId is null ? null : await db.StageRuns.AsNoTracking().SingleOrDefaultAsync(s => s.Id == told.StageRunId, ct);
        if (run is null || (stage is null && told.StageRunId is not null))
        {
            throw new DeliveryException(DeliveryFault.Refused, $"Event {told.Id} ({told.Kind}) tells of a {(run is null ? $"run {told.RunId}" : $"stage run {told.StageRunId}")} that is not in the tables.");
        }

        if (stage is null)
        {
            return new ToldRun(run, null, [], [], [], new Dictionary<string, ArtifactRow>());
        }

        var attempts = await db.Attempts.AsNoTracking().Where(a => a.StageRunId == stage.Id).OrderBy(a => a.Number).ToListAsync(ct);
        var ports = await db.Ports.AsNoTracking().Where(p => p.StageRunId == stage.Id).OrderBy(p => p.Port).ToListAsync(ct);
        var digests = ports.Select(p => p.Digest).ToList();
        var artifacts = await db.Artifacts.AsNoTracking().Where(a => digests.Contains(a.Digest)).ToDictionaryAsync(a => a.Digest, ct);
        return new ToldRun(run, stage, attempts, [.. ports.Where(p => !p.IsOutput)], [.. ports.Where(p => p.IsOutput)], artifacts);
    }

    public bool Succeeded => StageRun?.State is StageRunState.Succeeded or StageRunState.Cached or StageRunState.Skipped;
}
