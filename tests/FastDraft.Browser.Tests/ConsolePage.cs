using Deque.AxeCore.Commons;
using Microsoft.Playwright;

namespace FastDraft.Browser.Tests;

/// <summary>A page of the console in a browser, and what its scripts complained about.</summary>
public sealed class ConsolePage : IAsyncDisposable
{
    private static readonly string Axe = new BundledAxeScriptProvider().GetScript();
    private readonly List<string> complaints = [];

    public ConsolePage(IPage page)
    {
        Page = page;
        page.SetDefaultTimeout(30_000);
        page.Console += (_, message) =>
        {
            if (message.Type == "error")
            {
                complaints.Add(message.Text);
            }
        };
        page.PageError += (_, error) => complaints.Add(error);
    }

    public IPage Page { get; }

    public IReadOnlyList<string> Complaints => complaints;

    public async Task<int> GoAsync(string address)
    {
        var response = await Page.GotoAsync(address);
        await ConnectedAsync();
        return response!.Status;
    }

    /// <summary>Completes when buttons work and nothing is being loaded.</summary>
    public async Task ConnectedAsync()
    {
        await Page.Locator(".app[data-connected=true] main h1").First.WaitForAsync();
        await Assertions.Expect(Page.Locator("[role=status]", new() { HasText = "Loading" })).ToHaveCountAsync(0);
    }

    /// <summary>Completes when an expression is true: asked from outside, for the page's policy evaluates no text.</summary>
    public async Task UntilAsync(string expression)
    {
        while (!await Page.EvaluateAsync<bool>(expression))
        {
            await Page.EvaluateAsync("() => new Promise(requestAnimationFrame)");
        }
    }

    /// <summary>What axe finds serious or critical in the page as it is now.</summary>
    public async Task<IReadOnlyList<string>> HiddenAsync()
    {
        if (!await Page.EvaluateAsync<bool>("'axe' in window"))
        {
            await Page.EvaluateAsync(Axe);
        }

        // Once for all rules in one go: the library's own way opens a second page for every look.
        return await Page.EvaluateAsync<string[]>(
            """
            async () => (await axe.run({ iframes: false, resultTypes: ['violations'] })).violations.filter(v => ['serious', 'critical'].includes(v.impact))
              .map(v => `${v.id}, ${v.help}: ` + v.nodes.slice(0, 3).map(n => n.html).join(' | '))
            """);
    }

    /// <summary>Light or dark, without loading the page anew.</summary>
    public Task ThemeAsync(string theme) => Page.EvaluateAsync("theme => { document.documentElement.dataset.theme = theme; }", theme);

    public ILocator Button(string name) => Page.GetByRole(AriaRole.Button, new() { Name = name, Exact = true });

    public ILocator Link(string name) => Page.GetByRole(AriaRole.Link, new() { Name = name, Exact = true });

    public async ValueTask DisposeAsync() => await Page.CloseAsync();
}
