namespace FastDraft.Browser.Tests;

/// <summary>One browser at a time: what is measured in one must not wait for another.</summary>
[CollectionDefinition(Name)]
public sealed class BrowserCollection
{
    public const string Name = "browser";
}
