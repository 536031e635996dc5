using System.Net;
using FastDraft.Server.Web;

namespace FastDraft.Server.Tests.Web;

[Collection(ServiceCollection.Name)]
public sealed class GuardFacts(RunningService service)
{
    [Theory]
    [InlineData("http://127.0.0.1:5080", null, true)]
    [InlineData("http://localhost:0", null, true)]
    [InlineData("http://[::1]:5080", null, true)]
    [InlineData("http://127.9.9.9:5080", null, true)]
    [InlineData("http://0.0.0.0:5080", null, false)]
    [InlineData("http://[::]:5080", null, false)]
    [InlineData("http://10.0.0.1:5080", null, false)]
    [InlineData("http://10.0.0.1:5080", "http://drafts.example", false)]
    [InlineData("http://10.0.0.1:5080", "https://drafts.example", true)]
    [InlineData("http://0.0.0.0:5080", "https://drafts.example", true)]
    [InlineData("http://localhost.example.org:5080", "https://drafts.example", false)]
    [InlineData("https://127.0.0.1:5080", null, false)]
    public void An_address_that_others_reach_is_listened_on_only_behind_https(string url, string? open, bool accepted) =>
        Assert.Equal(accepted, new WebOptions { Url = new Uri(url), PublicUrl = open is null ? null : new Uri(open) }.Refusal is null);

    [Theory]
    [InlineData("127.0.0.1", true)]
    [InlineData("[::1]", true)]
    [InlineData("drafts.example", true)]
    [InlineData("Other.Example", true)]
    [InlineData("sub.drafts.example", false)]
    [InlineData("drafts.example.evil.example", false)]
    [InlineData("", false)]
    public void A_service_answers_to_its_names_alone(string host, bool answers) =>
        Assert.Equal(answers, new WebOptions { PublicUrl = new Uri("https://drafts.example"), AllowedHosts = ["other.example"] }.IsCalled(host));

    [Theory]
    [InlineData("evil.example")]
    [InlineData("127.0.0.1.evil.example")]
    [InlineData("localhost.evil.example:5080")]
    public async Task A_name_that_is_not_this_machine_s_is_refused(string name)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/health/live") { Headers = { Host = name } };
        using var response = await service.Http.SendAsync(request);
        Assert.Equal(HttpStatusCode.MisdirectedRequest, response.StatusCode);
    }

    [Theory]
    [InlineData("Origin", "http://evil.example")]
    [InlineData("Origin", "null")]
    [InlineData("Origin", "http://127.0.0.1:1")]
    [InlineData("Sec-Fetch-Site", "cross-site")]
    [InlineData("Sec-Fetch-Site", "same-site")]
    public async Task A_page_of_another_site_changes_nothing(string header, string value)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, RunningService.Api + "/workflow-definitions/quickstart/execute");
        request.Headers.Add(header, value);
        using var response = await service.Http.SendAsync(request);
        Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
        Assert.Contains("another site", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        Assert.False(response.Headers.Contains("Access-Control-Allow-Origin"));
    }

    [Theory]
    [InlineData("/hangfire")]
    [InlineData("/hangfire/servers")]
    [InlineData("/hangfire/recurring")]
    [InlineData("/hangfire/retries")]
    [InlineData("/hangfire/jobs/enqueued")]
    [InlineData("/hangfire/jobs/processing")]
    [InlineData("/hangfire/jobs/succeeded")]
    [InlineData("/hangfire/jobs/deleted")]
    public async Task The_dashboard_has_no_inline_script_and_may_have_none(string path)
    {
        using var response = await service.Http.GetAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken);
        var page = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.Contains("script-src 'self';", string.Concat(response.Headers.GetValues("Content-Security-Policy")), StringComparison.Ordinal);
        Assert.Matches("<script src=", page);
        Assert.DoesNotMatch("<script(?![^>]* src=)", page);
        Assert.DoesNotMatch(" on[a-z]+ *=", page);
        Assert.DoesNotContain("javascript:", page, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task Health_answers_at_exactly_its_addresses()
    {
        Assert.Equal("live", await service.Http.GetStringAsync(new Uri("/health/live", UriKind.Relative)));
        Assert.Equal("ready", await service.Http.GetStringAsync(new Uri("/health/ready", UriKind.Relative)));
        Assert.Equal(404, (await service.GetAsync("/elsa/api/health/ready")).Status);
        Assert.Equal(404, (await service.GetAsync("/x/health/ready")).Status);
    }

    [Fact]
    public async Task The_dashboard_shows_and_changes_nothing()
    {
        Assert.Contains("FastDraft jobs", await service.Http.GetStringAsync(new Uri("/hangfire", UriKind.Relative)), StringComparison.Ordinal);
        using var response = await service.Http.PostAsync(new Uri("/hangfire/jobs/enqueued/delete", UriKind.Relative), new StringContent(""));
        Assert.False(response.IsSuccessStatusCode);
    }

    [Fact]
    public async Task No_page_may_frame_ours_and_every_error_is_a_problem()
    {
        using var home = await service.Http.GetAsync(new Uri("/", UriKind.Relative));
        Assert.Equal("DENY", home.Headers.GetValues("X-Frame-Options").Single());
        Assert.Contains("frame-ancestors 'none'", home.Headers.GetValues("Content-Security-Policy").Single(), StringComparison.Ordinal);
        using var nowhere = await service.Http.GetAsync(new Uri("/nowhere", UriKind.Relative));
        Assert.Equal((HttpStatusCode.NotFound, "application/problem+json"), (nowhere.StatusCode, nowhere.Content.Headers.ContentType?.MediaType));
    }

    [Fact]
    public async Task Without_the_designer_its_pages_say_how_to_get_it()
    {
        using var response = await service.Http.GetAsync(new Uri("/studio", UriKind.Relative));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, response.StatusCode);
        Assert.Contains("npm ci", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }
}
