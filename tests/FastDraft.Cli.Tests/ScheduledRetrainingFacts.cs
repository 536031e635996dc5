using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.TestKit;

namespace FastDraft.Cli.Tests;

/// <summary>workflows/scheduled-retraining.json on real stories that grow from run to run.</summary>
public sealed partial class ScheduledRetrainingFacts : IDisposable
{
    private static readonly string[] Stories =
        SharedAssets.Present ? [.. GzipLines(SharedAssets.Path("data", "corpus", "tinystories.train.jsonl.gz")).Take(700)] : [];

    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-retraining-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public async Task Each_run_learns_from_what_is_new_and_only_a_better_draft_is_promoted()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        Directory.CreateDirectory(Path.Join(folder, "stories"));
        await File.WriteAllLinesAsync(Path.Join(folder, "prompts.jsonl"), Stories[600..].Select((row, i) => new JsonObject
        {
            ["id"] = $"{i}",
            ["suite"] = "stories",
            ["prompt"] = string.Join(' ', JsonNode.Parse(row)!["text"]!.GetValue<string>().Split(' ').Take(10)),
        }.ToJsonString()), TestContext.Current.CancellationToken);

        Grow(0, 150);
        var first = await RetrainAsync("--set", "tokens=24000");
        Assert.Contains("There is no champion yet: the draft is promoted", first.Error, StringComparison.Ordinal);
        Assert.Contains("0 seen before", first.Error, StringComparison.Ordinal);

        Grow(150, 300);
        var second = await RetrainAsync("--set", "tokens=8000", "--set", "learningRate=0.05");
        Assert.Contains("150 seen before", second.Error, StringComparison.Ordinal);
        Assert.Contains("evaluateChampion  cached", second.Error, StringComparison.Ordinal);
        Assert.Contains("The champion stays: the challenger has acceptance rate", second.Error, StringComparison.Ordinal);

        Grow(300, 600);
        var third = await ApprovedAsync(Retraining("--set", "tokens=120000", "--set", "approval=true"));
        Assert.Contains("300 seen before", third, StringComparison.Ordinal);
        Assert.Contains("The challenger is promoted: acceptance rate", third, StringComparison.Ordinal);

        var fourth = await RetrainAsync();
        Assert.Contains("Nothing new: every document was ingested by an earlier run", fourth.Error, StringComparison.Ordinal);

        var history = JsonNode.Parse((await CliAsync("models", "history", "stories", "-o", "json")).Out)!.AsArray();
        Assert.Equal(["champion:3", "challenger:2", "champion:1"], history.Select(m => $"{m!["alias"]}:{m["toVersion"]}"));
        Assert.All(history, m => Assert.NotNull(m!["promotionDigest"]));

        await CliAsync("models", "rollback", "stories", "--reason", "seen to be slower in production");
        Assert.Contains("version 1  champion", (await CliAsync("models", "show", "stories")).Out, StringComparison.Ordinal);
    }

    private static IEnumerable<string> GzipLines(string path)
    {
        using var reader = new StreamReader(new System.IO.Compression.GZipStream(File.OpenRead(path), System.IO.Compression.CompressionMode.Decompress));
        while (reader.ReadLine() is { } line)
        {
            yield return line;
        }
    }

    private void Grow(int from, int to) => File.WriteAllLines(Path.Join(folder, "stories", $"{from}.jsonl"), Stories[from..to]);

    private Task<Outcome> RetrainAsync(params string[] more) => CliAsync(Retraining(more));

    private static string[] Retraining(params string[] more) =>
        [
            "run", Path.Join(Executable.Repository, "workflows", "scheduled-retraining.json"), "--set", "draft=stories", "--set", "target=" + SharedAssets.Path("data", "stories260K"),
            "--set", "corpus=stories", "--set", "prompts=prompts.jsonl", "--set", "numPrompts=16", "--set", "parameters=60000", "--set", "learningRate=0.003", "--set", "syntheticRows=48",
            "--set", "alignmentTokens=4000", .. more,
        ];

    /// <summary>What the run says; as soon as it waits for a person, one does in another terminal what it says.</summary>
    private async Task<string> ApprovedAsync(string[] arguments)
    {
        using var run = Executable.Start(folder, new Dictionary<string, string>(), arguments);
        var output = run.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        var said = new StringBuilder();
        while (await run.StandardError.ReadLineAsync(TestContext.Current.CancellationToken) is { } line)
        {
            said.AppendLine(line);
            if (Answer().Match(line) is { Success: true } answer)
            {
                var waiting = JsonNode.Parse((await CliAsync("gates", "list", "-o", "json")).Out)!.AsArray();
                Assert.Equal(answer.Groups[1].Value, waiting.Single()!["reference"]!.GetValue<string>());
                await CliAsync("gates", "approve", answer.Groups[1].Value, "--by", "ann", "--reason", "both reports read");
            }
        }

        await output;
        await run.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(run.ExitCode == 0, said.ToString());
        var decided = JsonNode.Parse((await CliAsync("gates", "list", "--decided", "-o", "json")).Out)!.AsArray();
        Assert.Equal([(true, "ann", "both reports read")], decided.Select(g => (g!["approved"]!.GetValue<bool>(), g["decidedBy"]!.GetValue<string>(), g["reason"]!.GetValue<string>())));
        return said.ToString();
    }

    [GeneratedRegex("fastdraft gates approve ([^ ]+) --reason")]
    private static partial Regex Answer();

    private async Task<Outcome> CliAsync(params string[] arguments)
    {
        var outcome = await Executable.RunAsync(folder, arguments);
        Assert.True(outcome.ExitCode == 0, outcome.Error);
        return outcome;
    }
}
