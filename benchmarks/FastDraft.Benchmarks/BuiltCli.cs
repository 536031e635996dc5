namespace FastDraft.Benchmarks;

/// <summary>The <c>fastdraft</c> that was built beside the benchmarks.</summary>
internal static class BuiltCli
{
    /// <summary>Its executable, of the same configuration.</summary>
    public static string File { get; } = Find();

    private static string Find()
    {
        var build = new DirectoryInfo(AppContext.BaseDirectory);
        return Path.Join(build.Parent!.Parent!.FullName, "FastDraft.Cli", build.Name, "fastdraft");
    }
}
