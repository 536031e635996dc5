using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Persistence.Lineage;

namespace FastDraft.Server.Provenance;

/// <summary>
/// Where an artifact came from in the form that others' tools read: an in-toto Statement v1 (in-toto/attestation, spec/v1/statement.md)
/// with a SLSA Provenance v1 predicate (slsa.dev/provenance/v1). Its subjects are the artifact's files, so a copied folder is checked
/// with nothing of ours. It is unsigned: the audit says who did what, a signature is the business of whoever ships it.
/// </summary>
public static class ProvenanceStatement
{
    public const string FileName = "provenance.intoto.json";
    public const string MediaType = "application/vnd.in-toto+json";
    public const string StatementType = "https://in-toto.io/Statement/v1";
    public const string PredicateType = "https://slsa.dev/provenance/v1";

    /// <summary>One stage run: its parameters are described in docs/how-to/answer-where-a-draft-came-from.md.</summary>
    public const string BuildType = "urn:fastdraft:stage-run:v1";

    /// <exception cref="StageFailureException">Nothing in the tables made it, or its manifest is not in the store.</exception>
    public static async Task<JsonObject> OfAsync(PipelineStore store, string digest, CancellationToken ct)
    {
        var origin = await ArtifactOrigin.FindAsync(store, digest, ct);
        return new JsonObject
        {
            ["_type"] = StatementType,
            ["subject"] = new JsonArray([.. origin.Manifest.Files.OrderBy(f => f.Path, StringComparer.Ordinal).Select(JsonNode (f) => Resource(f.Path, f.Digest))]),
            ["predicateType"] = PredicateType,
            ["predicate"] = new JsonObject
            {
                ["buildDefinition"] = new JsonObject
                {
                    ["buildType"] = BuildType,
                    ["externalParameters"] = External(origin),
                    ["internalParameters"] = new JsonObject { ["environment"] = new JsonObject(origin.Environment.Select(e => KeyValuePair.Create<string, JsonNode?>(e.Key, e.Value))) },
                    ["resolvedDependencies"] = new JsonArray([.. Dependencies(origin)]),
                },
                ["runDetails"] = new JsonObject
                {
                    ["builder"] = new JsonObject { ["id"] = "urn:fastdraft:pipeline", ["version"] = new JsonObject { ["fastdraft"] = origin.Code } },
                    ["metadata"] = new JsonObject
                    {
                        ["invocationId"] = $"urn:uuid:{origin.Run.Id}#{origin.StageRun.ActivityInstanceId}", ["startedOn"] = Time(origin.StageRun.StartedAt), ["finishedOn"] = Time(origin.StageRun.EndedAt),
                    },
                    ["byproducts"] = new JsonArray(Resource("manifest.json", origin.Digest)),
                },
            },
        };
    }

    /// <summary>What a person chose: the workflow, its inputs, and what they came to as settings of the stage and of each before it.</summary>
    private static JsonObject External(ArtifactOrigin origin) => new()
    {
        ["workflow"] = new JsonObject { ["name"] = origin.Run.WorkflowName, ["digest"] = DigestSet(origin.Run.DefinitionDigest) },
        ["inputs"] = JsonNode.Parse(origin.Run.InputsJson),
        ["stage"] = new JsonObject { ["name"] = origin.StageRun.Stage, ["version"] = origin.StageRun.StageVersion, ["activity"] = origin.StageRun.ActivityId },
        ["settings"] = JsonNode.Parse(origin.StageRun.SettingsJson),
        ["upstream"] = new JsonArray([.. origin.Upstream.Nodes.Where(n => n.Stage is not null && n.Id != "stage:" + origin.StageRun.Id).Select(JsonNode (n) => new JsonObject
        {
            ["stage"] = n.Label, ["version"] = n.Stage!.Version, ["activity"] = n.Stage.ActivityId, ["run"] = n.Stage.RunId.ToString(),
            ["settings"] = new JsonObject(n.Stage.Settings.Select(s => KeyValuePair.Create<string, JsonNode?>(s.Key, s.Value))),
        })]),
    };

    /// <summary>The code, every file from outside the store (corpora, target, tokenizer), and every artifact on the way.</summary>
    private static IEnumerable<JsonNode> Dependencies(ArtifactOrigin origin)
    {
        var commit = origin.Code.Split('+', 2) is [_, var hash] ? hash : null;
        yield return new JsonObject
        {
            ["name"] = "fastdraft", ["uri"] = "urn:fastdraft:code:" + Uri.EscapeDataString(origin.Code), ["digest"] = commit is null ? null : new JsonObject { ["gitCommit"] = commit },
        };
        foreach (var node in origin.Upstream.Nodes.Where(n => n.Stage is null && n.Id != origin.Digest.ToString()))
        {
            var uses = Uses(origin.Upstream, node);
            if (node.Kind != "path")
            {
                yield return Resource(node.Kind, Digest.Parse(node.Id), ("usedBy", uses));
            }

            foreach (var file in node.Files ?? [])
            {
                yield return Resource(Path.GetFileName(file.Path), Digest.Parse(file.Digest), ("usedBy", uses), ("content", node.Id), ("path", file.Path));
            }
        }
    }

    private static string Uses(LineageView upstream, LineageNode node) => string.Join(", ", upstream.Edges.Where(e => e.From == node.Id)
        .Select(e => $"{upstream.Nodes.First(n => n.Id == e.To).Stage?.ActivityId}.{e.Port}").Distinct().Order(StringComparer.Ordinal));

    private static JsonObject Resource(string name, Digest digest, params (string Name, string Value)[] annotations)
    {
        var resource = new JsonObject { ["name"] = name, ["digest"] = DigestSet(digest.ToString()) };
        if (annotations.Length > 0)
        {
            resource["annotations"] = new JsonObject(annotations.Select(a => KeyValuePair.Create<string, JsonNode?>(a.Name, a.Value)));
        }

        return resource;
    }

    private static JsonObject DigestSet(string digest) => new() { ["sha256"] = digest["sha256:".Length..] };

    private static string? Time(long? milliseconds) =>
        milliseconds is { } ms ? DateTimeOffset.FromUnixTimeMilliseconds(ms).ToString("yyyy-MM-ddTHH:mm:ss.fff'Z'", CultureInfo.InvariantCulture) : null;
}
