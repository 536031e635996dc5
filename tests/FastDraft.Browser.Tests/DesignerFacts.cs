using System.Text.Json.Nodes;
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

    [Fact(Timeout = 600_000)]
    public async Task A_workflow_is_copied_changed_published_run_and_watched()
    {
        await page.GotoAsync(service.Address + "/studio");
        await page.Locator(".mud-table-row", new() { HasText = "Seconds, not minutes" }).Locator("button.mud-icon-button").Last.ClickAsync();
        await page.GetByText("Duplicate", new() { Exact = true }).ClickAsync();
        await page.Locator(".mud-dialog input").First.FillAsync("My draft");
        await page.Locator(".mud-dialog button", new() { HasText = "OK" }).ClickAsync();
        await page.GetByText("my-draft", new() { Exact = true }).WaitForAsync();
        await PictureAsync("1-list");

        await page.GetByText("my-draft", new() { Exact = true }).ClickAsync();
        await Node("pretrain").WaitForAsync();

        // A stage from the toolbox, connected to the last one.
        await page.Locator(".mud-expand-panel-header", new() { HasText = "FastDraft" }).ClickAsync();
        var graph = page.Locator(".x6-graph").First;
        var area = (await graph.BoundingBoxAsync())!;
        await page.Locator("[draggable=true]", new() { HasText = "Export draft" }).First.DragToAsync(graph, new() { TargetPosition = new() { X = area.Width * 0.45f, Y = area.Height * 0.8f } });
        await StoredAsync("ExportDraft1");
        await ConnectAsync(Node("pretrain").Locator(".x6-port-body[port=Done]"), Node("ExportDraft1").Locator(".x6-port-body[port=In]"));
        await page.WaitForFunctionAsync("document.querySelectorAll('.x6-edge').length === 3");
        Assert.Equal(3, await page.Locator(".x6-edge").CountAsync());

        // A mistake is kept in the draft, and neither published nor run; the messages say what and what instead.
        await SetAsync("Num parity prompts", "zero");
        await PictureAsync("2-editor");
        await page.Locator(".mud-button-group-root button").First.ClickAsync();
        var refusal = page.Locator(".mud-snackbar", new() { HasText = "numParityPrompts" });
        await refusal.WaitForAsync();
        Assert.Contains("expects a whole number", await refusal.InnerTextAsync(), StringComparison.Ordinal);
        await PictureAsync("3-mistake");
        await CloseMessagesAsync();

        await SetAsync("Num parity prompts", "1");
        await page.Locator(".mud-button-group-root button").First.ClickAsync();
        await page.Locator(".mud-snackbar", new() { HasText = "Workflow published" }).WaitForAsync();
        await CloseMessagesAsync();

        await page.Locator("button.mud-success-text").Last.ClickAsync();
        await page.WaitForURLAsync("**/workflows/instances/*/view");
        var run = page.Url.Split('/')[^2];
        await Node("ingest").WaitForAsync();
        await PictureAsync("4-running");
        await page.Locator(".run-state", new() { HasText = "Succeeded" }).WaitForAsync(new() { Timeout = 300_000 });

        // The designer asks every five seconds; then each node has its green count.
        await page.WaitForFunctionAsync("document.querySelectorAll('.x6-node .mud-badge').length >= 4 || document.querySelectorAll('.x6-node .mud-success').length >= 4");
        await PictureAsync("5-ended");

        await page.GotoAsync(service.Address + "/studio/workflows/instances");
        await page.Locator(".mud-table-row", new() { HasText = "My draft" }).First.WaitForAsync();
        await PictureAsync("6-runs");

        var (exit, output) = await service.CommandAsync("runs", "show", run, "-o", "json");
        Assert.Equal(0, exit);
        var shown = JsonNode.Parse(output)!;
        Assert.Equal("Succeeded", (string?)shown["state"]);
        Assert.Equal(["ingest", "align", "pretrain", "ExportDraft1"], shown["stages"]!.AsArray().Select(s => (string?)s!["activityId"]));
        Assert.Empty(complaints);
    }

    [Fact(Timeout = 300_000)]
    public async Task A_workflow_of_two_hundred_activities_opens()
    {
        using var http = new HttpClient { BaseAddress = new Uri(service.Address) };
        using var saved = await http.PostAsync(new Uri("/elsa/api/workflow-definitions", UriKind.Relative), new StringContent(Large(200), System.Text.Encoding.UTF8, "application/json"));
        Assert.True(saved.IsSuccessStatusCode, await saved.Content.ReadAsStringAsync());

        await page.GotoAsync(service.Address + "/studio/workflows/definitions/large/edit");
        await page.WaitForFunctionAsync("document.querySelectorAll('.x6-node').length >= 200");
        await PictureAsync("7-large");
        Assert.Empty(complaints);
    }

    private ILocator Node(string name) => page.Locator(".x6-node", new() { HasText = name }).First;

    private async Task ConnectAsync(ILocator source, ILocator target)
    {
        var (from, to) = ((await source.BoundingBoxAsync())!, (await target.BoundingBoxAsync())!);
        await page.Mouse.MoveAsync(from.X + (from.Width / 2), from.Y + (from.Height / 2));
        await page.Mouse.DownAsync();
        await page.Mouse.MoveAsync(from.X + 40, from.Y + 60, new() { Steps = 5 });
        await page.Mouse.MoveAsync(to.X + (to.Width / 2), to.Y + (to.Height / 2), new() { Steps = 10 });
        await page.Mouse.UpAsync();
    }

    private async Task SetAsync(string label, string value)
    {
        await Node("ExportDraft1").ClickAsync(new() { Force = true });
        var input = page.Locator($".mud-input-control:has(label:text-is('{label}')) input").First;
        await input.FillAsync(value);
        await input.PressAsync("Tab");
        await StoredAsync($"\"value\":\"{value}\"");

        // The dot beside the save button is orange until the editor has taken the answer over.
        await page.WaitForFunctionAsync("!document.querySelector('.elsa-toolbar-icon [class*=warning]')");
    }

    // A message stands before the buttons, and as long as the mouse is over it.
    private async Task CloseMessagesAsync()
    {
        while (await page.Locator(".mud-snackbar-close-button").CountAsync() > 0)
        {
            await page.Locator(".mud-snackbar-close-button").First.ClickAsync();
            await page.WaitForFunctionAsync("() => document.querySelectorAll('.mud-snackbar-close-button').length === 0 || !document.querySelector('.mud-snackbar:hover')");
        }
    }

    /// <summary>Waits until the save that follows each change by itself has reached the server.</summary>
    private async Task StoredAsync(string text) => await page.WaitForFunctionAsync(
        "async text => (await (await fetch('/elsa/api/workflow-definitions/by-definition-id/my-draft?versionOptions=Latest')).text()).includes(text)", text, new() { PollingInterval = 250 });

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
