using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Server.Dispatch;
using FastDraft.Stages.PromoteDraft;
using FastDraft.Storage;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Registry;

/// <summary>One version of a draft. <paramref name="Decision"/> is the sentence of the last decision about it.</summary>
public sealed record DraftView(
    string Name, int Version, IReadOnlyList<string> Aliases, string ModelDigest, string EvaluationDigest, string TargetDigest, Guid RunId, DateTimeOffset CreatedAt, string? Decision);

/// <summary>One move of an alias. <paramref name="PromotionDigest"/> is the artifact with the figures, where a run decided.</summary>
public sealed record AliasMoveView(
    DateTimeOffset At, string Alias, int? FromVersion, int ToVersion, string Who, string Why, Guid? RunId, string? PromotionDigest, string TargetDigest);

/// <summary>
/// Named drafts, their versions, and which of them is champion. Every change writes the alias and a row of its history in the
/// caller's transaction: there is no state in which one is written and the other not.
/// </summary>
public static class DraftRegistry
{
    public const string Champion = "champion";
    public const string Challenger = "challenger";

    /// <summary>The draft that an alias names, or null.</summary>
    public static async Task<DraftRow?> FindAsync(PipelineDbContext db, string name, string targetDigest, string alias, CancellationToken ct) =>
        await (from a in db.DraftAliases
               join d in db.Drafts on new { a.Name, a.Version } equals new { d.Name, d.Version }
               where a.Name == name && a.TargetDigest == targetDigest && a.Alias == alias
               select d).SingleOrDefaultAsync(ct);

    /// <summary>
    /// Carries out what a stage run's <c>promotion</c> output decided; does nothing for a stage run without one. Belongs into the
    /// transaction that commits the stage run, be it computed or cached.
    /// </summary>
    /// <param name="outputs">The outputs about to be committed, as port, kind and digest.</param>
    /// <exception cref="StageFailureException">The champion is no longer the one that the decision compared with.</exception>
    internal static async Task ApplyAsync(
        PipelineDbContext db, IArtifactStore artifacts, StageRunRow stageRun, IEnumerable<(string Port, string Kind, string Digest)> outputs, long now, CancellationToken ct)
    {
        if (outputs.FirstOrDefault(o => o.Kind == ArtifactKind.Promotion) is not { Digest: { } promotion })
        {
            return;
        }

        var decision = await ReadAsync(artifacts, promotion, ct);
        var ports = await db.Ports.AsNoTracking().Where(p => p.StageRunId == stageRun.Id && !p.IsOutput).ToDictionaryAsync(p => p.Port, p => p.Digest, ct);
        await ApplyAsync(
            db, JsonNode.Parse(stageRun.SettingsJson)!["draftName"]!.GetValue<string>(), ports["setting:target"], ports[PromoteDraftStage.Draft], ports[PromoteDraftStage.Evaluation],
            ports.GetValueOrDefault(PromoteDraftStage.Champion), decision, promotion, stageRun.RunId, now, ct);
    }

    /// <summary>What <c>decision.json</c> of a promotion says.</summary>
    public static async Task<PromotionDecision> ReadAsync(IArtifactStore artifacts, string promotionDigest, CancellationToken ct) =>
        PromotionDecision.Parse(Encoding.UTF8.GetString(await artifacts.ReadAsync(Digest.Parse(promotionDigest), PromotionDecision.FileName, ct)));

    /// <summary>Every version, of one name or of all, for one target or for any, the newest first.</summary>
    /// <param name="target">The digest of the target's content, or the beginning of it.</param>
    /// <exception cref="StageFailureException">There is no draft of that name.</exception>
    public static async Task<IReadOnlyList<DraftView>> ListAsync(PipelineStore store, string? name, string? target, CancellationToken ct)
    {
        await using var db = store.Open();
        var prefix = target is null || target.StartsWith("sha256:", StringComparison.Ordinal) ? target : "sha256:" + target;
        var rows = await db.Drafts.AsNoTracking().Where(d => (name == null || d.Name == name) && (prefix == null || d.TargetDigest.StartsWith(prefix))).OrderByDescending(d => d.CreatedAt).ThenByDescending(d => d.Version).ToListAsync(ct);
        if (rows.Count == 0 && name is not null)
        {
            throw NoDraft($"There is no draft '{name}'.");
        }

        var aliases = (await db.DraftAliases.AsNoTracking().ToListAsync(ct)).ToLookup(a => (a.Name, a.Version), a => a.Alias);
        var reasons = (await db.DraftAliasMoves.AsNoTracking().Where(m => name == null || m.Name == name).OrderBy(m => m.Id).ToListAsync(ct))
            .ToLookup(m => (m.Name, m.ToVersion), m => m.Why);
        return [.. rows.Select(d => View(d, [.. aliases[(d.Name, d.Version)].Order(StringComparer.Ordinal)], reasons[(d.Name, d.Version)].LastOrDefault()))];
    }

