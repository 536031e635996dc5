using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.TestKit;

namespace FastDraft.Cli.Tests;

/// <summary>
/// A folder with a corpus in which the tiny workflow has run once, through the executable. Every fact of the assembly shares it:
/// facts of bad input show that it is intact, facts of the cache that it is used.
/// </summary>
public sealed class TinyPipeline : IAsyncLifetime
{
    public static string Workflow { get; } = Path.Join(AppContext.BaseDirectory, "tiny.json");

    public static string Target { get; } = Path.Join(Executable.Repository, "samples", "target-docs");

    public string Folder { get; } = Directory.CreateTempSubdirectory("fastdraft-cli-").FullName;

    public Outcome First { get; private set; } = new(-1, string.Empty, string.Empty);

    public string FirstRun { get; private set; } = string.Empty;

    public string this[string name] => Path.Join(Folder, name);

    public async ValueTask InitializeAsync()
    {
        Directory.CreateDirectory(this["corpus"]);
        await File.WriteAllLinesAsync(this["corpus/docs.jsonl"], Documents(60));
        First = await RunAsync("-o", "json");
        Assert.True(First.ExitCode == 0, First.Error);
        FirstRun = Json(First)["id"]!.GetValue<string>();
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(Folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>The tiny workflow with its own target and corpus; later <c>--set</c> of the same input win.</summary>
    public Task<Outcome> RunAsync(params string[] more) => CliAsync(["run", Workflow, "--set", $"target={Target}", "--set", "corpus=corpus", .. more]);

    public Task<Outcome> CliAsync(params string[] arguments) => Executable.RunAsync(Folder, arguments);

    public string Write(string name, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(this[name])!);
        File.WriteAllText(this[name], text);
        return this[name];
    }

    /// <summary>A copy of the sample target to spoil.</summary>
    public string CopyTarget(string name)
    {
        Directory.CreateDirectory(this[name]);
        foreach (var file in Directory.EnumerateFiles(Target))
        {
            File.Copy(file, Path.Join(this[name], Path.GetFileName(file)), overwrite: true);
        }

        return this[name];
    }

    /// <summary>The tiny workflow, changed.</summary>
    public string Changed(string name, Action<JsonObject> change)
    {
        var workflow = JsonNode.Parse(File.ReadAllText(Workflow))!.AsObject();
        change(workflow);
        return Write(name, workflow.ToJsonString(new JsonSerializerOptions { WriteIndented = true }));
    }

    public static JsonObject Stage(JsonObject workflow, string id) =>
        workflow["root"]!["activities"]!.AsArray().Single(a => a!["id"]!.GetValue<string>() == id)!.AsObject();

    public static JsonNode Json(Outcome outcome) => JsonNode.Parse(outcome.Out)!;

    public static IEnumerable<string> Documents(int count)
    {
        string[] words = ["string", "value", "array", "element", "returns", "the", "of", "type", "method", "object", "index", "list", "null", "exception", "parameter", "count", "when", "a", "is", "to"];
        var random = new Random(1);
        return Enumerable.Range(0, count).Select(_ => new JsonObject { ["text"] = string.Join(' ', Enumerable.Range(0, 60).Select(_ => words[random.Next(words.Length)])) }.ToJsonString());
    }
}

[CollectionDefinition(Name)]
public sealed class TinyPipelines : ICollectionFixture<TinyPipeline>
{
    public const string Name = "tiny pipeline";
}
