using System.Text.Json;
using FastDraft.Cli;
using FastDraft.Core.Stages;
using FastDraft.TestKit;

namespace FastDraft.Conventions.Tests;

/// <summary>Texts that lead out of a folder, where the command line takes a name or an id: nothing beside the data folder is touched, and none is a fault of the program.</summary>
public sealed class TraversalFacts : IDisposable
{
    /// <summary>Each text is given to one of them, in turn; # is its place.</summary>
    private static readonly string[][] Commands =
    [
        ["runs", "show", "#"], ["runs", "logs", "#"], ["runs", "logs", "latest", "#"], ["runs", "cancel", "#"], ["runs", "explain", "#"], ["runs", "compare", "#", "latest"], ["runs", "retry", "#"], ["runs", "retry", "latest", "--set", "#.#=#"], ["run", "--resume", "#"],
        ["artifacts", "show", "#"], ["artifacts", "verify", "#"], ["artifacts", "card", "#"], ["artifacts", "provenance", "#"], ["artifacts", "pin", "#", "--reason", "#"], ["artifacts", "list", "--kind", "#"],
        ["lineage", "#"], ["cache", "list", "#"], ["cache", "evict", "#"], ["cache", "evict", "--run", "#"], ["gates", "approve", "#"], ["models", "show", "#"], ["models", "promote", "#", "1", "--reason", "#"],
        ["schedule", "pause", "#"], ["schedule", "delete", "#"], ["schedule", "next", "#"], ["projections", "forget", "#"], ["projections", "retry", "#"], ["token", "create", "#"], ["token", "revoke", "#"],
        ["events", "publish", "#"], ["audit", "list", "--object", "#"], ["reproduce", "#"], ["help", "#"], ["completion", "#"],
    ];

    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-outside-").FullName;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    private string Data => Path.Join(folder, "inner", "data");

    public void Dispose()
    {
        Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task In_names_and_ids_of_commands()
    {
        var outside = Path.Join(folder, "canary.txt");
        await File.WriteAllTextAsync(outside, "canary", Ct);
        await using (await Server.PipelineStore.OpenAsync(Data, Ct))
        {
        }

        var before = Surroundings();
        var wrong = new List<string>();
        var n = 0;
        foreach (var text in PathTraversal.Corpus(Data, "canary.txt", outside))
        {
            var arguments = Commands[n++ % Commands.Length].Select(a => a.Replace("#", text, StringComparison.Ordinal)).ToArray();
            using var interrupts = new Interrupts();
            var exit = await CommandLine.Build(interrupts).Parse([.. arguments, .. arguments[0] is "help" or "completion" ? Array.Empty<string>() : ["--data", Data]]).InvokeAsync(cancellationToken: Ct);
            if (exit == ExitCode.Bug)
            {
                wrong.Add(JsonSerializer.Serialize(arguments));
            }
        }

        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
        Assert.Equal(before, Surroundings());
    }

    private static IEnumerable<string> Above(string folder)
    {
        for (var at = new DirectoryInfo(folder); at is not null; at = at.Parent)
        {
            yield return at.FullName;
        }
    }

    private IReadOnlyList<string> Surroundings() =>
    [
        .. new DirectoryInfo(folder).EnumerateFileSystemInfos("*", SearchOption.AllDirectories).Where(f => !f.FullName.StartsWith(Data, StringComparison.Ordinal))
            .Select(f => $"{f.FullName} {f.LastWriteTimeUtc:O}").Order(StringComparer.Ordinal),
        .. Above(Environment.CurrentDirectory).Select(f => Path.Join(f, "canary.txt")).Where(File.Exists),
    ];
}
