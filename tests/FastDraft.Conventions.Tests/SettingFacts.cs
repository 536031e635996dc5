using System.Text.RegularExpressions;
using FastDraft.TestKit;

namespace FastDraft.Conventions.Tests;

/// <summary>What a deployment sets is what the code reads, and the page for operators says all of it.</summary>
public sealed partial class SettingFacts
{
    /// <summary>What a process sets for its children, and what tests set.</summary>
    private static readonly string[] Internal = ["FASTDRAFT_ATTEMPT", "FASTDRAFT_FAILPOINT"];

    [Fact]
    public void Every_variable_of_a_deployment_or_a_document_is_one_that_the_code_reads()
    {
        var read = Read("src").ToHashSet(StringComparer.Ordinal);
        var deployed = Files("infra").Append("docker-compose.yml").SelectMany(f => Named(f)).Distinct().ToList();
        Assert.InRange(deployed.Count, 8, 100);
        Assert.Subset(read, deployed.ToHashSet(StringComparer.Ordinal));

        // The report names what its tests read.
        var documents = Files("docs").Append("README.md").SelectMany(f => Named(f)).Distinct().ToHashSet(StringComparer.Ordinal);
        Assert.Subset(read.Union(Read("tests")).ToHashSet(StringComparer.Ordinal), documents);
    }

    [Fact]
    public void Every_variable_that_the_code_reads_stands_on_the_page_for_operators()
    {
        var page = Text("docs/how-to/operate.md");
        var read = Read("src").Except(Internal).Distinct().ToList();
        Assert.InRange(read.Count, 20, 100);
        Assert.DoesNotContain(read, name => !page.Contains($"`{name}", StringComparison.Ordinal));
    }

    [Fact]
    public void Every_value_that_the_compose_file_asks_for_must_be_given_and_stands_in_the_example()
    {
        var compose = Text("docker-compose.yml");
        Assert.All(Interpolations().Matches(compose), m => Assert.Contains(":?", m.Value, StringComparison.Ordinal));
        var asked = Interpolations().Matches(compose).Select(m => m.Groups[1].Value).Distinct().Order(StringComparer.Ordinal);
        var example = Text("infra/docker/example.env").Split('\n').Where(l => l.Contains('=', StringComparison.Ordinal) && !l.StartsWith('#')).ToList();
        Assert.All(example, line => Assert.EndsWith("=", line, StringComparison.Ordinal));
        Assert.Equal(asked, example.Select(l => l.TrimEnd('=')).Order(StringComparer.Ordinal));
    }

    private static IEnumerable<string> Read(string top) => Files(top).Where(f => f.EndsWith(".cs", StringComparison.Ordinal) || f.EndsWith(".py", StringComparison.Ordinal))
        .Where(f => top == "tests" || !f.Contains("/tests/", StringComparison.Ordinal)).SelectMany(Named);

    private static IEnumerable<string> Named(string file) => Variables().Matches(Text(file)).Select(m => m.Value);

    private static IEnumerable<string> Files(string folder) => Directory.EnumerateFiles(Path.Join(Executable.Repository, folder), "*", SearchOption.AllDirectories)
        .Where(f => !f.Contains("/obj/", StringComparison.Ordinal) && !f.Contains("/node_modules/", StringComparison.Ordinal) && !f.EndsWith(".png", StringComparison.Ordinal)).Select(f => Path.GetRelativePath(Executable.Repository, f));

    private static string Text(string file) => File.ReadAllText(Path.Join(Executable.Repository, file));

    [GeneratedRegex("FASTDRAFT_[A-Z0-9]+(_[A-Z0-9]+)*")]
    private static partial Regex Variables();

    [GeneratedRegex(@"(?<!\$)\$\{([A-Z0-9_]+)[^}]*\}")]
    private static partial Regex Interpolations();
}
