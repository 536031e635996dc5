using System.Text.RegularExpressions;
using FastDraft.Cli;
using FastDraft.TestKit;

namespace FastDraft.Conventions.Tests;

/// <summary>What the documents say can be done can be done: every command in them is parsed by the real command line, every link leads somewhere.</summary>
public sealed partial class DocumentFacts
{
    private static readonly string[] Prefixes = ["dotnet run -c Release --project src/FastDraft.Cli -- ", "dotnet run --project src/FastDraft.Cli -- ", "fastdraft "];

    public static TheoryData<string> Documents() =>
    [
        "README.md",
        .. Directory.EnumerateFiles(Path.Join(Executable.Repository, "docs"), "*.md", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Executable.Repository, f)).Order(StringComparer.Ordinal),
    ];

    [Theory]
    [MemberData(nameof(Documents))]
    public void Every_command_in_a_document_is_understood(string document)
    {
        using var interrupts = new Interrupts();
        var root = CommandLine.Build(interrupts);
        foreach (var command in Commands(document))
        {
            var errors = root.Parse(Words().Matches(command).Select(m => m.Value.Trim('"')).ToArray()).Errors;
            Assert.True(errors.Count == 0, $"{document}: fastdraft {command}: {string.Join(" ", errors.Select(e => e.Message))}");
        }
    }

    [Theory]
    [MemberData(nameof(Documents))]
    public void Every_relative_link_and_every_file_in_a_command_exists(string document)
    {
        var folder = Path.GetDirectoryName(Path.Join(Executable.Repository, document))!;
        var links = Links().Matches(Text(document)).Select(m => m.Groups[1].Value).Where(l => !l.Contains(':', StringComparison.Ordinal)).Select(l => Path.Join(folder, l.Split('#')[0]));
        var files = Commands(document).SelectMany(c => c.Split(' ')).Where(w => w.StartsWith("workflows/", StringComparison.Ordinal) || w.StartsWith("samples/", StringComparison.Ordinal))
            .Select(w => Path.Join(Executable.Repository, w));
        Assert.All(links.Concat(files), path => Assert.True(Path.Exists(path), $"{document}: {path}"));
    }

    [Fact]
    public void The_readme_begins_with_at_most_two_commands()
    {
        var start = Text("README.md").Split("## Start")[1].Split("\n## ")[0];
        Assert.InRange(Fences().Matches(start).Sum(f => f.Groups[1].Value.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length), 1, 2);
    }

    [Fact]
    public void Every_word_of_the_glossary_says_what_to_avoid()
    {
        var rows = Text("docs/GLOSSARY.md").Split('\n').Where(l => l.StartsWith("| ", StringComparison.Ordinal)).Skip(1).Select(l => l.Trim('|', ' ').Split(" | "));
        Assert.All(rows, row => Assert.True(row.Length == 3 && row.All(cell => cell.Trim().Length > 0), string.Join(" | ", row)));
    }

    private static string Text(string document) => File.ReadAllText(Path.Join(Executable.Repository, document));

    /// <summary>The arguments of every command in code blocks and code spans.</summary>
    private static IEnumerable<string> Commands(string document)
    {
        var text = Text(document);
        var lines = Fences().Matches(text).SelectMany(f => f.Groups[1].Value.Split('\n')).Concat(Spans().Matches(Fences().Replace(text, string.Empty)).Select(m => m.Groups[1].Value));
        foreach (var line in lines.Select(l => l.Trim()))
        {
            if (Prefixes.FirstOrDefault(p => line.StartsWith(p, StringComparison.Ordinal)) is { } prefix)
            {
                yield return line[prefix.Length..];
            }
        }
    }

    [GeneratedRegex("```[a-z]*\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Fences();

    [GeneratedRegex("`([^`\n]+)`")]
    private static partial Regex Spans();

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Links();

    [GeneratedRegex("\"[^\"]*\"|\\S+")]
    private static partial Regex Words();
}
