using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Server.Web;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Definitions;

/// <summary>
/// The workflows of a data folder, and the read-only ones that ship as files. Saving changes the draft, or starts one after a
/// published version; publishing makes the draft immutable and takes the place of the version published before. Each change is
/// one transaction on the content it read, so interleaved saves are one after another and none is lost.
/// </summary>
public sealed class DefinitionStore(PipelineStore store, PipelineOptions options)
{
    private readonly BuiltInWorkflows builtIn = new(options.WorkflowFolder);

    /// <summary>Every version that is meant, by name; a stored definition hides a file with its id.</summary>
    public async Task<IReadOnlyList<DefinitionHead>> ListAsync(VersionSelection selection, CancellationToken ct = default)
    {
        await using var db = store.Open();
        var stored = await db.WorkflowDefinitions.AsNoTracking().Select(r => new DefinitionHead(
            r.Id, r.DefinitionId, r.Version, r.Name, r.Description, r.IsLatest, r.IsPublished, false, DateTimeOffset.FromUnixTimeMilliseconds(r.CreatedAt))).ToListAsync(ct);
        var ids = stored.Select(r => r.DefinitionId).ToHashSet(StringComparer.Ordinal);
        return
        [
            .. stored.Concat(builtIn.List().Select(b => b.Head).Where(b => !ids.Contains(b.DefinitionId)))
                .Where(h => selection.Includes(h.Version, h.IsLatest, h.IsPublished))
                .OrderBy(h => h.Name, StringComparer.OrdinalIgnoreCase).ThenBy(h => h.DefinitionId, StringComparer.Ordinal).ThenByDescending(h => h.Version),
        ];
    }

    /// <summary>The newest version that is meant.</summary>
    public async Task<StoredDefinition?> FindAsync(string definitionId, VersionSelection selection, CancellationToken ct = default)
    {
        await using var db = store.Open();
        var rows = await db.WorkflowDefinitions.AsNoTracking().Where(r => r.DefinitionId == definitionId).OrderByDescending(r => r.Version)
            .Select(r => new { r.Id, r.Version, r.IsLatest, r.IsPublished }).ToListAsync(ct);
        if (rows.Count > 0)
        {
            var meant = rows.FirstOrDefault(r => selection.Includes(r.Version, r.IsLatest, r.IsPublished));
            return meant is null ? null : await FindVersionAsync(meant.Id, ct);
        }

        return builtIn.Find(definitionId) is { } file && selection.Includes(file.Head.Version, true, true) ? file : null;
    }

    public async Task<StoredDefinition?> FindVersionAsync(string versionId, CancellationToken ct = default)
    {
        await using var db = store.Open();
        return await db.WorkflowDefinitions.AsNoTracking().SingleOrDefaultAsync(r => r.Id == versionId, ct) is { } row
            ? Read(row)
            : builtIn.List().FirstOrDefault(b => b.Head.Id == versionId);
    }

    /// <summary>What runs when a workflow is named: its published version, or the file that ships under that id.</summary>
    public Task<StoredDefinition?> FindPublishedAsync(string definitionId, CancellationToken ct = default) => FindAsync(definitionId, VersionSelection.Published, ct);

    /// <summary>Every published version. Those that ship as files are read-only: nobody has published them here, so no trigger starts them by itself.</summary>
    public async Task<IReadOnlyList<StoredDefinition>> ListPublishedAsync(CancellationToken ct = default)
    {
        await using var db = store.Open();
        var stored = await db.WorkflowDefinitions.AsNoTracking().OrderBy(r => r.DefinitionId).ToListAsync(ct);
        var ids = stored.Select(r => r.DefinitionId).ToHashSet(StringComparer.Ordinal);
        return [.. stored.Where(r => r.IsPublished).Select(Read), .. builtIn.List().Where(b => !ids.Contains(b.Head.DefinitionId))];
    }

    /// <summary>
    /// Saves what a person is drawing; it may have mistakes. With <paramref name="publish"/> it must have none: then the draft is
    /// saved all the same, so that no work is lost, and the refusal lists every mistake.
    /// </summary>
    /// <param name="key">Where the model names no id, each save makes another workflow: with a key, one.</param>
    /// <exception cref="DefinitionRefusedException">It is no definition, it ships with the pipeline, or it has mistakes and was to be published.</exception>
    /// <exception cref="KeyReusedException">The key was used for another request.</exception>
    public Task<StoredDefinition> SaveAsync(JsonObject model, bool publish, IdempotencyKey? key = null, CancellationToken ct = default) => SaveAsync(model, publish, AuditAction.DefinitionSaved, key, ct);

