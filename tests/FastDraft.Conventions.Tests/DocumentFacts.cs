using System.Text.RegularExpressions;
using FastDraft.Cli;
using FastDraft.Server.Security;
using FastDraft.TestKit;

namespace FastDraft.Conventions.Tests;

/// <summary>
/// What the documents say can be done can be done: every command in them is parsed by the real command line, every link and file leads
/// somewhere, every address is served. FastDraft.Cli.Tests runs those that are quick.
/// </summary>
public sealed partial class DocumentFacts
{
    /// <summary>Programs that a person types besides this one.</summary>
    private static readonly string[] Programs =
        ["dotnet", "docker", "npm", "kubectl", "curl", "openssl", "install", "useradd", "systemctl", "journalctl", "systemd-run", "cp", "mkdir", "createdb", "pg_dump", "pg_restore", "aws", "jq", "torchrun", "fastdraft"];

    public static TheoryData<string> All() => [.. Documents.All];

    [Theory]
    [MemberData(nameof(All))]
    public void Every_command_in_a_document_is_understood(string document)
    {
        using var interrupts = new Interrupts();
        var root = CommandLine.Build(interrupts);
        foreach (var command in Documents.Commands(document))
        {
            var errors = root.Parse(command).Errors;
            Assert.True(errors.Count == 0, $"{document}: fastdraft {string.Join(' ', command)}: {string.Join(" ", errors.Select(e => e.Message))}");
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void What_is_typed_is_a_program_that_is_known_with_files_that_exist(string document)
    {
        foreach (var line in Documents.Typed(document))
        {
            var words = line.Split(' ').SkipWhile(w => w.Contains('=', StringComparison.Ordinal)).ToList();
            Assert.True(Programs.Contains(words[0], StringComparer.Ordinal), $"{document}: '{line}' begins with no known program; what a command prints stands in a block of text");
            Assert.All(words.Where(w => Ours().IsMatch(w)), w => Assert.True(Path.Exists(Path.Join(Executable.Repository, w)) || w.StartsWith("infra/docker/secrets", StringComparison.Ordinal), $"{document}: {w}"));
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Every_address_in_a_document_is_served(string document)
    {
        var rows = AccessTable.Least.Keys.Concat(AccessTable.Open).ToList();
        var asked = Documents.Spans(document).Select(s => Address().Match(s)).Where(m => m.Success).Select(m => (Method: m.Groups[1].Value, Path: m.Groups[2].Value))
            .Concat(Documents.Typed(document).Where(l => l.StartsWith("curl ", StringComparison.Ordinal)).Select(l => (Method: Posts().IsMatch(l) ? "POST" : "GET", Path: Asked().Match(l).Groups[1].Value)));
        Assert.All(asked, a => Assert.True(rows.Any(r => Serves(r, a.Method, a.Path.Split('?')[0])), $"{document}: {a.Method} {a.Path}"));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Every_relative_link_and_every_file_in_a_command_exists(string document)
    {
        var folder = Path.GetDirectoryName(Path.Join(Executable.Repository, document))!;
        var links = Links().Matches(Documents.Text(document)).Select(m => m.Groups[1].Value).Where(l => !l.Contains(':', StringComparison.Ordinal) && !l.StartsWith('#')).Select(l => Path.Join(folder, l.Split('#')[0]));
        var files = Documents.Commands(document).SelectMany(c => c).Where(w => w.StartsWith("workflows/", StringComparison.Ordinal) || w.StartsWith("samples/", StringComparison.Ordinal))
            .Select(w => Path.Join(Executable.Repository, w));
        Assert.All(links.Concat(files), path => Assert.True(Path.Exists(path), $"{document}: {path}"));
    }

    [Fact]
    public void The_readme_begins_with_at_most_two_commands_and_leads_to_every_page()
    {
        var start = Documents.Text("README.md").Split("## Start")[1].Split("\n## ")[0];
        Assert.InRange(Fences().Matches(start).Sum(f => f.Groups[1].Value.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length), 1, 2);
        Assert.All(Documents.All.Where(d => d.StartsWith("docs/how-to/", StringComparison.Ordinal)), d => Assert.Contains($"]({d})", Documents.Text("README.md"), StringComparison.Ordinal));
    }

    [Fact]
    public void Every_word_of_the_glossary_says_what_to_avoid()
    {
        var rows = Documents.Text("docs/GLOSSARY.md").Split('\n').Where(l => l.StartsWith("| ", StringComparison.Ordinal)).Skip(1).Select(l => l.Trim('|', ' ').Split(" | "));
        Assert.All(rows, row => Assert.True(row.Length == 3 && row.All(cell => cell.Trim().Length > 0), string.Join(" | ", row)));
    }

    /// <summary>Whether a row as <c>GET /api/runs/{run:guid}</c> is what answers.</summary>
    private static bool Serves(string row, string method, string path)
    {
        var (of, pattern) = (row.Split(' ')[0], row.Split(' ')[1].Trim('/').Split('/'));
        var parts = path.Trim('/').Split('/');
        var rest = Array.FindIndex(pattern, p => p.StartsWith("{**", StringComparison.Ordinal));
        return (of == method || of == "*") && (rest < 0 ? parts.Length == pattern.Length : parts.Length >= rest)
            && pattern.Take(rest < 0 ? pattern.Length : rest).Zip(parts).All(p => p.First.StartsWith('{') || p.First == p.Second);
    }

    [GeneratedRegex("```[a-z]*\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Fences();

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Links();

    [GeneratedRegex(@"^(workflows|samples|infra|src|docs)/[^*{}]+$")]
    private static partial Regex Ours();

    [GeneratedRegex(@"^(GET|POST|PUT|DELETE) (/\S+)")]
    private static partial Regex Address();

    [GeneratedRegex(@" -(d|X POST|-data) ")]
    private static partial Regex Posts();

    [GeneratedRegex(@"http://127\.0\.0\.1:5080(/[^\s""']*)")]
    private static partial Regex Asked();
}
