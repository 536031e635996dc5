using Microsoft.Playwright;

namespace FastDraft.Browser.Tests;

/// <summary>
/// The designer as a person uses it. It saves by itself half a second after a change and takes the answer in place of what it
/// shows; a click in between is lost. So each change here ends when the designer has taken its save over.
/// </summary>
public sealed class Studio(IPage page)
{
    /// <summary>Milliseconds until something that does not come counts as missing.</summary>
    public const int Patience = 120_000;

    private readonly List<string> complaints = [];

    public IPage Page => page;

    /// <summary>Errors of the page's scripts and requests to other hosts: there must be none.</summary>
    public IReadOnlyList<string> Complaints => complaints;

    public static async Task<Studio> OpenAsync(IPage page, string path)
    {
        var studio = new Studio(page);
        page.SetDefaultTimeout(Patience);
        page.Console += (_, message) =>
        {
            // The status of a refused request is a message of its own kind, and refusals are part of these facts.
            if (message.Type == "error" && !message.Text.Contains("status of 4", StringComparison.Ordinal))
            {
                studio.complaints.Add(message.Text);
            }
        };
        page.PageError += (_, error) => studio.complaints.Add(error);
        await page.GotoAsync(path);
        page.Request += (_, request) =>
        {
            if (!request.Url.StartsWith(new Uri(page.Url).GetLeftPart(UriPartial.Authority), StringComparison.Ordinal) && !request.Url.StartsWith("data:", StringComparison.Ordinal) && !request.Url.StartsWith("blob:", StringComparison.Ordinal))
            {
                studio.complaints.Add("asked another host: " + request.Url);
            }
        };
        return studio;
    }

    /// <summary>The node of an activity in the graph, by its name.</summary>
    public ILocator Node(string name) => page.Locator(".x6-node").Filter(new() { Has = page.GetByText(name, new() { Exact = true }) });

    /// <summary>The workflow's row in a list.</summary>
    public ILocator Row(string text) => page.Locator(".mud-table-row", new() { HasText = text }).First;

    /// <summary>Drops an activity of the toolbox on the graph, at a share of its width and height.</summary>
    public async Task DropAsync(string category, string activity, double x, double y)
    {
        var header = page.Locator(".mud-expand-panel", new() { Has = page.GetByText(category, new() { Exact = true }) });
        if (!(await header.GetAttributeAsync("class"))!.Contains("mud-panel-expanded", StringComparison.Ordinal))
        {
            await header.Locator(".mud-expand-panel-header").ClickAsync();
        }

        var graph = page.Locator(".x6-graph").First;
        var area = (await graph.BoundingBoxAsync())!;
        var item = page.Locator("[draggable=true]").Filter(new() { Has = page.GetByText(activity, new() { Exact = true }) });
        await SavedAsync(() => item.DragToAsync(graph, new() { TargetPosition = new() { X = (float)(area.Width * x), Y = (float)(area.Height * y) } }));
    }

    /// <summary>Draws a connection from an outcome of one activity to another one.</summary>
    public Task ConnectAsync(string source, string outcome, string target) => SavedAsync(async () =>
    {
        var from = (await Node(source).Locator($".x6-port-body[port={outcome}]").BoundingBoxAsync())!;
        var to = (await Node(target).Locator(".x6-port-body[port=In]").BoundingBoxAsync())!;
        await page.Mouse.MoveAsync(from.X + (from.Width / 2), from.Y + (from.Height / 2));
        await page.Mouse.DownAsync();
        await page.Mouse.MoveAsync(from.X + 30, from.Y + 30, new() { Steps = 5 });
        await page.Mouse.MoveAsync(to.X + (to.Width / 2), to.Y + (to.Height / 2), new() { Steps = 10 });
        await page.Mouse.UpAsync();
    });

    public async Task SelectAsync(string activity) => await Node(activity).ClickAsync(new() { Force = true });

    /// <summary>The editor of one input of the selected activity.</summary>
    public ILocator Editor(string label) => page.Locator(".mud-input-control").Filter(new() { Has = page.Locator($"label:text-is('{label}')") }).First;

    public Task SetAsync(string label, string value) => SavedAsync(
        async () =>
        {
            await Editor(label).Locator("input").First.FillAsync(value);
            await Editor(label).Locator("input").First.PressAsync("Tab");
        },
        value);

    public Task ChooseAsync(string label, string choice) => SavedAsync(
        async () =>
        {
            await Editor(label).ClickAsync();
            await page.Locator($".mud-popover-open [role=option][aria-label='{choice}']").ClickAsync();
        },
        choice);

    public Task TickAsync(string label) => SavedAsync(() => page.Locator(".mud-checkbox", new() { HasText = label }).Locator("input").CheckAsync());

    /// <summary>Presses the save button.</summary>
    public Task SaveAsync() => SavedAsync(() => page.Locator(".elsa-toolbar-icon button").ClickAsync());

    /// <summary>Presses the publish button until a press is heard, and gives the service's answer.</summary>
    public async Task<IResponse> PublishAsync()
    {
        while (true)
        {
            try
            {
                var request = await page.RunAndWaitForRequestAsync(
                    () => page.Locator(".mud-button-group-root button").First.ClickAsync(), r => IsSave(r) && r.PostData!.Contains("\"publish\":true", StringComparison.Ordinal), new() { Timeout = 3000 });
                return (await request.ResponseAsync())!;
            }
            catch (TimeoutException) when (!TestContext.Current.CancellationToken.IsCancellationRequested)
            {
                // The designer was taking a save over.
            }
        }
    }

    /// <summary>Messages stand before the buttons, and as long as the mouse is over them.</summary>
    public async Task CloseMessagesAsync()
    {
        while (await page.Locator(".mud-snackbar-close-button").CountAsync() is var count and > 0)
        {
            await page.Locator(".mud-snackbar-close-button").First.ClickAsync();
            await page.WaitForFunctionAsync("count => document.querySelectorAll('.mud-snackbar-close-button').length < count", count);
        }
    }

    public ILocator Message(string text) => page.Locator(".mud-snackbar", new() { HasText = text }).First;

    public Task PictureAsync(string name) => page.ScreenshotAsync(new() { Path = Path.Join(Service.Repository, "artifacts/browser", name + ".png") });

    private static bool IsSave(IRequest request) => request.Method == "POST" && request.Url.EndsWith(Service.Api + "/workflow-definitions", StringComparison.Ordinal);

    // After each save the designer asks for the activities again, and then it is quiet.
    private async Task SavedAsync(Func<Task> change, string holding = "")
    {
        var isSaved = false;
        var quiet = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        page.Response += Seen;
        try
        {
            await change();
            await quiet.Task.WaitAsync(TimeSpan.FromMilliseconds(Patience));
            await page.WaitForFunctionAsync("!document.querySelector('.elsa-toolbar-icon [class*=warning]')");
        }
        finally
        {
            page.Response -= Seen;
        }

        void Seen(object? sender, IResponse response)
        {
            if (IsSave(response.Request) && response.Request.PostData!.Contains(holding, StringComparison.Ordinal))
            {
                isSaved = true;
            }
            else if (isSaved && response.Url.Contains(Service.Api + "/descriptors/activities", StringComparison.Ordinal))
            {
                quiet.TrySetResult();
            }
        }
    }
}