    /// <summary>Saves what was drawn elsewhere as a draft, whatever it was there.</summary>
    /// <exception cref="DefinitionRefusedException">It is no definition, or it ships with the pipeline.</exception>
    /// <exception cref="KeyReusedException">The key was used for another request.</exception>
    public Task<StoredDefinition> ImportAsync(JsonObject model, IdempotencyKey? key = null, CancellationToken ct = default) => SaveAsync(model, publish: false, AuditAction.DefinitionImported, key, ct);

    private async Task<StoredDefinition> SaveAsync(JsonObject model, bool publish, string action, IdempotencyKey? key, CancellationToken ct)
    {
        var name = Text(model, "name") is { Length: > 0 } given ? given : throw new DefinitionRefusedException(Refusal.Invalid, ["A workflow has a name."]);
        var wanted = Text(model, "definitionId");
        if (!string.IsNullOrEmpty(wanted) && !DefinitionDocument.IsLegalId(wanted))
        {
            throw new DefinitionRefusedException(Refusal.Invalid, [$"'{Shorten(wanted)}' cannot be a definition id: use letters, digits, '.', '_' and '-', at most 128."]);
        }

        StoredDefinition? saved = null;
        Saving done = new("", []);
        await ChangeAsync(
            async db =>
            {
                saved = null;
                done = await IdempotencyKey.OnceAsync(key, db, options.Clock.GetUtcNow().ToUnixTimeMilliseconds(), () => SaveOnceAsync(db), ct);
                saved ??= await db.WorkflowDefinitions.AsNoTracking().SingleOrDefaultAsync(r => r.Id == done.VersionId, ct) is { } row ? Read(row) : throw DefinitionRefusedException.NotFound("the version that this request made");
            },
            ct);
        return done.Mistakes.Count == 0 ? saved! : throw new DefinitionRefusedException(Refusal.Invalid, done.Mistakes);

        async Task<Saving> SaveOnceAsync(PipelineDbContext db)
        {
            var definitionId = string.IsNullOrEmpty(wanted) ? await FreeIdAsync(db, name, ct) : wanted;
            var latest = await LatestAsync(db, definitionId, ct);
            if (latest is null && builtIn.Find(definitionId) is not null)
            {
                throw DefinitionRefusedException.ReadOnly(definitionId);
            }

            var before = latest?.Json;
            var row = latest is { IsPublished: false } ? latest : await NextVersionAsync(db, latest, definitionId, ct);
            var stored = DefinitionDocument.Stored(model, latest is null ? null : DefinitionDocument.TryParse(latest.Json));
            (stored["id"], stored["definitionId"], stored["version"]) = (row.Id, definitionId, row.Version);
            (row.Name, row.Description, row.Json) = (name, Text(model, "description"), Canonicalised(stored));
            var mistakes = publish ? Mistakes(Read(row)) : [];
            db.Remember(Entry(action, row, before));
            if (publish && mistakes.Count == 0)
            {
                await MarkPublishedAsync(db, row, ct);
            }

            await db.SaveChangesAsync(ct);
            saved = Read(row);
            return new Saving(row.Id, mistakes);
        }
    }

    /// <returns>The version that is now published, and whether it was before.</returns>
    /// <exception cref="DefinitionRefusedException">There is none, it ships with the pipeline, or it has mistakes.</exception>
    public async Task<(StoredDefinition Definition, bool Already)> PublishAsync(string definitionId, CancellationToken ct = default)
    {
        StoredDefinition? published = null;
        var already = false;
        await ChangeAsync(async db =>
        {
            var row = await ExistingAsync(db, definitionId, ct);
            already = row.IsPublished;
            if (!already)
            {
                if (Mistakes(Read(row)) is { Count: > 0 } mistakes)
                {
                    throw new DefinitionRefusedException(Refusal.Invalid, mistakes);
                }

                await MarkPublishedAsync(db, row, ct);
                await db.SaveChangesAsync(ct);
            }

            published = Read(row);
        }, ct);
        return (published!, already);
    }

