using System.Text.RegularExpressions;
using FastDraft.TestKit;

namespace FastDraft.Conventions.Tests;

/// <summary>What a deployment sets is what the code reads, and the page for operators says all of it.</summary>
public sealed partial class SettingFacts
{
    [Fact]
    public void Every_variable_in_the_compose_file_is_one_that_the_code_reads()
    {
        var read = Sources().SelectMany(f => Variables().Matches(File.ReadAllText(f)).Select(m => m.Value)).ToHashSet(StringComparer.Ordinal);
        var set = Variables().Matches(Text("docker-compose.yml") + Text("infra/docker/example.env")).Select(m => m.Value).Distinct();
        Assert.Subset(read, set.ToHashSet(StringComparer.Ordinal));
    }

    [Fact]
    public void Every_secret_of_the_compose_file_must_be_given_and_stands_in_the_example()
    {
        var compose = Text("docker-compose.yml");
        Assert.All(Interpolations().Matches(compose), m => Assert.Contains(":?", m.Value, StringComparison.Ordinal));
        var asked = Interpolations().Matches(compose).Select(m => m.Groups[1].Value).Distinct().Order(StringComparer.Ordinal);
        var example = Text("infra/docker/example.env").Split('\n').Where(l => l.Contains('=', StringComparison.Ordinal) && !l.StartsWith('#')).ToList();
        Assert.All(example, line => Assert.EndsWith("=", line, StringComparison.Ordinal));
        Assert.Equal(asked, example.Select(l => l.TrimEnd('=')).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_compose_file_publishes_the_server_on_this_machine_alone_and_pins_every_image()
    {
        var compose = Text("docker-compose.yml");
        Assert.Equal("127.0.0.1:5080:8080", Assert.Single(Ports().Matches(compose)).Groups[1].Value);
        Assert.All(Images().Matches(compose), m => Assert.False(m.Groups[1].Value is "" or "latest", m.Value));
        Assert.NotEmpty(Images().Matches(compose));
    }

    [Theory]
    [InlineData("FASTDRAFT_STORE")]
    [InlineData("FASTDRAFT_S3_")]
    [InlineData("FASTDRAFT_KEEP_")]
    [InlineData("FASTDRAFT_GC_")]
    public void Settings_of_the_store_and_of_retention_are_explained(string prefix)
    {
        var page = Text("docs/how-to/operate.md");
        var read = Sources().SelectMany(f => Variables().Matches(File.ReadAllText(f)).Select(m => m.Value)).Where(v => v.StartsWith(prefix, StringComparison.Ordinal)).Distinct().ToList();
        Assert.NotEmpty(read);
        Assert.All(read, name => Assert.Contains($"`{name}`", page, StringComparison.Ordinal));
    }

    private static IEnumerable<string> Sources() =>
        Directory.EnumerateFiles(Path.Join(Executable.Repository, "src"), "*.cs", SearchOption.AllDirectories).Where(f => !f.Contains("/obj/", StringComparison.Ordinal));

    private static string Text(string file) => File.ReadAllText(Path.Join(Executable.Repository, file));

    [GeneratedRegex("FASTDRAFT_[A-Z0-9]+(_[A-Z0-9]+)*")]
    private static partial Regex Variables();

    [GeneratedRegex(@"(?<!\$)\$\{([A-Z0-9_]+)[^}]*\}")]
    private static partial Regex Interpolations();

    [GeneratedRegex("ports: \\[\"([^\"]+)\"\\]")]
    private static partial Regex Ports();

    [GeneratedRegex(@"image: \S+?(?::([^:\s]*))?$", RegexOptions.Multiline)]
    private static partial Regex Images();
}