    /// <summary>The digest under which drafts for the target in a folder are registered: that of its content, wherever it lies.</summary>
    /// <exception cref="StageFailureException">The folder holds no file.</exception>
    public static async Task<string> TargetDigestAsync(PipelineStore store, PipelineOptions options, string folder, CancellationToken ct)
    {
        var setting = new SettingDescriptor("target", SettingType.Path, "The target");
        using var keys = new KeyBuilder(store, options.ExpandPath);
        var paths = await keys.PathsAsync(new StageDescriptor("", 1, "", [setting], [], []), new JsonObject { [setting.Name] = Path.GetFullPath(folder) }, ct);
        return paths[setting.Name].Digest.ToString();
    }

    /// <summary>Every move of an alias of a name, the newest first.</summary>
    /// <exception cref="StageFailureException">There is no draft of that name.</exception>
    public static async Task<IReadOnlyList<AliasMoveView>> HistoryAsync(PipelineStore store, string name, CancellationToken ct)
    {
        await using var db = store.Open();
        var moves = await db.DraftAliasMoves.AsNoTracking().Where(m => m.Name == name).OrderByDescending(m => m.Id).ToListAsync(ct);
        return moves.Count == 0 ? throw NoDraft($"There is no draft '{name}'.") : [.. moves.Select(m => new AliasMoveView(
            DateTimeOffset.FromUnixTimeMilliseconds(m.At), m.Alias, m.FromVersion, m.ToVersion, m.Who, m.Why, m.RunId, m.PromotionDigest, m.TargetDigest))];
    }

    /// <summary>Makes a version the champion by hand.</summary>
    /// <exception cref="StageFailureException">There is no such draft, or it is the champion already.</exception>
    public static Task<DraftView> PromoteAsync(PipelineStore store, string name, int version, string who, string why, DateTimeOffset now, CancellationToken ct) =>
        AliasAsync(store, name, version, Champion, who, why, now, ct);

    /// <summary>Makes a version the champion or the challenger by hand; <paramref name="why"/> is kept for ever.</summary>
    /// <exception cref="StageFailureException">There is no such draft, or it has the alias already.</exception>
    public static async Task<DraftView> AliasAsync(PipelineStore store, string name, int version, string alias, string who, string why, DateTimeOffset now, CancellationToken ct)
    {
        DraftRow? draft = null;
        await store.Database.TransactAsync(
            async db =>
            {
                draft = await db.Drafts.SingleOrDefaultAsync(d => d.Name == name && d.Version == version, ct)
                    ?? throw NoDraft($"There is no draft '{name}' version {version}.");
                if (await FindAsync(db, name, draft.TargetDigest, alias, ct) is { } current && current.Version == version)
                {
                    throw new StageFailureException(FailureKind.Config, $"'{name}' version {version} is the {alias} already.", $"fastdraft models show {name}");
                }

                if (alias == Challenger && (await FindAsync(db, name, draft.TargetDigest, Champion, ct))?.Version == version)
                {
                    throw new StageFailureException(FailureKind.Config, $"'{name}' version {version} is the champion: nobody challenges itself.", $"fastdraft models show {name}");
                }

                await MoveAsync(db, draft, alias, who, why, null, null, now.ToUnixTimeMilliseconds(), ct);
                return true;
            },
            ct);
        return View(draft!, [alias], why);
    }

    /// <summary>Makes the champion before the present one champion again.</summary>
    /// <param name="targetDigest">Needed only where the name has champions for several targets.</param>
    /// <exception cref="StageFailureException">There is no earlier champion, or several targets fit.</exception>
    public static async Task<DraftView> RollbackAsync(PipelineStore store, string name, string? targetDigest, string who, string why, DateTimeOffset now, CancellationToken ct)
    {
        await using var db = store.Open();
        var champions = await db.DraftAliases.AsNoTracking()
            .Where(a => a.Name == name && a.Alias == Champion && (targetDigest == null || a.TargetDigest.StartsWith(targetDigest))).ToListAsync(ct);
        if (champions.Count != 1)
        {
            throw new StageFailureException(
                FailureKind.Config,
                champions.Count == 0 ? $"'{name}' has no champion." : $"'{name}' has champions for {champions.Count} targets.",
                champions.Count == 0 ? "fastdraft models list" : "--target with the first characters of one of: " + string.Join(", ", champions.Select(c => c.TargetDigest[..19])));
        }

        // The first time it became champion: going back twice must not come forward again.
        var move = await db.DraftAliasMoves.AsNoTracking()
            .Where(m => m.Name == name && m.TargetDigest == champions[0].TargetDigest && m.Alias == Champion && m.ToVersion == champions[0].Version)
            .OrderBy(m => m.Id).FirstAsync(ct);
        return move.FromVersion is { } earlier
            ? await PromoteAsync(store, name, earlier, who, why, now, ct)
            : throw new StageFailureException(FailureKind.Config, $"'{name}' version {move.ToVersion} is the first champion: there is none to go back to.", $"fastdraft models history {name}");
    }