    /// <returns>The version that was published, or the latest one where none was.</returns>
    /// <exception cref="DefinitionRefusedException">There is none, or it ships with the pipeline.</exception>
    public async Task<(StoredDefinition Definition, bool Already)> RetractAsync(string definitionId, CancellationToken ct = default)
    {
        (StoredDefinition, bool) result = default;
        await ChangeAsync(async db =>
        {
            var latest = await ExistingAsync(db, definitionId, ct);
            var published = await db.WorkflowDefinitions.SingleOrDefaultAsync(r => r.DefinitionId == definitionId && r.IsPublished, ct);
            if (published is not null)
            {
                published.IsPublished = false;
                db.Remember(Entry(AuditAction.DefinitionRetracted, published, published.Json));
                await db.SaveChangesAsync(ct);
            }

            result = (Read(published ?? latest), published is null);
        }, ct);
        return result;
    }

    /// <summary>The content of an earlier version becomes the draft.</summary>
    /// <exception cref="DefinitionRefusedException">There is no such version, or it ships with the pipeline.</exception>
    public async Task<StoredDefinition> RevertAsync(string definitionId, int version, CancellationToken ct = default)
    {
        var earlier = await FindAsync(definitionId, VersionSelection.Exactly(version), ct) ?? throw DefinitionRefusedException.NotFound($"{definitionId} version {version}");
        return await SaveAsync(DefinitionDocument.Parse(earlier.Json), publish: false, ct: ct);
    }

    /// <returns>How many versions were deleted.</returns>
    /// <exception cref="DefinitionRefusedException">It ships with the pipeline.</exception>
    public async Task<int> DeleteAsync(string definitionId, CancellationToken ct = default)
    {
        var deleted = 0;
        await ChangeAsync(async db =>
        {
            deleted = await db.WorkflowDefinitions.Where(r => r.DefinitionId == definitionId).ExecuteDeleteAsync(ct);
            if (deleted > 0)
            {
                db.Remember(new AuditEntry(AuditAction.DefinitionDeleted, definitionId, Details: new JsonObject { ["versions"] = deleted }));
            }
        }, ct);
        return deleted > 0 || builtIn.Find(definitionId) is null ? deleted : throw DefinitionRefusedException.ReadOnly(definitionId);
    }

    /// <summary>Of what remains, the highest version is the latest.</summary>
    public async Task<bool> DeleteVersionAsync(string versionId, CancellationToken ct = default)
    {
        var deleted = false;
        await ChangeAsync(async db =>
        {
            if (await db.WorkflowDefinitions.SingleOrDefaultAsync(r => r.Id == versionId, ct) is not { } row)
            {
                return;
            }

            deleted = true;
            db.Remove(row);
            await db.SaveChangesAsync(ct);
            if (row.IsLatest && await db.WorkflowDefinitions.Where(r => r.DefinitionId == row.DefinitionId).OrderByDescending(r => r.Version).FirstOrDefaultAsync(ct) is { } next)
            {
                next.IsLatest = true;
                await db.SaveChangesAsync(ct);
            }

            db.Remember(new AuditEntry(AuditAction.DefinitionDeleted, row.DefinitionId, Before: DigestOf(row.Json), Details: new JsonObject { ["version"] = row.Version }));
        }, ct);
        return deleted;
    }

    /// <summary>Every mistake that keeps a definition from running, as sentences for a person who sees no file.</summary>
    public IReadOnlyList<string> Mistakes(StoredDefinition definition)
    {
        if (definition.WhyUnreadable() is { } unreadable)
        {
            return [$"This workflow cannot be read: {unreadable}"];
        }

        var errors = WorkflowValidator.Validate(definition.ToDocument().ToJsonString(), definition.Head.Name, options.Stages);

        // The designer gives a dropped activity an id that nobody sees; what it shows is the name.
        var renamed = definition.Parse().Root.SelfAndDescendants().Where(a => a.Id.Length > 0 && a.Name != a.Id).DistinctBy(a => a.Id).ToList();
        return
        [
            .. errors.Select(e => renamed.Aggregate(
                e.Try is null ? e.Message : $"{e.Message.TrimEnd('.')}. Try: {e.Try}", (text, a) => text.Replace($"'{a.Id}'", $"'{a.Name}'", StringComparison.Ordinal))),
        ];
    }

    /// <param name="Mistakes">Why it is not published, where it was to be.</param>
    private sealed record Saving(string VersionId, IReadOnlyList<string> Mistakes);

