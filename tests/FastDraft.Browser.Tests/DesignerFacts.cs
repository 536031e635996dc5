using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using Microsoft.Playwright;

namespace FastDraft.Browser.Tests;

/// <summary>What a person does in the designer, done in a real browser. Pictures of each step are left in <c>artifacts/browser</c>.</summary>
public sealed class DesignerFacts : IClassFixture<Service>, IAsyncLifetime
{
    private const string List = "/studio";
    private readonly Service service;

    public DesignerFacts(Service service)
    {
        Assert.SkipWhen(Service.Missing is not null, Service.Missing ?? "");
        this.service = service;
    }

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    [Fact(Timeout = 600_000)]
    public async Task A_workflow_is_copied_changed_published_run_and_watched()
    {
        var studio = await service.OpenAsync(List);
        var page = studio.Page;
        await studio.Row("arXiv").Locator("button.mud-icon-button").Last.ClickAsync();
        await page.GetByText("Duplicate", new() { Exact = true }).ClickAsync();
        await page.Locator(".mud-dialog input").First.FillAsync("My draft");
        await page.Locator(".mud-dialog button", new() { HasText = "OK" }).ClickAsync();
        await page.GetByText("my-draft", new() { Exact = true }).ClickAsync();
        await studio.Node("export").WaitForAsync();
        await studio.PictureAsync("walk-1-copied");

        // Two activities from the toolbox after the last one.
        await studio.DropAsync("FastDraft", "Export draft", 0.6, 0.35);
        await studio.ConnectAsync("export", "Done", "ExportDraft2");
        await studio.DropAsync("Branching", "Decision", 0.8, 0.35);
        await studio.ConnectAsync("ExportDraft2", "Done", "FlowDecision1");
        await page.WaitForFunctionAsync("document.querySelectorAll('.x6-edge').length === 12");
        await studio.TickAsync("Condition");
        await studio.SelectAsync("pretrain");
        await studio.ChooseAsync("Precision", "float32");
        await studio.SelectAsync("evaluate");
        await studio.SetAsync("Max new tokens", "8");
        await studio.SetAsync("Repeats", "1");
        await studio.SetAsync("Sweep budget seconds", "0");

        // A mistake is kept in the draft, and neither published nor run; the messages say what and what instead.
        await studio.SelectAsync("ExportDraft2");
        await studio.SetAsync("Num parity prompts", "zero");
        await studio.PictureAsync("walk-2-changed");
        Assert.Equal(400, (await studio.PublishAsync()).Status);
        Assert.Contains("expects a whole number", await studio.Message("numParityPrompts").InnerTextAsync(), StringComparison.Ordinal);
        await studio.PictureAsync("walk-3-mistake");
        await studio.CloseMessagesAsync();
        await studio.SetAsync("Num parity prompts", "1");
        Assert.Equal(200, (await studio.PublishAsync()).Status);
        await studio.Message("Workflow published").WaitForAsync();
        await studio.CloseMessagesAsync();

        // What it cannot run without is asked for.
        await page.Locator("button.mud-success-text").Last.ClickAsync();
        var inputs = page.Locator("dialog.inputs");
        await inputs.GetByText("Run", new() { Exact = true }).ClickAsync();
        await page.Locator(".problems", new() { HasText = "input 'target'" }).WaitForAsync();
        await studio.PictureAsync("walk-4-refused");
        await page.Locator(".problems button").ClickAsync();
        await studio.CloseMessagesAsync();
        await page.Locator("button.mud-success-text").Last.ClickAsync();
        foreach (var (name, value) in Inputs)
        {
            await inputs.Locator($"input[name={name}]").FillAsync(value);
        }

        await studio.PictureAsync("walk-5-inputs");
        await inputs.GetByText("Run", new() { Exact = true }).ClickAsync();
        await page.WaitForURLAsync("**/workflows/instances/*/view");
        var run = page.Url.Split('/')[^2];
        await studio.Node("ingest-text").WaitForAsync();
        await page.Locator(".run-state", new() { HasText = "pretrain" }).WaitForAsync();
        await studio.PictureAsync("walk-6-running");
        await page.Locator(".run-state", new() { HasText = "Succeeded" }).WaitForAsync(new() { Timeout = 300_000 });

        // The designer asks every five seconds; then each node has its green count.
        await page.WaitForFunctionAsync("document.querySelectorAll('.x6-node .mud-success').length >= 13");
        await studio.PictureAsync("walk-7-ended");

        await page.GotoAsync("/studio/workflows/instances");
        await studio.Row("My draft").WaitForAsync();
        await studio.PictureAsync("walk-8-runs");

        var (exit, output) = await service.CommandAsync("runs", "show", run, "-o", "json");
        Assert.True(exit == 0, output);
        var shown = JsonNode.Parse(output)!;
        Assert.Equal("Succeeded", (string?)shown["state"]);
        Assert.Equal(12, shown["stages"]!.AsArray().Count);

        // The command line runs what was drawn, and finds that nothing of it has to be made again.
        (exit, output) = await service.CommandAsync(["run", "my-draft", "-o", "json", .. Inputs.SelectMany(i => (string[])["--set", $"{i.Name}={i.Value}"])]);
        Assert.True(exit == 0, output);
        Assert.Empty(studio.Complaints);
    }

    private (string Name, string Value)[] Inputs =>
        [("target", Service.Target), ("corpus", service.Text), ("codeCorpus", service.Code), ("parameters", "200000"), ("tokens", "240000"), ("accelerator", "cpu")];
}
