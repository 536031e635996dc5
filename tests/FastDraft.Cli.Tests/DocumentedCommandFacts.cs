using FastDraft.TestKit;

namespace FastDraft.Cli.Tests;

/// <summary>Commands of the documents that only look or change little are run as they stand there, on a folder in which a run has ended.</summary>
[Collection(TinyPipelines.Name)]
public sealed class DocumentedCommandFacts(TinyPipeline tiny)
{
    private static readonly string[] Quick =
    [
        "runs list", "runs show", "runs explain", "runs compare", "lineage", "artifacts list", "artifacts verify", "artifacts provenance", "artifacts card", "artifacts get", "artifacts pin", "cache list", "gates list",
        "models list", "schedule list", "audit list", "audit verify", "gc --dry-run", "backup", "token", "help", "completion", "workflow", "plan workflows/quickstart.json",
    ];

    /// <summary>What cannot be so in that folder: a bucket, another data folder, a chain of another day.</summary>
    private static readonly string[] Elsewhere = ["--url", "--data", "--expect"];

    /// <summary>A token of one name is made once, however many documents say so.</summary>
    private static string Once(string[] command) => string.Join(' ', command is ["token", "create", ..] ? command[..3] : command);

    [Fact]
    public async Task Every_quick_command_of_the_documents_works()
    {
        var outputs = TinyPipeline.Json(await tiny.CliAsync("artifacts", "list", "--kind", "model", "-o", "json")).AsArray();
        var model = (string)outputs[0]!["digest"]!;
        var folders = 0;

        // They are typed at the top of the repository.
        foreach (var name in (string[])["workflows", "samples"])
        {
            Directory.CreateSymbolicLink(tiny[name], Path.Join(Executable.Repository, name));
        }

        var failed = new List<string>();
        var ran = new HashSet<string>(StringComparer.Ordinal);
        foreach (var command in Documents.All.SelectMany(Documents.Commands))
        {
            var text = string.Join(' ', command);
            if (!Quick.Any(q => text.StartsWith(q, StringComparison.Ordinal)) || Elsewhere.Any(e => command.Contains(e, StringComparer.Ordinal)) || !ran.Add(Once(command)))
            {
                continue;
            }

            string[] arguments = [.. command.Select(word => word switch
            {
                "RUN" => tiny.FirstRun,
                "ARTIFACT" or "DIGEST" => model,
                "FOLDER" => tiny[$"folder-{folders++}"],
                _ when word.StartsWith("/backups/", StringComparison.Ordinal) => tiny[$"backup-{folders++}"],
                _ => word.Replace("PATH/TO/MODEL", TinyPipeline.Target, StringComparison.Ordinal).Replace("PATH/TO/TARGET", TinyPipeline.Target, StringComparison.Ordinal).Replace("PATH/TO/TEXT", "corpus", StringComparison.Ordinal),
            })];
            var outcome = await tiny.CliAsync(arguments);
            if (outcome.ExitCode != 0)
            {
                failed.Add($"fastdraft {text}: {outcome.ExitCode}\n{outcome.Error}");
            }
        }

        Assert.True(failed.Count == 0, string.Join('\n', failed));
        Assert.InRange(ran.Count, 25, 100);
    }
}
