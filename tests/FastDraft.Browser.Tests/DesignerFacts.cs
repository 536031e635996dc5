using Microsoft.Playwright;

namespace FastDraft.Browser.Tests;

/// <summary>What a person does in the designer, done in a real browser. Pictures of each step are left in <c>artifacts/browser</c>.</summary>
public sealed class DesignerFacts(Service service) : IClassFixture<Service>, IAsyncLifetime
{
    private const int Patience = 90_000;
    private readonly List<string> complaints = [];
    private IPlaywright? playwright;
    private IBrowser? browser;
    private IPage page = null!;

    public async ValueTask InitializeAsync()
    {
        Assert.SkipWhen(Service.Missing is not null, Service.Missing ?? "");
        playwright = await Playwright.CreateAsync();
        browser = await playwright.Chromium.LaunchAsync(new() { ExecutablePath = Service.Chromium, Args = ["--no-sandbox", "--disable-gpu"] });
        page = await browser.NewPageAsync(new() { ViewportSize = new() { Width = 1500, Height = 950 } });
        page.SetDefaultTimeout(Patience);
        page.Console += (_, message) =>
        {
            // The status of a refused request is a message of its own kind, and refusals are part of these facts.
            if (message.Type == "error" && !message.Text.Contains("status of 4", StringComparison.Ordinal))
            {
                complaints.Add(message.Text);
            }
        };
        page.PageError += (_, error) => complaints.Add(error);
        page.RequestFailed += (_, request) =>
        {
            if (!request.Url.StartsWith(service.Address, StringComparison.Ordinal))
            {
                complaints.Add("asked another host: " + request.Url);
            }
        };
    }

    public async ValueTask DisposeAsync()
    {
        if (browser is not null)
        {
            await browser.CloseAsync();
        }

        playwright?.Dispose();
    }

    [Fact(Timeout = 300_000)]
    public async Task A_workflow_of_two_hundred_activities_opens()
    {
        using var http = new HttpClient { BaseAddress = new Uri(service.Address) };
        using var saved = await http.PostAsync(new Uri("/elsa/api/workflow-definitions", UriKind.Relative), new StringContent(Large(200), System.Text.Encoding.UTF8, "application/json"));
        Assert.True(saved.IsSuccessStatusCode, await saved.Content.ReadAsStringAsync());

        await page.GotoAsync(service.Address + "/studio/workflows/definitions/large/edit");
        await page.WaitForFunctionAsync("document.querySelectorAll('.x6-node').length >= 200");
        await PictureAsync("large");
        Assert.Empty(complaints);
    }

    private async Task PictureAsync(string name) =>
        await page.ScreenshotAsync(new() { Path = Path.Join(Service.Repository, "artifacts/browser", name + ".png") });

    private static string Large(int count)
    {
        var activities = Enumerable.Range(0, count).Select(i => $$"""
            { "id": "line{{i}}", "name": "line{{i}}", "type": "Elsa.WriteLine", "version": 1, "metadata": { "designer": { "position": { "x": {{i % 20 * 240}}, "y": {{i / 20 * 100}} } } },
              "text": { "typeName": "String", "expression": { "type": "Literal", "value": "{{i}}" } } }
            """);
        var connections = Enumerable.Range(1, count - 1).Select(i => $$"""{ "source": { "activity": "line{{i - 1}}", "port": "Done" }, "target": { "activity": "line{{i}}", "port": "In" } }""");
        return $$"""
            { "publish": true, "model": { "definitionId": "large", "name": "large", "root": { "id": "Flowchart1", "name": "Flowchart1", "type": "Elsa.Flowchart", "version": 1,
              "activities": [ {{string.Join(",", activities)}} ], "connections": [ {{string.Join(",", connections)}} ] } } }
            """;
    }
}
