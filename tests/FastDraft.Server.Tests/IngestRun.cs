using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace FastDraft.Server.Tests;

/// <summary>A run of one real stage, asked for over HTTP.</summary>
internal static class IngestRun
{
    /// <summary>Submits a run that ingests 40 documents, or one that fails because they are no JSON; writes them into the folder.</summary>
    public static async Task<string> SubmitAsync(HttpClient http, string folder, bool fails, CancellationToken ct)
    {
        var corpus = Path.Join(folder, fails ? "broken.jsonl" : "corpus.jsonl");
        await File.WriteAllTextAsync(
            corpus, string.Concat(Enumerable.Range(0, 40).Select(n => fails ? "{no json\n" : $$"""{"text":"A document of some length, which no other document repeats: number {{n}}."}""" + "\n")), ct);
        var sources = new JsonObject { ["typeName"] = "String[]", ["expression"] = new JsonObject { ["type"] = "Object", ["value"] = JsonSerializer.Serialize(new[] { corpus }) } };
        var definition = new JsonObject
        {
            ["id"] = "s-1", ["definitionId"] = "s", ["name"] = "s", ["version"] = 1,
            ["root"] = new JsonObject
            {
                ["id"] = "flow", ["type"] = "Elsa.Flowchart", ["version"] = 1, ["connections"] = new JsonArray(),
                ["activities"] = new JsonArray(new JsonObject { ["id"] = "ingest", ["type"] = "FastDraft.IngestCorpus", ["version"] = 1, ["sources"] = sources }),
            },
        };
        using var response = await http.PostAsJsonAsync(new Uri("/api/runs", UriKind.Relative), new { definition }, ct);
        var answer = await response.Content.ReadFromJsonAsync<JsonNode>(ct);
        return (string?)answer!["id"] ?? throw new InvalidOperationException(answer.ToJsonString());
    }
}
