using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Projections.Mlflow;

/// <summary>Where runs are shown in MLflow.</summary>
public static class MlflowLinks
{
    /// <summary>Address by id of a run and of its stage runs; those that MLflow has.</summary>
    public static async Task<IReadOnlyDictionary<Guid, Uri>> OfRunAsync(PipelineStore store, Guid runId, CancellationToken ct = default)
    {
        await using var db = store.Open();
        var rows = await db.MlflowRuns.AsNoTracking()
            .Where(m => m.SubjectId == runId || db.StageRuns.Any(s => s.RunId == runId && s.Id == m.SubjectId)).ToListAsync(ct);

        // Where a run is on two servers because the address changed, either shows it.
        return rows.GroupBy(r => r.SubjectId).ToDictionary(g => g.Key, g => Address(g.Last()));
    }

    internal static Uri Address(MlflowRunRow row) => new($"{row.Server}/#/experiments/{row.ExperimentId}/runs/{row.MlflowRunId}");
}
