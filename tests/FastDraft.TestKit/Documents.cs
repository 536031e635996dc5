using System.Text.RegularExpressions;

namespace FastDraft.TestKit;

/// <summary>README.md and docs/: what they tell people to type.</summary>
public static partial class Documents
{
    private static readonly string[] Prefixes =
        ["dotnet run -c Release --project src/FastDraft.Cli -- ", "dotnet run --project src/FastDraft.Cli -- ", "/app/fastdraft ", "/opt/fastdraft/fastdraft ", "fastdraft "];

    /// <summary>Paths from the top of the repository.</summary>
    public static IReadOnlyList<string> All { get; } =
    [
        "README.md",
        .. Directory.EnumerateFiles(Path.Join(Executable.Repository, "docs"), "*.md", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Executable.Repository, f)).Order(StringComparer.Ordinal),
    ];

    public static string Text(string document) => File.ReadAllText(Path.Join(Executable.Repository, document));

    /// <summary>Lines of the blocks that name no language: what is typed. A block of another kind says so (<c>text</c> for what a command prints).</summary>
    public static IEnumerable<string> Typed(string document) =>
        Fences().Matches(Text(document)).Where(f => f.Groups[1].Length == 0).SelectMany(f => f.Groups[2].Value.Split('\n')).Select(l => l.Trim()).Where(l => l.Length > 0);

    /// <summary>Code within lines.</summary>
    public static IEnumerable<string> Spans(string document) => SpanPattern().Matches(Fences().Replace(Text(document), string.Empty)).Select(m => m.Groups[1].Value.Trim());

    /// <summary>The arguments of every command of ours in blocks and lines, without what a shell does with its output.</summary>
    public static IEnumerable<string[]> Commands(string document) => Typed(document).Concat(Spans(document)).Select(Arguments).OfType<string[]>();

    /// <returns>Null where the line is no command of ours.</returns>
    private static string[]? Arguments(string line)
    {
        line = Assignments().Replace(line, string.Empty);
        var at = Prefixes.Select(p => (Prefix: p, At: p[0] == '/' ? line.IndexOf(p, StringComparison.Ordinal) : line.StartsWith(p, StringComparison.Ordinal) ? 0 : -1)).FirstOrDefault(p => p.At >= 0);
        return at.Prefix is null ? null : [.. Words().Matches(line[(at.At + at.Prefix.Length)..]).Select(m => m.Value).TakeWhile(w => w is not (">" or "|")).Select(w => w.Trim('"', '\''))];
    }

    [GeneratedRegex("```([a-z]*)\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Fences();

    [GeneratedRegex("`([^`\n]+)`")]
    private static partial Regex SpanPattern();

    [GeneratedRegex(@"^([A-Z_]+=\S* )+")]
    private static partial Regex Assignments();

    [GeneratedRegex("\"[^\"]*\"|'[^']*'|\\S+")]
    private static partial Regex Words();
}
