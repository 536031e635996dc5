using FastDraft.Core.Stages;
using FastDraft.Stages.IngestCorpus;

namespace FastDraft.Stages;

/// <summary>What a text in a path setting means: a file, a folder, a glob, or a source with a name of its own.</summary>
public static class PathSettings
{
    /// <summary>The absolute form of a path that was written in <paramref name="folder"/>.</summary>
    public static string Resolve(string path, string folder) => CorpusSources.Resolve(path, folder);

    /// <summary>The files whose content identifies the path: all of a folder, or what a source of text denotes.</summary>
    /// <exception cref="StageFailureException">There are none.</exception>
    public static IReadOnlyList<string> Files(string path) => Directory.Exists(path)
        ? [.. Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)]
        : CorpusSources.Expand(path);
}
