using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Lineage;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Evaluation;
using FastDraft.Persistence.Lineage;
using FastDraft.Stages.EvaluateDraft;
using FastDraft.Stages.ExportDraft;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Provenance;

/// <summary>
/// The whole model card of a draft, made when somebody asks: the README.md that the artifact holds (what is a function of its inputs),
/// and what only the tables know: registered names, evaluation with intervals, data with counts and digests, and what made it.
/// </summary>
public static class ModelCard
{
    public const string FileName = "MODEL_CARD.md";

    private const string ReadMe = "README.md";

    /// <summary>The kinds of artifact that are models, and so have a card.</summary>
    public static bool Describes(string kind) => kind is ArtifactKind.Model or ArtifactKind.Onnx or ArtifactKind.OpenVinoIr or "gguf";

    /// <exception cref="StageFailureException">It is no model, or nothing in the tables made it.</exception>
    public static async Task<string> OfAsync(PipelineStore store, string digest, CancellationToken ct)
    {
        var origin = await ArtifactOrigin.FindAsync(store, digest, ct);
        if (!Describes(origin.Manifest.Kind))
        {
            throw new StageFailureException(FailureKind.Config, $"{digest} is a {origin.Manifest.Kind}, not a model: it has no card.", $"fastdraft artifacts provenance {digest}");
        }

        var corpora = await CorporaAsync(store, origin, ct);
        var text = new StringBuilder(await ReadMeAsync(store, origin, ct));
        Describe(text, corpora, origin);
        await DraftsAsync(text, store, origin, ct);
        await EvaluationAsync(text, store, origin, ct);
        Data(text, corpora, origin);
        Lineage(text, origin);
        return text.ToString();
    }

    private static async Task<string> ReadMeAsync(PipelineStore store, ArtifactOrigin origin, CancellationToken ct) =>
        await TextAsync(store, origin.Digest, ReadMe, ct) ?? "---\npipeline_tag: text-generation\ntags:\n- speculative-decoding\n- draft-model\n- fastdraft\n---\n\n# Draft model for speculative decoding\n";

    /// <summary>What the front matter lacks: the target, and the licence where every corpus names one.</summary>
    private static void Describe(StringBuilder text, IReadOnlyList<Corpus> corpora, ArtifactOrigin origin)
    {
        var licences = corpora.Select(c => c.Licence).Distinct().ToList();
        var more = new StringBuilder();
        if (licences is [{ } one])
        {
            more.Append(CultureInfo.InvariantCulture, $"license: {JsonSerializer.Serialize(one)}\n");
        }

        if (Targets(origin).FirstOrDefault() is { } target)
        {
            more.Append(CultureInfo.InvariantCulture, $"base_model: {JsonSerializer.Serialize(target.Name)}\n");
        }

        text.Insert("---\n".Length, more.ToString());
    }

    private static async Task DraftsAsync(StringBuilder text, PipelineStore store, ArtifactOrigin origin, CancellationToken ct)
    {
        var models = Models(origin);
        await using var db = store.Open();
        var drafts = await db.Drafts.AsNoTracking().Where(d => models.Contains(d.ModelDigest)).OrderBy(d => d.Name).ThenBy(d => d.Version).ToListAsync(ct);
        var aliases = (await db.DraftAliases.AsNoTracking().ToListAsync(ct)).ToLookup(a => (a.Name, a.Version), a => a.Alias);
        if (drafts.Count > 0)
        {
            text.Append("\n## Registered as\n\n");
            drafts.ForEach(d => text.Append(CultureInfo.InvariantCulture, $"- {d.Name} version {d.Version}{string.Concat(aliases[(d.Name, d.Version)].Order(StringComparer.Ordinal).Select(a => ", " + a))}\n"));
        }
    }

    /// <summary>The newest evaluation of the draft itself; an export has none of its own, its parity says why that is the same.</summary>
    private static async Task EvaluationAsync(StringBuilder text, PipelineStore store, ArtifactOrigin origin, CancellationToken ct)
    {
        var models = Models(origin);
        await using var db = store.Open();
        var found = await (from i in db.Ports
                           join s in db.StageRuns on i.StageRunId equals s.Id
                           join o in db.Ports on s.Id equals o.StageRunId
                           where models.Contains(i.Digest) && !i.IsOutput && o.IsOutput && o.Kind == ArtifactKind.Evaluation && s.State == StageRunState.Succeeded
                           orderby s.EndedAt descending
                           select o.Digest).FirstOrDefaultAsync(ct);
        text.Append("\n## Evaluation\n\n");
        if (found is null || await TextAsync(store, Digest.Parse(found), "report.json", ct) is not { } json)
        {
            text.Append("No evaluation of it is known here.\n");
            return;
        }

        var report = EvaluationReport.Parse(json);
        text.Append(CultureInfo.InvariantCulture, $"Target {report.Target.Name} ({report.Target.NumParameters:N0} parameters), draft {report.Draft.NumParameters:N0} parameters, on {report.Machine.Processor}, {report.Machine.NumThreads} threads, {report.Machine.Precision}. ");
        text.Append(CultureInfo.InvariantCulture, $"Intervals are of 95 %. Evaluation {found}.\n\n| suite | prompts | temperature | draft length | acceptance | block efficiency | memory-bound speedup | measured speedup |\n|---|---|---|---|---|---|---|---|\n");
        foreach (var r in report.Results.Where(r => r.Best))
        {
            text.Append(CultureInfo.InvariantCulture, $"| {r.Suite} | {r.NumPrompts} | {r.Temperature} | {r.DraftLength} | {Figure(r.AcceptanceRate, r.AcceptanceRateCi)} | {Figure(r.BlockEfficiency, r.BlockEfficiencyCi)} | {r.MemoryBoundSpeedup:F2} | {Figure(r.WallClockSpeedup, r.WallClockSpeedupCi)} |\n");
        }
    }

