namespace FastDraft.Persistence.Audit;

/// <summary>
/// Who acts, for the audit. It flows with a call as a request's culture does, so that no signature between an address and its
/// transaction carries it. Where nobody said, it is the person whose process this is.
/// </summary>
public static class Actor
{
    /// <summary>A run's own doing: a child that it starts, an alias that its decision moves.</summary>
    public const string Workflow = "workflow";

    /// <summary>Whoever calls the service and has not said who they are: only signing in is open to them.</summary>
    public const string Api = "api";

    private static readonly AsyncLocal<string?> Named = new();

    public static string Current => Named.Value ?? Environment.UserName;

    public static string Schedule(string name) => "schedule " + name;

    /// <summary>Until the result is disposed, this call and those that it makes act as <paramref name="name"/>.</summary>
    public static IDisposable Become(string name)
    {
        var earlier = Named.Value;
        Named.Value = name;
        return new Ending(earlier);
    }

    private sealed class Ending(string? earlier) : IDisposable
    {
        public void Dispose() => Named.Value = earlier;
    }
}
