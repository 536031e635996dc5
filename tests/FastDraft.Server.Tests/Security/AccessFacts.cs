using System.Net.Http.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.Persistence.Security;
using FastDraft.Server.Security;
using Microsoft.AspNetCore.Authorization;

namespace FastDraft.Server.Tests.Security;

/// <summary>Every address against everyone who might use it. The addresses are those that are served: one without a row in the table fails.</summary>
[Collection(ServiceCollection.Name)]
public sealed partial class AccessFacts(RunningService service)
{
    private static readonly string[] Alive = ["/health/live", "/health/ready"];

    [Fact]
    public void Every_address_has_a_row_and_every_row_an_address()
    {
        var rows = AccessTable.Open.Concat(AccessTable.Least.Keys).ToList();
        var (without, unused) = (service.Routes.Except(rows).ToList(), rows.Except(service.Routes).ToList());
        Assert.True(without.Count + unused.Count == 0, $"No row in AccessTable: {string.Join(", ", without)}\nNo such address: {string.Join(", ", unused)}");
        Assert.Empty(AccessTable.Open.Intersect(AccessTable.Least.Keys));
    }

    [Fact]
    public void No_address_is_open_but_by_its_row() => Assert.DoesNotContain(service.Endpoints, e => e.Metadata.GetMetadata<IAllowAnonymous>() is not null);

    [Fact]
    public async Task Every_address_answers_exactly_those_that_its_row_names()
    {
        var (expired, revoked) = (await service.TokenAsync("was-admin", Role.Admin), await service.TokenAsync("gone-admin", Role.Admin));
        service.Sql("UPDATE credentials SET \"ExpiresAt\" = 1 WHERE \"Name\" = 'was-admin'");
        await service.Credentials.RevokeAsync("gone-admin", TestContext.Current.CancellationToken);
        List<(string Who, Role? Role, HttpClient Http)> callers =
        [
            ("anonymous", null, service.Client(null)), ("expired", null, service.Client(expired)), ("revoked", null, service.Client(revoked)),
            ("nothing", null, service.Client("nothing")), ("malformed", null, service.Client("fdt_" + new string('A', 43))), ("session as token", null, service.Client("fds_" + new string('A', 43))),
            ("viewer", Role.Viewer, service.Client(await service.TokenAsync("viewer", Role.Viewer))),
            ("operator", Role.Operator, service.Client(await service.TokenAsync("operator", Role.Operator))),
            ("admin", Role.Admin, service.Client(await service.TokenAsync("admin", Role.Admin))),
        ];
        var wrong = new List<string>();
        foreach (var address in service.Routes.Distinct())
        {
            foreach (var (who, role, http) in callers)
            {
                using var request = Request(address);
                using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken);
                var expected = AccessTable.Open.Contains(address) ? (int?)null : role is null ? 401 : role < AccessTable.Least[address] ? 403 : null;
                var status = (int)response.StatusCode;
                if (expected is { } refused ? status != refused : status is 401 or 403)
                {
                    wrong.Add($"{address} answers {who} with {status}");
                }
            }
        }

        callers.ForEach(c => c.Http.Dispose());
        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    [Theory]
    [InlineData("/healthz")]
    [InlineData("/health")]
    [InlineData("/health/")]
    [InlineData("//health/live")]
    [InlineData("/health//live")]
    [InlineData("/health/live/x")]
    [InlineData("/x/health/live")]
    [InlineData("/api/audit/health/live")]
    [InlineData("/api/audit?health/live")]
    [InlineData("/api/audit#/health/live")]
    [InlineData("/api/audit;/health/live")]
    [InlineData("/health/live/../../api/audit")]
    [InlineData("/health/../api/audit")]
    [InlineData("/health/%2e%2e/api/audit")]
    [InlineData("/health/live%2f..%2f..%2fapi/audit")]
    [InlineData("/health/live%00")]
    [InlineData("/health%2flive")]
    [InlineData("/health/live%20")]
    [InlineData("/health\\live")]
    [InlineData("/api/audit%3f/health/live")]
    [InlineData("/login/../api/audit")]
    [InlineData("/login/x")]
    [InlineData("/loginx")]
    [InlineData("/LOGIN/../api/audit")]
    public async Task What_looks_like_an_open_address_is_not_open(string path)
    {
        using var http = service.Client(null);
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(service.Address.GetLeftPart(UriPartial.Authority) + path, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }));
        using var response = await http.SendAsync(request, TestContext.Current.CancellationToken);
        var body = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True((int)response.StatusCode is 400 or 401 || (response.IsSuccessStatusCode && body == "live" && path.Split('?', '#')[0].Trim('/').Split('/') is ["health", "live"]), $"{(int)response.StatusCode} {body}");
    }

    [Fact]
    public async Task Health_is_the_same_in_any_case_and_needs_no_token()
    {
        using var http = service.Client(null);
        foreach (var path in Alive)
        {
            Assert.True((await http.GetAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken)).IsSuccessStatusCode);
        }
    }

    [Fact]
    public async Task A_viewer_is_told_why_the_designer_cannot_save()
    {
        using var http = service.Client(await service.TokenAsync("onlooker", Role.Viewer));
        using var response = await http.PostAsync(new Uri(RunningService.Api + "/workflow-definitions", UriKind.Relative), new StringContent("{}", System.Text.Encoding.UTF8, "application/json"), TestContext.Current.CancellationToken);
        var problem = (string)(await response.Content.ReadFromJsonAsync<JsonNode>(TestContext.Current.CancellationToken))!["errors"]!["GeneralErrors"]![0]!;
        Assert.Equal(("application/problem+json", 403), (response.Content.Headers.ContentType?.MediaType, (int)response.StatusCode));
        Assert.Contains("'onlooker' may look", problem, StringComparison.Ordinal);
        Assert.Contains("needs the role operator", problem, StringComparison.Ordinal);
    }

    /// <summary>A request to a pattern, with something in each of its places.</summary>
    private static HttpRequestMessage Request(string address)
    {
        var (method, pattern) = (address.Split(' ')[0], address.Split(' ')[1]);
        var path = Places().Replace(pattern, m => m.Value.Contains(":guid", StringComparison.Ordinal) ? Guid.Empty.ToString() : m.Value.Contains(":int", StringComparison.Ordinal) ? "1" : "x");
        return new HttpRequestMessage(new HttpMethod(method == "*" ? "GET" : method), new Uri(path, UriKind.Relative))
        {
            Content = method is "GET" or "*" ? null : new StringContent("{}", System.Text.Encoding.UTF8, "application/json"),
        };
    }

    [GeneratedRegex(@"\{[^}]*\}")]
    private static partial Regex Places();
}