    private static void Data(StringBuilder text, IReadOnlyList<Corpus> corpora, ArtifactOrigin origin)
    {
        text.Append("\n## Data\n\n| what | documents | bytes | licence | digest |\n|---|---|---|---|---|\n");
        foreach (var corpus in corpora)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {corpus.Kind} | {corpus.NumDocuments:N0} | {corpus.NumBytes:N0} | {corpus.Licence ?? "not stated"} | {corpus.Digest} |\n");
        }

        foreach (var node in origin.Upstream.Nodes.Where(n => n.Kind == "path"))
        {
            foreach (var file in node.Files ?? [])
            {
                text.Append(CultureInfo.InvariantCulture, $"| file {Path.GetFileName(file.Path)} | | {file.SizeBytes:N0} | | {file.Digest} |\n");
            }
        }
    }

    private static void Lineage(StringBuilder text, ArtifactOrigin origin)
    {
        text.Append(CultureInfo.InvariantCulture, $"\n## Lineage\n\nThis artifact is {origin.Digest}. It was made by run {origin.Run.Id} of the workflow '{origin.Run.WorkflowName}' ({origin.Run.DefinitionDigest}) with fastdraft {origin.Code}.\n\n| stage | version | run | settings |\n|---|---|---|---|\n");
        foreach (var node in origin.Upstream.Nodes.Where(n => n.Stage is not null).OrderByDescending(n => n.Depth))
        {
            var settings = string.Join(", ", node.Stage!.Settings.OrderBy(s => s.Key, StringComparer.Ordinal).Select(s => $"{s.Key}={s.Value}")).Replace("|", "\\|", StringComparison.Ordinal).ReplaceLineEndings(" ");
            text.Append(CultureInfo.InvariantCulture, $"| {node.Label} ({node.Stage.ActivityId}) | {node.Stage.Version} | {node.Stage.RunId} | {settings} |\n");
        }
    }

    /// <summary>The artifact, and the drafts that it was exported from without training anything.</summary>
    private static List<string> Models(ArtifactOrigin origin) =>
        [origin.Digest.ToString(), .. origin.StageRun.Stage == ExportDraftStage.Name ? origin.Inputs.Where(p => p.Kind == ArtifactKind.Model).Select(p => p.Digest) : []];

    private static IEnumerable<(string Name, string Digest)> Targets(ArtifactOrigin origin) =>
        from edge in origin.Upstream.Edges
        where edge.Port == "setting:target"
        let stage = origin.Upstream.Nodes.First(n => n.Id == edge.To).Stage
        where stage is not null && stage.Settings.ContainsKey("target")
        select (Path.GetFileName(Path.TrimEndingDirectorySeparator(stage.Settings["target"])), edge.From);

    private static async Task<IReadOnlyList<Corpus>> CorporaAsync(PipelineStore store, ArtifactOrigin origin, CancellationToken ct)
    {
        var corpora = new List<Corpus>();
        foreach (var node in origin.Upstream.Nodes.Where(n => n.Kind is ArtifactKind.Corpus or ArtifactKind.SyntheticCorpus))
        {
            // A corpus that was collected since is still told of, by its digest.
            var manifest = await TryTextAsync(store, node.Id, "manifest.json", ct) is { } json ? JsonNode.Parse(json) as JsonObject : null;
            corpora.Add(new Corpus(node.Kind, node.Id, Number(manifest, "numDocuments") ?? Number(manifest, "numRows"), Number(manifest, "numBytes"), manifest?["license"] is JsonValue licence && licence.TryGetValue<string>(out var text) ? text : null));
        }

        return corpora;
    }

    private static long? Number(JsonObject? json, string name) => json?[name] is JsonValue value && value.TryGetValue<long>(out var number) ? number : null;

    private static string Figure(double value, Interval interval) =>
        double.IsFinite(value) ? string.Create(CultureInfo.InvariantCulture, $"{value:F3} ({interval.Low:F3} to {interval.High:F3})") : "-";

    private static async Task<string?> TryTextAsync(PipelineStore store, string digest, string path, CancellationToken ct)
    {
        try
        {
            return await TextAsync(store, Digest.Parse(digest), path, ct);
        }
        catch (StageFailureException)
        {
            return null;
        }
    }

    private static async Task<string?> TextAsync(PipelineStore store, Digest digest, string path, CancellationToken ct) =>
        (await store.Artifacts.ManifestAsync(digest, ct)).Files.Any(f => f.Path == path) ? Encoding.UTF8.GetString(await store.Artifacts.ReadAsync(digest, path, ct)) : null;

    private sealed record Corpus(string Kind, string Digest, long? NumDocuments, long? NumBytes, string? Licence);
}
