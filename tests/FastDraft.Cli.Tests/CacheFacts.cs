using System.Text.Json.Nodes;
using FastDraft.TestKit;

namespace FastDraft.Cli.Tests;

/// <summary>A second run does nothing twice and says so; a changed setting runs what depends on it and no more.</summary>
[Collection(TinyPipelines.Name)]
public sealed class CacheFacts(TinyPipeline tiny)
{
    private static readonly string[] Stages = ["ingest", "align", "pretrain", "generate", "finetune", "evaluate", "export"];

    [Fact]
    public async Task A_second_run_reuses_every_stage_and_names_the_run_that_made_it()
    {
        var again = await tiny.RunAsync("-o", "json");

        Assert.True(again.ExitCode == 0, again.Error);
        var stages = TinyPipeline.Json(again)["stages"]!.AsArray();
        Assert.Equal(Stages, stages.Select(s => s!["activityId"]!.GetValue<string>()));
        Assert.All(stages, s => Assert.Equal("Cached", s!["state"]!.GetValue<string>()));
        Assert.All(stages, s => Assert.Equal(tiny.FirstRun, s!["cachedFromRunId"]!.GetValue<string>()));
    }

    [Fact]
    public async Task From_another_folder_the_same_files_are_reused()
    {
        var elsewhere = Directory.CreateDirectory(tiny["elsewhere"]).FullName;
        var again = await Executable.RunAsync(
            elsewhere, "run", TinyPipeline.Workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=../corpus", "--data", tiny[".fastdraft"], "-o", "json");
        Assert.True(again.ExitCode == 0, again.Error);
        Assert.All(TinyPipeline.Json(again)["stages"]!.AsArray(), s => Assert.Equal("Cached", s!["state"]!.GetValue<string>()));
    }

    [Fact]
    public async Task A_changed_setting_runs_exactly_what_depends_on_it_and_explain_says_why()
    {
        string[] changed = ["--set", "alignmentRate=0.002"];
        var plan = await tiny.CliAsync(["plan", TinyPipeline.Workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus", .. changed, "-o", "json", "--detailed-exitcode"]);
        Assert.Equal(2, plan.ExitCode);
        Assert.Equal(
            ["Hit", "Hit", "Hit", "Hit", "Miss", "Unknown", "Unknown"],
            TinyPipeline.Json(plan).AsArray().Select(p => p!["verdict"]!.GetValue<string>()));

        var run = await tiny.RunAsync([.. changed, "-o", "json"]);
        Assert.True(run.ExitCode == 0, run.Error);
        Assert.Equal(
            ["Cached", "Cached", "Cached", "Cached", "Succeeded", "Succeeded", "Succeeded"],
            TinyPipeline.Json(run)["stages"]!.AsArray().Select(s => s!["state"]!.GetValue<string>()));

        var explained = TinyPipeline.Json(await tiny.CliAsync("runs", "explain", TinyPipeline.Json(run)["id"]!.GetValue<string>(), "-o", "json")).AsArray();
        Assert.Equal(["option `learningRate` changed 0.001 -> 0.002"], Reasons(explained, "finetune"));
        Assert.Equal(["input `draft` changed"], Reasons(explained, "evaluate"));
        Assert.Equal(["input `draft` changed"], Reasons(explained, "export"));
    }

    private static IEnumerable<string> Reasons(JsonArray explained, string stage) =>
        explained.Single(e => e!["activityId"]!.GetValue<string>() == stage)!["reasons"]!.AsArray().Select(r => r!.GetValue<string>());
}