    private static StageFailureException NoDraft(string message) => new(FailureKind.Config, message, "fastdraft models list");

    private static DraftView View(DraftRow d, IReadOnlyList<string> aliases, string? decision) => new(
        d.Name, d.Version, aliases, d.ModelDigest, d.EvaluationDigest, d.TargetDigest, d.RunId, DateTimeOffset.FromUnixTimeMilliseconds(d.CreatedAt), decision);

    private static async Task ApplyAsync(
        PipelineDbContext db, string name, string target, string model, string evaluation, string? champion, PromotionDecision decision, string promotion, Guid runId, long now, CancellationToken ct)
    {
        // Two runs, or a person, may decide about the same name at once: what was compared with the champion of then says nothing about today's.
        var current = await FindAsync(db, name, target, Champion, ct);
        if (current?.ModelDigest != champion)
        {
            throw new StageFailureException(
                FailureKind.Data, $"The champion of '{name}' changed while this run compared with it: it is now version {current?.Version.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "none"}.", "Run the workflow again.");
        }

        var draft = await db.Drafts.SingleOrDefaultAsync(d => d.Name == name && d.TargetDigest == target && d.ModelDigest == model, ct);
        if (draft is null)
        {
            var newest = await db.Drafts.Where(d => d.Name == name).MaxAsync(d => (int?)d.Version, ct) ?? 0;
            draft = new DraftRow
            {
                Id = Guid.CreateVersion7(),
                Name = name,
                Version = newest + 1,
                TargetDigest = target,
                ModelDigest = model,
                EvaluationDigest = evaluation,
                RunId = runId,
                CreatedAt = now,
            };
            db.Drafts.Add(draft);
            await db.SaveChangesAsync(ct);
        }

        if (draft.Version != current?.Version)
        {
            await MoveAsync(db, draft, decision.IsPromoted ? Champion : Challenger, "PromoteDraft", decision.Reason, runId, promotion, now, ct);
        }
    }

    private static async Task MoveAsync(
        PipelineDbContext db, DraftRow draft, string alias, string who, string why, Guid? runId, string? promotion, long now, CancellationToken ct)
    {
        var row = await db.DraftAliases.FindAsync([draft.Name, draft.TargetDigest, alias], ct);
        var from = row?.Version;
        var before = from is null ? null : await db.Drafts.Where(d => d.Name == draft.Name && d.Version == from).Select(d => d.ModelDigest).SingleOrDefaultAsync(ct);
        db.DraftAliasMoves.Add(new DraftAliasMoveRow
        {
            Name = draft.Name,
            TargetDigest = draft.TargetDigest,
            Alias = alias,
            FromVersion = from,
            ToVersion = draft.Version,
            At = now,
            Who = who,
            Why = why,
            RunId = runId,
            PromotionDigest = promotion,
        });
        row ??= db.DraftAliases.Add(new DraftAliasRow { Name = draft.Name, TargetDigest = draft.TargetDigest, Alias = alias }).Entity;
        row.Version = draft.Version;

        var details = new JsonObject
        {
            ["alias"] = alias, ["fromVersion"] = from, ["toVersion"] = draft.Version, ["target"] = draft.TargetDigest, ["why"] = why, ["run"] = runId?.ToString(), ["promotion"] = promotion,
        };

        // Nobody challenges itself.
        if (alias == Champion && await db.DraftAliases.FindAsync([draft.Name, draft.TargetDigest, Challenger], ct) is { } challenger && challenger.Version == draft.Version)
        {
            db.DraftAliases.Remove(challenger);
        }

        db.Remember(new AuditEntry(AuditAction.DraftAliasMoved, draft.Name, before, draft.ModelDigest, details, runId is null ? null : Actor.Workflow));
    }
}
