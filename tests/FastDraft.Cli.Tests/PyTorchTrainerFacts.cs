using System.Text.Json.Nodes;
using FastDraft.TestKit;

namespace FastDraft.Cli.Tests;

[Collection(TinyPipelines.Name)]
public sealed class PyTorchTrainerFacts(TinyPipeline tiny)
{
    [Fact]
    public async Task A_pipeline_pretrains_in_python_and_aligns_in_this_process()
    {
        Assert.SkipUnless(TrainerPython.Present, TrainerPython.Missing);
        var workflow = tiny.Changed("pytorch.json", w =>
        {
            w["definitionId"] = "pytorch";
            w["name"] = "pytorch";
            var pretrain = TinyPipeline.Stage(w, "pretrain");
            pretrain["trainer"] = Literal("String", "pytorch");
            pretrain["numProcesses"] = Literal("Int64", 2);
        });

        // In front of the Python, something that writes down which trace its process belongs to.
        var python = tiny.Write("traced-python", $"""
            #!/bin/sh
            echo "$TRACEPARENT $*" >>'{tiny["traces"]}'
            exec '{TrainerPython.Path}' "$@"

            """);
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(python, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        var outcome = await Executable.RunAsync(
            tiny.Folder, new Dictionary<string, string> { ["OMP_NUM_THREADS"] = "1", ["FASTDRAFT_PYTHON"] = python }, "run", workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus", "-o", "json");
        Assert.True(outcome.ExitCode == 0, outcome.Error);
        var stages = TinyPipeline.Json(outcome)["stages"]!.AsArray();
        Assert.All(stages, stage => Assert.Contains(stage!["state"]!.GetValue<string>(), (string[])["Succeeded", "Cached"]));
        var pretrained = stages.Single(s => s!["activityId"]!.GetValue<string>() == "pretrain")!;
        Assert.Equal("Succeeded", pretrained["state"]!.GetValue<string>());

        // Each process of the trainer is a part of the run's trace, below the attempt that started it.
        var run = TinyPipeline.Json(outcome)["id"]!.GetValue<Guid>();
        var attempt = TinyPipeline.Json(await tiny.CliAsync("runs", "show", run.ToString(), "-o", "json"))["stages"]!.AsArray()
            .Single(s => s!["activityId"]!.GetValue<string>() == "pretrain")!["attempts"]![0]!["id"]!.GetValue<Guid>();
        var traces = (await File.ReadAllLinesAsync(tiny["traces"], TestContext.Current.CancellationToken)).Where(l => !l.StartsWith(' ')).Select(l => l.Split(' ')[0]).ToList();
        Assert.Equal(Enumerable.Repeat($"00-{run:N}-{attempt.ToString("N")[16..]}-01", 2), traces);
    }

    [Theory]
    [InlineData("llama-3.1-8b-gaudi2.json")]
    [InlineData("phi-3-mini-gaudi2.json")]
    public async Task A_plan_for_gaudi_says_what_a_card_needs_and_what_its_hours_assume(string workflow)
    {
        string[] arguments = ["plan", Path.Join(Executable.Repository, "workflows", workflow), "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus", "--set", "codeCorpus=corpus"];
        var plan = await tiny.CliAsync(arguments);
        Assert.True(plan.ExitCode == 0, plan.Error);
        var text = string.Join(' ', plan.Out.Split((char[])[' ', '\n'], StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains("43 TFLOP/s a card", text, StringComparison.Ordinal);
        var json = TinyPipeline.Json(await tiny.CliAsync([.. arguments, "-o", "json"])).AsArray();
        var training = json.Where(s => s!["stage"]!.GetValue<string>() is "PretrainDraft" or "FinetuneDraft").ToList();
        Assert.True(training.Count >= 3);
        Assert.All(training, s =>
        {
            var needs = s!["needs"]!;
            Assert.True(needs["tokens"]!.GetValue<long>() > 0 && needs["steps"]!.GetValue<long>() > 0 && needs["memoryBytes"]!.GetValue<long>() > 0 && needs["seconds"]!.GetValue<double>() > 0);
            Assert.Equal(8, needs["cards"]!.GetValue<int>());
        });

        var nowhere = await tiny.CliAsync([.. arguments[..^1], "codeCorpus=nowhere"]);
        Assert.NotEqual(0, nowhere.ExitCode);
        Assert.Contains("nowhere", nowhere.Error, StringComparison.Ordinal);
    }

    private static JsonObject Literal(string type, JsonNode value) => new() { ["typeName"] = type, ["expression"] = new JsonObject { ["type"] = "Literal", ["value"] = value } };
}