    private static StoredDefinition Read(WorkflowDefinitionRow r) => new(
        new DefinitionHead(r.Id, r.DefinitionId, r.Version, r.Name, r.Description, r.IsLatest, r.IsPublished, false, DateTimeOffset.FromUnixTimeMilliseconds(r.CreatedAt)), r.Json);

    private static Task<WorkflowDefinitionRow?> LatestAsync(PipelineDbContext db, string definitionId, CancellationToken ct) =>
        db.WorkflowDefinitions.SingleOrDefaultAsync(r => r.DefinitionId == definitionId && r.IsLatest, ct);

    /// <summary>A text that is no definition is refused before it becomes a row.</summary>
    private static string Canonicalised(JsonObject stored)
    {
        try
        {
            return DefinitionDocument.WithNodeIds(stored.ToJsonString()).ToJsonString();
        }
        catch (WorkflowFormatException e)
        {
            throw new DefinitionRefusedException(Refusal.Invalid, [e.Message]);
        }
    }

    private static async Task MarkPublishedAsync(PipelineDbContext db, WorkflowDefinitionRow row, CancellationToken ct)
    {
        // Of two rows of one definition only one may be published at any moment, also between two statements.
        await db.WorkflowDefinitions.Where(r => r.DefinitionId == row.DefinitionId && r.IsPublished && r.Id != row.Id)
            .ExecuteUpdateAsync(u => u.SetProperty(r => r.IsPublished, false), ct);
        row.IsPublished = true;
        db.Remember(Entry(AuditAction.DefinitionPublished, row, row.Json));
    }

    private static AuditEntry Entry(string action, WorkflowDefinitionRow row, string? before) => new(
        action, row.DefinitionId, before is null ? null : DigestOf(before), DigestOf(row.Json), new JsonObject { ["version"] = row.Version, ["name"] = row.Name });

    private static string DigestOf(string json) => Digest.OfBytes(System.Text.Encoding.UTF8.GetBytes(json)).ToString();

    private async Task<WorkflowDefinitionRow> NextVersionAsync(PipelineDbContext db, WorkflowDefinitionRow? latest, string definitionId, CancellationToken ct)
    {
        var highest = await db.WorkflowDefinitions.Where(r => r.DefinitionId == definitionId).MaxAsync(r => (int?)r.Version, ct) ?? 0;
        if (latest is not null)
        {
            latest.IsLatest = false;
            await db.SaveChangesAsync(ct);
        }

        var row = new WorkflowDefinitionRow
        {
            Id = Guid.CreateVersion7().ToString("N"), DefinitionId = definitionId, Version = highest + 1, IsLatest = true,
            CreatedAt = options.Clock.GetUtcNow().ToUnixTimeMilliseconds(),
        };
        db.WorkflowDefinitions.Add(row);
        return row;
    }

    private async Task<WorkflowDefinitionRow> ExistingAsync(PipelineDbContext db, string definitionId, CancellationToken ct) =>
        await LatestAsync(db, definitionId, ct)
        ?? throw (builtIn.Find(definitionId) is null ? DefinitionRefusedException.NotFound(Shorten(definitionId)) : DefinitionRefusedException.ReadOnly(definitionId));

    private async Task<string> FreeIdAsync(PipelineDbContext db, string name, CancellationToken ct)
    {
        var stem = DefinitionDocument.IdFrom(name);
        var taken = (await db.WorkflowDefinitions.Where(r => r.DefinitionId.StartsWith(stem)).Select(r => r.DefinitionId).Distinct().ToListAsync(ct))
            .Concat(builtIn.List().Select(b => b.Head.DefinitionId)).ToHashSet(StringComparer.OrdinalIgnoreCase);
        return Enumerable.Range(1, int.MaxValue).Select(n => n == 1 ? stem : $"{stem}-{n}").First(id => !taken.Contains(id));
    }

    // A kill leaves all of a change or nothing.
    private Task ChangeAsync(Func<PipelineDbContext, Task> change, CancellationToken ct) => store.Database.TransactInLineAsync(
        "workflow_definitions",
        async db =>
        {
            await change(db);
            return true;
        },
        ct);

    private static string? Text(JsonObject json, string member) => json[member] is JsonValue value && value.TryGetValue<string>(out var text) ? text : null;

    private static string Shorten(string text) => text.Length <= 60 ? text : text[..57] + "...";
}
