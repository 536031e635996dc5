using Microsoft.AspNetCore.Components.Routing;

namespace FastDraft.Server.ConsolePages;

/// <summary>A link of the navigation: marked on its page and those below it, but for those that have a link of their own.</summary>
public sealed class NavItem : NavLink
{
    protected override bool ShouldMatch(string uriAbsolute) => base.ShouldMatch(uriAbsolute) && !(IsRuns && Path(uriAbsolute) == "/runs/compare");

    private bool IsRuns => AdditionalAttributes?.GetValueOrDefault("href") is "/runs";

    private static string Path(string uri) => new Uri(uri).AbsolutePath.TrimEnd('/');
}
