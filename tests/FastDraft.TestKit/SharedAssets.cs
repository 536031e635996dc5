namespace FastDraft.TestKit;

/// <summary>
/// Finds the reference assets (corpora, goldens, models) that stand beside a checkout in <c>../shared</c>. They are not part of the
/// repository: a fact that needs them skips loudly where they are absent.
/// </summary>
public static class SharedAssets
{
    public const string Missing = "SKIPPED: the reference assets (../shared beside the repository, or FASTDRAFT_SHARED) are not here.";

    public static string? Root { get; } = Find();

    public static bool Present => Root is not null;

    public static string Path(params string[] parts) =>
        System.IO.Path.Combine([Root ?? throw new InvalidOperationException(Missing), .. parts]);

    private static string? Find()
    {
        if (Environment.GetEnvironmentVariable("FASTDRAFT_SHARED") is { Length: > 0 } configured)
        {
            return Directory.Exists(configured) ? configured : null;
        }

        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(System.IO.Path.Combine(folder.FullName, "Pipeline.sln")))
            {
                var shared = System.IO.Path.Combine(folder.Parent!.FullName, "shared");
                return Directory.Exists(shared) ? shared : null;
            }
        }

        return null;
    }
}
