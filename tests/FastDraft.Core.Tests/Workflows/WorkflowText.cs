using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Tests.Workflows;

/// <summary>Small definitions and a small stage catalogue for the facts.</summary>
internal static class WorkflowText
{
    public static IReadOnlyList<StageDescriptor> Catalogue { get; } =
    [
        new("Ingest", 1, "Reads documents.",
            [
                new("sources", SettingType.PathList, "Files to read.", Required: true),
                new("maxRows", SettingType.Integer, "Rows at most.", 100, Minimum: 1, Maximum: 1000),
                new("fraction", SettingType.Number, "Share.", 0.5),
                new("shuffle", SettingType.Boolean, "Whether to shuffle.", true),
            ],
            [], [new("corpus", ArtifactKind.Corpus, "The documents.")]),
        new("Align", 1, "Makes tokens.", [],
            [new("corpus", ArtifactKind.Corpus, "Documents.")], [new("tokens", ArtifactKind.TokenShards, "Tokens.")]),
        new("Train", 1, "Trains.",
            [new("accelerator", SettingType.Choice, "Where.", "cpu", Choices: ["cpu", "cuda"])],
            [new("tokens", ArtifactKind.TokenShards, "Tokens."), new("draft", ArtifactKind.Model, "Continue from it.", Required: false)],
            [new("draft", ArtifactKind.Model, "The draft.")]),
        new("Evaluate", 1, "Measures.", [],
            [new("draft", ArtifactKind.Model, "The draft.")], [new("evaluation", ArtifactKind.Evaluation, "The report.")]),
    ];

    public static string Activity(string id, string type, params (string Name, string Type, JsonNode? Value)[] inputs)
    {
        var json = new JsonObject { ["id"] = id, ["type"] = type, ["version"] = 1 };
        foreach (var (name, expression, value) in inputs)
        {
            json[name] = new JsonObject { ["typeName"] = "Object", ["expression"] = new JsonObject { ["type"] = expression, ["value"] = value } };
        }

        return json.ToJsonString();
    }

    public static string Flowchart(IEnumerable<string> activities, params string[] connections) =>
        $$"""
        { "definitionId": "w", "name": "w", "version": 1,
          "variables": [{ "id": "vx", "name": "X", "typeName": "Int32", "value": "1" }],
          "inputs": [{ "name": "Who", "type": "String" }],
          "root": { "id": "fc", "type": "Elsa.Flowchart", "version": 1,
            "activities": [
              {{string.Join(",\n      ", activities)}}
            ],
            "connections": [{{string.Join(", ", connections.Select(Connection))}}] } }
        """;

    /// <summary>An activity that may hold others: members as they are in the file.</summary>
    public static JsonObject Node(string id, string type, params (string Name, JsonNode? Value)[] members)
    {
        var json = new JsonObject { ["id"] = id, ["type"] = "Elsa." + type };
        foreach (var (name, value) in members)
        {
            json[name] = value;
        }

        return json;
    }

    public static JsonObject Line(string id, string? text = null) => Node(id, "WriteLine", ("text", text ?? id));

    public static JsonObject Script(string source) => Expression("JavaScript", source);

    public static JsonObject Expression(string type, JsonNode? value) =>
        new() { ["typeName"] = "Object", ["expression"] = new JsonObject { ["type"] = type, ["value"] = value } };

    public static JsonObject Case(string label, JsonNode condition, JsonObject? activity = null) =>
        new() { ["label"] = label, ["condition"] = new JsonObject { ["type"] = "JavaScript", ["value"] = condition }, ["activity"] = activity };

    public static JsonObject Sequence(string id, params JsonObject[] activities) => Node(id, "Sequence", ("activities", new JsonArray([.. activities])));

    /// <summary>A flowchart; "a.True>b" is the connection from a's outcome True to b.</summary>
    public static JsonObject Flow(string id, JsonObject[] activities, params string[] connections) => Node(
        id, "Flowchart", ("activities", new JsonArray([.. activities])), ("connections", new JsonArray([.. connections.Select(c => JsonNode.Parse(Connection(c)))])));

    /// <summary>With an Int32 variable X that is 1, a list variable L and an output Out.</summary>
    public static string Workflow(JsonObject root, bool continues = false) => new JsonObject
    {
        ["definitionId"] = "w",
        ["options"] = new JsonObject { ["incidentStrategyType"] = continues ? "Elsa.Workflows.IncidentStrategies.ContinueWithIncidentsStrategy, Elsa.Workflows.Core" : null },
        ["variables"] = new JsonArray(
            new JsonObject { ["id"] = "vx", ["name"] = "X", ["typeName"] = "Int32", ["value"] = "1" }, new JsonObject { ["id"] = "vl", ["name"] = "L", ["typeName"] = "Object" }),
        ["outputs"] = new JsonArray(new JsonObject { ["name"] = "Out", ["type"] = "Object" }),
        ["root"] = root,
    }.ToJsonString();

    public static string Chain() => Flowchart(
        [
            Activity("ingest", "FastDraft.Ingest", ("sources", "Object", "[\"a.txt\"]"), ("maxRows", "Literal", "500")),
            Activity("align", "FastDraft.Align"),
            Activity("train", "FastDraft.Train"),
            Activity("evaluate", "FastDraft.Evaluate"),
        ],
        "ingest>align", "align>train", "train>evaluate");

    // "a.True>b" is the connection from a's outcome True to b.
    private static string Connection(string text)
    {
        var ends = text.Split('>');
        var source = ends[0].Split('.');
        return JsonSerializer.Serialize(new
        {
            source = new { activity = source[0], port = source.Length > 1 ? source[1] : "Done" },
            target = new { activity = ends[1], port = "In" },
        });
    }
}
