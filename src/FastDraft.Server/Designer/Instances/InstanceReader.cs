using FastDraft.Server.Definitions;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Designer.Instances;

/// <summary>Finds runs for the designer, and the definition that each of them ran.</summary>
internal sealed class InstanceReader(PipelineStore store)
{
    private const string VersionPrefix = "run-";

    /// <summary>
    /// A run shows the definition that it carries, under this version id: a draft changes after it was run, a file is no version at all.
    /// </summary>
    public static string VersionIdOf(Guid run) => VersionPrefix + run.ToString("N");

    /// <summary>The run that a version id means; null where it means a stored version.</summary>
    public static Guid? RunOf(string versionId) =>
        versionId.StartsWith(VersionPrefix, StringComparison.Ordinal) && Guid.TryParseExact(versionId[VersionPrefix.Length..], "N", out var run) ? run : null;

    public static string ExecutionIdOf(Guid run, string activityInstanceId) => $"{run:N}.{activityInstanceId}";

    /// <summary>The run of an execution's id.</summary>
    public static string? RunOfExecution(string executionId) => executionId.Length > 33 && executionId[32] == '.' ? executionId[..32] : null;

    public async Task<RunInstance?> FindAsync(string id, CancellationToken ct)
    {
        if (!Guid.TryParse(id, out var runId))
        {
            return null;
        }

        await using var db = store.Open();
        if (await db.Runs.AsNoTracking().SingleOrDefaultAsync(r => r.Id == runId && r.DeletedAt == null, ct) is not { } run)
        {
            return null;
        }

        var stages = await db.StageRuns.AsNoTracking().Where(s => s.RunId == runId).OrderBy(s => s.CreatedAt).ToListAsync(ct);
        var ids = stages.Select(s => s.Id).ToList();
        var attempts = await db.Attempts.AsNoTracking().Where(a => ids.Contains(a.StageRunId)).OrderBy(a => a.Number).ToListAsync(ct);
        var tails = new Dictionary<Guid, AttemptTail>();
        foreach (var open in attempts.Where(a => a.EndedAt is null))
        {
            tails[open.Id] = await AttemptTail.ReadAsync(db, open.Id, ct);
        }

        return new RunInstance(
            run,
            await db.Journal.AsNoTracking().Where(j => j.RunId == runId).OrderBy(j => j.Id).ToListAsync(ct),
            stages,
            attempts,
            await db.Ports.AsNoTracking().Where(p => ids.Contains(p.StageRunId)).OrderBy(p => p.Port).ToListAsync(ct),
            await db.Waits.AsNoTracking().Where(w => w.RunId == runId).OrderBy(w => w.CreatedAt).ToListAsync(ct),
            attempt => tails[attempt.Id]);
    }

    public async Task<StoredDefinition?> FindDefinitionAsync(Guid runId, CancellationToken ct)
    {
        await using var db = store.Open();
        return await db.Runs.AsNoTracking().Where(r => r.Id == runId && r.DeletedAt == null)
            .Select(r => new { r.DefinitionId, r.DefinitionVersion, r.WorkflowName, r.CreatedAt, r.DefinitionJson }).SingleOrDefaultAsync(ct) is { } run
            ? new StoredDefinition(
                new DefinitionHead(
                    VersionIdOf(runId), run.DefinitionId.Length > 0 ? run.DefinitionId : run.WorkflowName, run.DefinitionVersion, run.WorkflowName, null, IsLatest: false, IsPublished: false,
                    IsReadOnly: true, DateTimeOffset.FromUnixTimeMilliseconds(run.CreatedAt)),
                run.DefinitionJson)
            : null;
    }
}
