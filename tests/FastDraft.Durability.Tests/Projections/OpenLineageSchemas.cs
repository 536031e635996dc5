using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.TestKit;
using NJsonSchema;

namespace FastDraft.Durability.Tests.Projections;

/// <summary>
/// The published schemas of OpenLineage and those of our own facets, as one. They are written in the draft of 2020-12; the words that they use
/// are those of draft 4 except <c>$defs</c> and the addresses by which they refer to one another, which are rewritten here.
/// </summary>
internal sealed partial class OpenLineageSchemas
{
    private readonly JsonObject definitions = [];
    private readonly Dictionary<string, JsonSchema> schemas = [];

    private OpenLineageSchemas()
    {
        var published = SharedAssets.Path("reference", "openlineage");
        foreach (var file in Directory.EnumerateFiles(Path.Join(published, "facets"), "*.json").Append(Path.Join(published, "OpenLineage.json"))
            .Concat(Directory.EnumerateFiles(Path.Join(Executable.Repository, "docs", "openlineage"), "*.json")))
        {
            var text = References().Replace(File.ReadAllText(file), "\"$ref\": \"#/definitions/$1\"");
            var document = JsonNode.Parse(text)!;
            var isOurs = ((string)document["$id"]!).StartsWith("urn:", StringComparison.Ordinal);
            foreach (var (name, definition) in document["$defs"]!.AsObject())
            {
                // Facets may name helpers alike; only the facet itself is asked for by name.
                definitions[isOurs ? "ours." + name : definitions.ContainsKey(name) ? $"{Path.GetFileNameWithoutExtension(file)}.{name}" : name] = definition!.DeepClone();
            }
        }
    }

    public static OpenLineageSchemas Read() => new();

    /// <summary>What is wrong with an event, its facets included.</summary>
    public async Task<IReadOnlyList<string>> ProblemsAsync(JsonObject told)
    {
        var problems = new List<string>(await ValidateAsync("RunEvent", told));
        foreach (var facets in Facets(told))
        {
            foreach (var (name, facet) in facets)
            {
                var schema = (string?)facet?["_schemaURL"] ?? "";
                var definition = schema.StartsWith("urn:", StringComparison.Ordinal) ? "ours." + schema[(schema.LastIndexOf(':') + 1)..] : schema[(schema.LastIndexOf('/') + 1)..];
                problems.AddRange(definitions.ContainsKey(definition) ? await ValidateAsync(definition, facet!) : [$"{name} names no schema: '{schema}'"]);
            }
        }

        return problems;
    }

    private static IEnumerable<JsonObject> Facets(JsonObject told)
    {
        var datasets = new[] { "inputs", "outputs" }.SelectMany(n => told[n] as JsonArray ?? []);
        return new[] { told["run"]?["facets"], told["job"]?["facets"] }.Concat(datasets.SelectMany(d => new[] { d!["facets"], d["inputFacets"], d["outputFacets"] })).OfType<JsonObject>();
    }

    private async Task<IEnumerable<string>> ValidateAsync(string definition, JsonNode value)
    {
        if (!schemas.TryGetValue(definition, out var schema))
        {
            var document = new JsonObject { ["$ref"] = "#/definitions/" + definition, ["definitions"] = definitions.DeepClone() };
            schema = schemas[definition] = await JsonSchema.FromJsonAsync(document.ToJsonString());
        }

        return schema.Validate(value.ToJsonString()).Select(e => $"{definition}: {e}");
    }

    [GeneratedRegex("\"\\$ref\"\\s*:\\s*\"[^\"#]*#/\\$defs/([A-Za-z]+)\"")]
    private static partial Regex References();
}
