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
