using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.Server.Security;
using FastDraft.Server.Web;

namespace FastDraft.Server.Tests.Web;

[Collection(ServiceCollection.Name)]
public sealed partial class ApiDocumentFacts(RunningService service)
{
    [Fact]
    public async Task Every_address_of_the_api_is_in_it_with_a_summary_and_the_role_that_the_table_names()
    {
        var operations = Operations(await DocumentAsync());
        var served = service.Routes.Where(r => r.Split(' ')[1].StartsWith("/api/", StringComparison.Ordinal) && r != "GET /api/openapi.json").Distinct().ToDictionary(ApiDocument.Plain, r => r);
        Assert.NotEmpty(served);
        Assert.Equal(served.Keys.Order(StringComparer.Ordinal), operations.Keys.Order(StringComparer.Ordinal));
        Assert.Equal(AccessTable.Least.Keys.Where(r => r.Split(' ')[1].StartsWith("/api/", StringComparison.Ordinal) && r != "GET /api/openapi.json").Order(StringComparer.Ordinal), served.Values.Order(StringComparer.Ordinal));
        foreach (var (address, operation) in operations)
        {
            Assert.False(string.IsNullOrWhiteSpace((string?)operation["summary"]), address + " has no summary.");
            Assert.Equal(AccessTable.Least[served[address]].ToString().ToLowerInvariant(), (string?)operation["x-role"]);
            Assert.Contains(operation["responses"]!.AsObject(), r => r.Key[0] is '2' or '3');
            Assert.NotNull(operation["responses"]!["401"]!["content"]!["application/problem+json"]);
        }
    }

    [Fact]
    public async Task Every_place_in_an_address_is_a_parameter_and_every_reference_leads_somewhere()
    {
        var document = await DocumentAsync();
        foreach (var (address, operation) in Operations(document))
        {
            var named = (operation["parameters"]?.AsArray() ?? []).Where(p => (string?)p!["in"] == "path").Select(p => (string)p!["name"]!);
            Assert.Equal(Places().Matches(address).Select(m => m.Groups[1].Value).Order(StringComparer.Ordinal), named.Order(StringComparer.Ordinal));
        }

        var schemas = document["components"]!["schemas"]!.AsObject();
        Assert.All(schemas, s => Assert.Matches("^[A-Za-z0-9._-]+$", s.Key));
        Assert.All(References().Matches(document.ToJsonString()), m => Assert.True(schemas.ContainsKey(m.Groups[1].Value), m.Value));
        Assert.Contains(Operations(document)["GET /api/runs"]["parameters"]!.AsArray(), p => (string?)p!["name"] == "older");
    }

    private async Task<JsonNode> DocumentAsync()
    {
        var (status, document) = await service.GetAsync("/api/openapi.json");
        Assert.Equal(200, status);
        return document!;
    }

    private static Dictionary<string, JsonNode> Operations(JsonNode document) => document["paths"]!.AsObject()
        .SelectMany(p => p.Value!.AsObject().Select(o => ($"{o.Key.ToUpperInvariant()} {p.Key}", o.Value!))).ToDictionary(o => o.Item1, o => o.Item2, StringComparer.Ordinal);

    [GeneratedRegex(@"\{([A-Za-z]+)\}")]
    private static partial Regex Places();

    [GeneratedRegex("\"#/components/schemas/([^\"]+)\"")]
    private static partial Regex References();
}
