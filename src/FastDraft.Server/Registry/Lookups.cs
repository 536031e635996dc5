using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Caching;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Stages.IngestCorpus;
using FastDraft.Stages.PromoteDraft;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Registry;

/// <summary>What a lookup found: the outcome to follow, and the artifacts of an earlier run. <paramref name="FromRunId"/> is that run.</summary>
internal sealed record LookupResult(string Outcome, Guid? FromRunId, IReadOnlyList<(string Port, string Kind, string Digest)> Outputs)
{
    /// <summary>An earlier stage run of the same key, taken up.</summary>
    public static LookupResult Of(StageRunRow row, IReadOnlyList<StageRunPortRow> outputs) =>
        new(row.Outcome ?? "Done", row.RunId, [.. outputs.Select(o => (o.Port, o.Kind, o.Digest))]);
}

/// <summary>Answers the stages that only look something up (<see cref="StageDescriptor.IsLookup"/>), while the stage run is prepared.</summary>
internal static class Lookups
{
    public static async Task<LookupResult> AnswerAsync(
        PipelineDbContext db, string definitionId, string stage, JsonObject settings, StageKey key, CancellationToken ct) => stage switch
        {
            FindChampion.Name => await ChampionAsync(db, settings["draftName"]!.GetValue<string>(), key.Paths["target"], ct),
            FindSeenDocuments.Name => await SeenDocumentsAsync(db, definitionId, settings.ToJsonString(), ct),
            _ => throw new StageFailureException(FailureKind.Bug, $"Nothing answers the lookup '{stage}'."),
        };

    private static async Task<LookupResult> ChampionAsync(PipelineDbContext db, string name, string targetDigest, CancellationToken ct)
    {
        var champion = await DraftRegistry.FindAsync(db, name, targetDigest, DraftRegistry.Champion, ct);
        return champion is null
            ? new LookupResult(FindChampion.None, null, [])
            : new LookupResult(
                FindChampion.Found, champion.RunId,
                [(FindChampion.Draft, ArtifactKind.Model, champion.ModelDigest), (FindChampion.Evaluation, ArtifactKind.Evaluation, champion.EvaluationDigest)]);
    }

    // The newest run that ended well decides: what a failed run read was not learnt from, so it counts as new.
    private static async Task<LookupResult> SeenDocumentsAsync(PipelineDbContext db, string definitionId, string settingsJson, CancellationToken ct)
    {
        var candidates = from s in db.StageRuns
                         join r in db.Runs on s.RunId equals r.Id
                         where s.Stage == FindSeenDocuments.Name && s.SettingsJson == settingsJson && r.DefinitionId == definitionId && r.State == RunState.Succeeded
                         orderby r.EndedAt descending, r.Id descending
                         select r.Id;
        foreach (var run in await candidates.ToListAsync(ct))
        {
            var seen = await (from p in db.Ports
                              join s in db.StageRuns on p.StageRunId equals s.Id
                              where s.RunId == run && p.IsOutput && p.Kind == ArtifactKind.SeenDocuments && s.Stage != FindSeenDocuments.Name
                              orderby s.CreatedAt descending
                              select p.Digest).FirstOrDefaultAsync(ct);
            if (seen is not null)
            {
                return new LookupResult(FindSeenDocuments.Found, run, [(FindSeenDocuments.Seen, ArtifactKind.SeenDocuments, seen)]);
            }
        }

        return new LookupResult(FindSeenDocuments.None, null, []);
    }
}
