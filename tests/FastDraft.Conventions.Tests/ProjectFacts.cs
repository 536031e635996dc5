using System.Xml.Linq;
using FastDraft.TestKit;

namespace FastDraft.Conventions.Tests;

/// <summary>The arrows between projects, and the names of folders.</summary>
public sealed class ProjectFacts
{
    /// <summary>What each project may refer to. The command line is the composition root and may refer to all.</summary>
    private static readonly Dictionary<string, string[]> Allowed = new(StringComparer.Ordinal)
    {
        ["FastDraft.Core"] = [],
        ["FastDraft.Modeling"] = [],
        ["FastDraft.Export"] = ["FastDraft.Modeling"],
        ["FastDraft.Stages"] = ["FastDraft.Core", "FastDraft.Modeling", "FastDraft.Export"],
        ["FastDraft.Storage"] = ["FastDraft.Core"],
        ["FastDraft.Persistence"] = ["FastDraft.Core"],
        ["FastDraft.Server"] = ["FastDraft.Core", "FastDraft.Persistence", "FastDraft.Storage", "FastDraft.Stages", "FastDraft.Migrations.Sqlite", "FastDraft.Migrations.PostgreSql"],
    };

    private static readonly string[] Grabbags = ["Utils", "Util", "Utilities", "Common", "Helpers", "Helper", "Managers", "Manager", "Misc", "Shared", "Base", "Obsolete"];

    public static TheoryData<string> Projects() => [.. Allowed.Keys];

    [Theory]
    [MemberData(nameof(Projects))]
    public void A_project_refers_only_where_the_arrows_go(string project)
    {
        var references = XDocument.Load(Path.Join(Executable.Repository, "src", project, project + ".csproj")).Descendants("ProjectReference")
            .Select(r => Path.GetFileNameWithoutExtension(r.Attribute("Include")!.Value.Replace('\\', '/')));
        Assert.Empty(references.Except(Allowed[project]));
    }

    [Fact]
    public void Every_project_of_the_library_has_its_arrows_here()
    {
        var projects = Directory.EnumerateDirectories(Path.Join(Executable.Repository, "src")).Select(d => Path.GetFileName(d)!).Where(d => File.Exists(Path.Join(Executable.Repository, "src", d, d + ".csproj")));
        Assert.Empty(projects.Except(Allowed.Keys).Except(["FastDraft.Cli"]));
    }

    [Fact]
    public void No_folder_is_a_grab_bag()
    {
        var folders = new[] { "src", "tests", "benchmarks" }.Select(top => Path.Join(Executable.Repository, top)).Where(Directory.Exists)
            .SelectMany(top => Directory.EnumerateDirectories(top, "*", SearchOption.AllDirectories))
            .Where(f => !f.Contains("node_modules", StringComparison.Ordinal) && !f.Contains("wwwroot", StringComparison.Ordinal) && !f.Contains("/obj", StringComparison.Ordinal) && !f.Contains("/bin", StringComparison.Ordinal));
        Assert.DoesNotContain(folders, f => Grabbags.Contains(Path.GetFileName(f), StringComparer.Ordinal));
    }

    [Fact]
    public void No_source_file_holds_an_absolute_path_of_a_machine()
    {
        var sources = Directory.EnumerateFiles(Path.Join(Executable.Repository, "src"), "*.cs", SearchOption.AllDirectories).Where(f => !f.Contains("/obj/", StringComparison.Ordinal));
        string[] roots = [.. new[] { "home", "root", "work" }.Select(name => $"\"/{name}/")];
        Assert.DoesNotContain(sources, f => File.ReadAllText(f) is var text && roots.Any(root => text.Contains(root, StringComparison.Ordinal)));
    }
}
