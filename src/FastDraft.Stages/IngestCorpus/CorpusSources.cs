using System.Security.Cryptography;
using FastDraft.Core.Stages;
using Microsoft.Extensions.FileSystemGlobbing;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>Turns one source (file, folder, glob or <c>dotnet-docs</c>) into files.</summary>
public static class CorpusSources
{
    public const string DotnetDocs = "dotnet-docs";
    private static readonly string[] Suffixes = [".txt", ".md", ".jsonl", ".txt.gz", ".md.gz", ".jsonl.gz"];

    /// <summary>The absolute source that is meant by a text written in <paramref name="folder"/>.</summary>
    public static string Resolve(string source, string folder) => source == DotnetDocs ? source : Path.GetFullPath(source, folder);

    /// <summary>The files of one source, in ordinal order of their paths.</summary>
    /// <exception cref="StageFailureException">Config: there is no such path. Data: it has no file that is read.</exception>
    public static IReadOnlyList<string> Expand(string source)
    {
        List<string> files = [];
        if (source == DotnetDocs)
        {
            files = DocumentationFiles();
        }
        else if (File.Exists(source))
        {
            files = [Path.GetFullPath(source)];
        }
        else if (Directory.Exists(source))
        {
            files = [.. Directory.EnumerateFiles(source, "*", SearchOption.AllDirectories).Where(IsReadable).Select(Path.GetFullPath)];
        }
        else if (source.IndexOfAny(['*', '?']) is >= 0 and var star)
        {
            var cut = source.LastIndexOf('/', star);
            var root = cut < 0 ? "." : source[..(cut + 1)];
            if (Directory.Exists(root))
            {
                var matcher = new Matcher(StringComparison.Ordinal);
                matcher.AddInclude(source[(cut + 1)..]);
                files = [.. matcher.GetResultsInFullPath(root).Where(IsReadable)];
            }
        }

        if (files.Count == 0)
        {
            var exists = Directory.Exists(source) || source == DotnetDocs || source.IndexOfAny(['*', '?']) >= 0;
            throw exists
                ? new StageFailureException(FailureKind.Data, $"'{source}' has no {string.Join(", ", Suffixes)} file", "a file, folder or glob with text")
                : new StageFailureException(FailureKind.Config, $"'{source}' does not exist", $"a file, folder or glob with text, or the word {DotnetDocs} for the documentation of the installed .NET SDK");
        }

        files.Sort(StringComparer.Ordinal);
        return files;
    }

    /// <summary>Lower-case hex SHA-256 of a file.</summary>
    public static string Sha256(string path)
    {
        using var stream = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }

    private static bool IsReadable(string path) => Array.Exists(Suffixes, s => path.EndsWith(s, StringComparison.OrdinalIgnoreCase));

    private static List<string> DocumentationFiles()
    {
        var runtime = new DirectoryInfo(System.Runtime.InteropServices.RuntimeEnvironment.GetRuntimeDirectory());
        var packs = Path.Combine(runtime.Parent!.Parent!.Parent!.FullName, "packs");
        return [.. new[] { "Microsoft.NETCore.App.Ref", "Microsoft.AspNetCore.App.Ref" }.Select(p => Path.Combine(packs, p))
            .Where(Directory.Exists).SelectMany(p => Directory.EnumerateFiles(p, "*.xml", SearchOption.AllDirectories))
            .Where(f => f.Contains("/ref/", StringComparison.Ordinal))];
    }
}
