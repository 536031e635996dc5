using System.Net;
using System.Text.RegularExpressions;
using FastDraft.Persistence.Audit;
using FastDraft.Persistence.Security;

namespace FastDraft.Server.Tests.Security;

/// <summary>Signing in with a browser. Each fact calls from an address of its own: tries are counted by address.</summary>
[Collection(ServiceCollection.Name)]
public sealed partial class SessionFacts(RunningService service)
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_token_in_the_form_begins_a_session_that_no_script_and_no_other_site_can_use()
    {
        using var http = service.Client(null, "127.0.0.10");
        var (cookies, response) = await PostAsync(http, await service.TokenAsync("ada", Role.Operator), "/studio?x=1");
        Assert.Equal((HttpStatusCode.Redirect, "/studio?x=1"), (response.StatusCode, response.Headers.Location?.OriginalString));
        var cookie = cookies.Single(c => c.Contains("fds_", StringComparison.Ordinal));
        Assert.Contains("httponly", cookie, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("samesite=strict", cookie, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("fdt_", cookie, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, await GetAsync(http, cookie, "/api/gates"));
        Assert.Equal(HttpStatusCode.Forbidden, await DeleteAsync(http, cookie));
        await SeenAsync(AuditAction.SessionBegun, "ada");
    }

    [Fact]
    public async Task Revoking_a_token_ends_its_sessions_and_so_does_signing_out()
    {
        using var http = service.Client(null, "127.0.0.11");
        var token = await service.TokenAsync("eve", Role.Admin);
        var (first, second) = ((await PostAsync(http, token)).Cookies[^1], (await PostAsync(http, token)).Cookies[^1]);
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri("/logout", UriKind.Relative)) { Headers = { { "Cookie", Value(first) } } };
        Assert.Equal(HttpStatusCode.Redirect, (await http.SendAsync(request, Ct)).StatusCode);
        Assert.Equal((HttpStatusCode.Unauthorized, HttpStatusCode.OK), (await GetAsync(http, first, "/api/gates"), await GetAsync(http, second, "/api/gates")));
        await SeenAsync(AuditAction.SessionEnded, "eve");
        await service.Credentials.RevokeAsync("eve", Ct);
        Assert.Equal(HttpStatusCode.Unauthorized, await GetAsync(http, second, "/api/gates"));
        Assert.Equal(HttpStatusCode.Forbidden, (await PostAsync(http, token)).Response.StatusCode);
    }

    [Fact]
    public async Task A_link_signs_in_once_and_a_browser_that_guesses_does_not_use_it_up()
    {
        using var http = service.Client(null, "127.0.0.12");
        var link = new Uri("/login?link=" + await service.Credentials.CreateLinkAsync("first", Role.Admin, Ct), UriKind.Relative);
        using var guess = new HttpRequestMessage(HttpMethod.Get, link) { Headers = { { "Sec-Purpose", "prefetch" } } };
        Assert.Equal(HttpStatusCode.OK, (await http.SendAsync(guess, Ct)).StatusCode);
        var both = await Task.WhenAll(http.GetAsync(link, Ct), http.GetAsync(link, Ct));
        Assert.Equal([HttpStatusCode.Redirect, HttpStatusCode.Forbidden], both.Select(r => r.StatusCode).Order());
        var cookie = both.Single(r => r.StatusCode == HttpStatusCode.Redirect).Headers.GetValues("Set-Cookie").Single(c => c.Contains("fds_", StringComparison.Ordinal));
        Assert.Equal(HttpStatusCode.OK, await GetAsync(http, cookie, "/api/audit/verification"));
    }

    [Fact]
    public async Task Ten_tries_a_minute_and_then_even_a_good_token_waits()
    {
        using var http = service.Client(null, "127.0.0.13");
        var statuses = new List<HttpStatusCode>();
        for (var i = 0; i < 11; i++)
        {
            statuses.Add((await http.GetAsync(new Uri("/login", UriKind.Relative), Ct)).StatusCode);
        }

        Assert.Equal(HttpStatusCode.TooManyRequests, statuses[^1]);
        Assert.All(statuses.SkipLast(1), s => Assert.Equal(HttpStatusCode.OK, s));
    }

    [Theory]
    [InlineData("//evil.example")]
    [InlineData("/\\evil.example")]
    [InlineData("https://evil.example")]
    [InlineData("/ok\r\nSet-Cookie: a=b")]
    public async Task Signing_in_leads_nowhere_else(string to)
    {
        using var http = service.Client(null, "127.0.0.14");
        var (_, response) = await PostAsync(http, service.Http.DefaultRequestHeaders.Authorization!.Parameter!, to);
        Assert.Equal("/", response.Headers.Location?.OriginalString);
    }

    [Fact]
    public async Task A_form_that_was_not_made_here_signs_nobody_in()
    {
        using var http = service.Client(null, "127.0.0.15");
        using var form = new FormUrlEncodedContent(new Dictionary<string, string> { ["token"] = service.Http.DefaultRequestHeaders.Authorization!.Parameter! });
        using var response = await http.PostAsync(new Uri("/login", UriKind.Relative), form, Ct);
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.False(response.Headers.Contains("Set-Cookie"));
    }

    [Fact]
    public async Task A_person_without_a_session_is_led_to_the_form_and_back()
    {
        using var http = service.Client(null);
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri("/studio/workflows/instances?a=b", UriKind.Relative)) { Headers = { { "Accept", "text/html" } } };
        using var response = await http.SendAsync(request, Ct);
        Assert.Equal((HttpStatusCode.Redirect, "/login?to=%2Fstudio%2Fworkflows%2Finstances%3Fa%3Db"), (response.StatusCode, response.Headers.Location?.OriginalString));
    }

    [Fact]
    public async Task No_secret_is_kept_where_it_could_be_read()
    {
        using var http = service.Client(null, "127.0.0.16");
        var token = await service.TokenAsync("kept", Role.Viewer);
        var session = Value((await PostAsync(http, token)).Cookies[^1]).Split('=')[1];

        // A file of hosts/ is locked for as long as its host lives, and empty.
        var files = Directory.EnumerateFiles(service.DataFolder, "*", SearchOption.AllDirectories).Where(f => !f.Contains("/hosts/", StringComparison.Ordinal)).ToList();
        foreach (var file in files)
        {
            await using var open = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            using var reader = new StreamReader(open, System.Text.Encoding.Latin1);
            var text = await reader.ReadToEndAsync(Ct);
            Assert.False(text.Contains(token, StringComparison.Ordinal) || text.Contains(session, StringComparison.Ordinal), file);
        }

        Assert.Contains(files, f => f.EndsWith("pipeline.db", StringComparison.Ordinal));
        Assert.Matches("^fdt_[A-Za-z0-9_-]{43}$", token);
    }

    private async Task SeenAsync(string action, string actor)
    {
        var (_, body) = await service.GetAsync($"/api/audit?action={action}&actor={actor}");
        Assert.NotEmpty(body!["items"]!.AsArray());
    }

    private static async Task<(string[] Cookies, HttpResponseMessage Response)> PostAsync(HttpClient http, string token, string to = "/")
    {
        using var page = await http.GetAsync(new Uri("/login", UriKind.Relative), Ct);
        var field = Field().Match(await page.Content.ReadAsStringAsync(Ct));
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri("/login", UriKind.Relative))
        {
            Headers = { { "Cookie", Value(page.Headers.GetValues("Set-Cookie").Single()) } },
            Content = new FormUrlEncodedContent(new Dictionary<string, string> { ["token"] = token, ["to"] = to, [field.Groups[1].Value] = field.Groups[2].Value }),
        };
        var response = await http.SendAsync(request, Ct);
        return (response.Headers.TryGetValues("Set-Cookie", out var set) ? [.. set] : [], response);
    }

    private static async Task<HttpStatusCode> GetAsync(HttpClient http, string cookie, string path)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(path, UriKind.Relative)) { Headers = { { "Cookie", Value(cookie) } } };
        return (await http.SendAsync(request, Ct)).StatusCode;
    }

    private static async Task<HttpStatusCode> DeleteAsync(HttpClient http, string cookie)
    {
        using var request = new HttpRequestMessage(HttpMethod.Delete, new Uri(RunningService.Api + "/workflow-definitions/x", UriKind.Relative)) { Headers = { { "Cookie", Value(cookie) } } };
        return (await http.SendAsync(request, Ct)).StatusCode;
    }

    private static string Value(string setCookie) => setCookie.Split(';')[0];

    [GeneratedRegex("name=\"(__[A-Za-z]+)\" value=\"([^\"]+)\"")]
    private static partial Regex Field();
}
