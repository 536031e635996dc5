using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using Microsoft.Playwright;

namespace FastDraft.Browser.Tests;

/// <summary>What a person does in the designer, done in a real browser. Pictures of each step are left in <c>artifacts/browser</c>.</summary>
[Collection(BrowserCollection.Name)]
public sealed class DesignerFacts : IClassFixture<Service>, IAsyncLifetime
{
    private readonly Service service;
    private Studio? opened;

    public DesignerFacts(Service service)
    {
        Assert.SkipWhen(Service.Missing is not null, Service.Missing ?? "");
        this.service = service;
    }

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        if (opened is not null)
        {
            if (TestContext.Current.TestState?.Result == TestResult.Failed)
            {
                await opened.PictureAsync("failed-" + TestContext.Current.TestMethod!.MethodName);
            }

            await opened.Page.CloseAsync();
        }
    }

    [Fact(Timeout = 600_000)]
    public async Task A_workflow_is_copied_changed_published_run_and_watched()
    {
        var studio = await OpenAsync("/studio");
        var page = studio.Page;
        await studio.Row("arXiv").Locator("button.mud-icon-button").Last.ClickAsync();
        await page.GetByText("Duplicate", new() { Exact = true }).ClickAsync();
        await page.Locator(".mud-dialog input").First.FillAsync("My draft");
        await page.Locator(".mud-dialog button", new() { HasText = "OK" }).ClickAsync();
        await page.GetByText("my-draft", new() { Exact = true }).ClickAsync();
        await studio.Node("export").WaitForAsync();
        await studio.PictureAsync("walk-1-copied");

        // Two activities from the toolbox after the last one.
        await studio.DropAsync("FastDraft", "Export draft", 0.58, 0.6);
        await studio.ConnectAsync("export", "Done", "ExportDraft2");
        await studio.DropAsync("Primitives", "Publish event", 0.82, 0.6);
        await studio.ConnectAsync("ExportDraft2", "Done", "PublishEvent1");
        await page.WaitForFunctionAsync("document.querySelectorAll('.x6-edge').length === 12");
        await studio.SetAsync("Event name", "draft-ready");
        await studio.TickAsync("Local event");
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
        await page.Locator(".run-state", new() { HasText = "Succeeded" }).WaitForAsync(new() { Timeout = 480_000 });

        // The designer asks every five seconds; then each node has its green count.
        await page.WaitForFunctionAsync("document.querySelectorAll('.x6-node .mud-badge.mud-theme-success').length === 13");
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

    [Theory(Timeout = 300_000)]
    [MemberData(nameof(Shipped))]
    public async Task A_workflow_that_ships_comes_back_from_the_designer_as_it_was(string file)
    {
        var model = JsonNode.Parse(await File.ReadAllTextAsync(Path.Join(Service.Repository, "workflows", file), TestContext.Current.CancellationToken))!.AsObject();
        model["definitionId"] = "opened-" + model["definitionId"];
        var id = (string)model["definitionId"]!;
        await service.PostAsync("/workflow-definitions/import", model.DeepClone());

        var studio = await OpenAsync($"/studio/workflows/definitions/{id}/edit");
        await studio.Page.WaitForFunctionAsync("count => document.querySelectorAll('.x6-edge').length === count", model["root"]!["connections"]!.AsArray().Count);
        await studio.PictureAsync("opened-" + file);
        await studio.SaveAsync();

        var exported = JsonNode.Parse(await service.Http.GetStringAsync(new Uri($"{Service.Api}/workflow-definitions/{id}/export?versionOptions=Latest", UriKind.Relative), TestContext.Current.CancellationToken))!;
        Assert.Equal(WorkflowDefinition.Parse(model.ToJsonString()).Digest, WorkflowDefinition.Parse(exported.ToJsonString()).Digest);
        Assert.Equal(Places(model), Places(exported));
        Assert.Equal(Words(model), Words(exported));
        Assert.Empty(studio.Complaints);

        static SortedDictionary<string, string> Places(JsonNode workflow) => new(workflow["root"]!["activities"]!.AsArray()
            .ToDictionary(a => (string)a!["id"]!, a => $"{(double)a!["metadata"]!["designer"]!["position"]!["x"]!} {(double)a["metadata"]!["designer"]!["position"]!["y"]!}"), StringComparer.Ordinal);

        static List<string?> Words(JsonNode workflow) =>
            [(string?)workflow["name"], (string?)workflow["description"], .. workflow["inputs"]!.AsArray().SelectMany(i => (string?[])[(string?)i!["name"], (string?)i["displayName"], (string?)i["description"]])];
    }

    [Fact(Timeout = 300_000)]
    public async Task What_ships_is_shown_and_cannot_be_changed()
    {
        var studio = await OpenAsync("/studio/workflows/definitions/quickstart/edit");
        await studio.Node("export").WaitForAsync();

        await Assertions.Expect(studio.Page.GetByText("read-only mode")).ToBeVisibleAsync();
        await Assertions.Expect(studio.Page.Locator(".elsa-toolbar-icon")).ToHaveCountAsync(0);
        await studio.PictureAsync("read-only");
        Assert.Empty(studio.Complaints);
    }

    [Fact(Timeout = 300_000)]
    public async Task Mistakes_are_the_designer_s_own_messages_and_editors_are_typed()
    {
        await service.SaveAsync(Flow(
            "mistakes",
            """
            { "id": "first", "type": "FastDraft.PretrainDraft", "learningRte": { "typeName": "Double", "expression": { "type": "Literal", "value": 1 } } },
            { "id": "a", "type": "Elsa.For" }, { "id": "b", "type": "Elsa.WriteLine" }
            """,
            "first a", "first b", "a b", "b a"));
        var studio = await OpenAsync("/studio/workflows/definitions/mistakes/edit");
        await studio.SelectAsync("first");

        await Assertions.Expect(studio.Editor("Precision")).ToContainTextAsync("auto");
        await Assertions.Expect(studio.Editor("Num tokens").Locator("input")).ToHaveValueAsync("1000000000");
        await Assertions.Expect(studio.Editor("Num tokens")).ToContainTextAsync("tokens");
        await studio.SelectAsync("a");
        await Assertions.Expect(studio.Page.Locator(".mud-checkbox", new() { HasText = "Outer bound inclusive" }).Locator("input")).ToBeCheckedAsync();
        Assert.Equal(400, (await studio.PublishAsync()).Status);
        await studio.Message("did you mean 'learningRate'?").WaitForAsync();
        await studio.PictureAsync("mistakes");
        Assert.Empty(studio.Complaints);
    }

    [Fact(Timeout = 300_000)]
    public async Task A_run_that_failed_says_why_and_is_retried_and_one_that_waits_is_cancelled()
    {
        await service.SaveAsync(Flow("fails", """{ "id": "stop", "type": "Elsa.Fault", "message": { "typeName": "String", "expression": { "type": "Literal", "value": "The corpus is empty" } } }"""));
        await service.SaveAsync(Flow("waits", """{ "id": "wait", "type": "Elsa.Delay", "timeSpan": { "typeName": "TimeSpan", "expression": { "type": "Literal", "value": "01:00:00" } } }"""));

        var studio = await OpenAsync($"/studio/workflows/instances/{await service.StartAsync("fails")}/view");
        var page = studio.Page;
        var state = page.Locator(".run-state");
        await Assertions.Expect(state).ToContainTextAsync("The corpus is empty");
        await page.Locator(".x6-node .mud-badge.mud-theme-error").WaitForAsync();
        await page.Locator(".mud-tab", new() { HasText = "Incidents" }).ClickAsync();
        await page.Locator(".mud-expand-panel", new() { HasText = "The corpus is empty" }).WaitForAsync();
        await studio.PictureAsync("run-failed");
        var first = page.Url;
        await page.Locator(".run .retry").ClickAsync();
        await page.WaitForURLAsync(url => url != first);

        await page.GotoAsync($"/studio/workflows/instances/{await service.StartAsync("waits")}/view");
        await Assertions.Expect(state).ToContainTextAsync("wait waits until");
        await studio.Node("wait").WaitForAsync();
        await studio.PictureAsync("run-waits");
        await page.Locator(".run .cancel").ClickAsync();
        await Assertions.Expect(state).ToContainTextAsync("Cancelled");
        await studio.PictureAsync("run-cancelled");
        Assert.Empty(studio.Complaints);
    }

    [Fact(Timeout = 300_000)]
    public async Task A_workflow_of_two_hundred_activities_opens()
    {
        var activities = Enumerable.Range(0, 200).Select(i =>
            $$"""{ "id": "line{{i}}", "type": "Elsa.WriteLine", "metadata": { "designer": { "position": { "x": {{i % 20 * 240}}, "y": {{i / 20 * 100}} } } }, "text": { "typeName": "String", "expression": { "type": "Literal", "value": "{{i}}" } } }""");
        await service.SaveAsync(Flow("large", string.Join(",", activities), [.. Enumerable.Range(1, 199).Select(i => $"line{i - 1} line{i}")]));

        var watch = Stopwatch.StartNew();
        var studio = await OpenAsync("/studio/workflows/definitions/large/edit");
        await studio.Page.WaitForFunctionAsync("document.querySelectorAll('.x6-node').length === 200 && document.querySelectorAll('.x6-edge').length === 199");
        TestContext.Current.SendDiagnosticMessage("200 activities are drawn after {0:F1} s", watch.Elapsed.TotalSeconds);
        await studio.PictureAsync("large");
        Assert.Equal(200, (await studio.PublishAsync()).Status);
        Assert.Empty(studio.Complaints);
    }

    private async Task<Studio> OpenAsync(string path) => opened = await service.OpenAsync(path);

    public static TheoryData<string> Shipped => [.. Service.WorkflowFiles.Select(f => Path.GetFileName(f)!)];

    /// <summary>A flowchart of activities in a row; a connection is two ids.</summary>
    private static JsonObject Flow(string id, string activities, params string[] connections)
    {
        var flow = JsonNode.Parse($$"""{ "definitionId": "{{id}}", "name": "{{id}}", "root": { "id": "Flowchart1", "name": "Flowchart1", "type": "Elsa.Flowchart", "version": 1, "activities": [ {{activities}} ] } }""")!.AsObject();
        foreach (var (i, activity) in flow["root"]!["activities"]!.AsArray().Index())
        {
            (activity!["name"], activity["version"]) = ((string?)activity["id"], 1);
            activity["metadata"] ??= new JsonObject { ["designer"] = new JsonObject { ["position"] = new JsonObject { ["x"] = i * 290, ["y"] = i % 2 * 130 } } };
        }

        flow["root"]!["connections"] = new JsonArray([.. connections.Select(c => c.Split(' ')).Select(c => new JsonObject
        {
            ["source"] = new JsonObject { ["activity"] = c[0], ["port"] = "Done" }, ["target"] = new JsonObject { ["activity"] = c[1], ["port"] = "In" },
        })]);
        return flow;
    }

    private (string Name, string Value)[] Inputs =>
        [("target", Service.Target), ("corpus", service.Text), ("codeCorpus", service.Code), ("parameters", "200000"), ("tokens", "200000"), ("accelerator", "cpu")];
}
