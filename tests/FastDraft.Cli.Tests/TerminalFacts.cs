using System.Diagnostics;
using System.Text.RegularExpressions;
using FastDraft.TestKit;

namespace FastDraft.Cli.Tests;

/// <summary>On a terminal of 80 columns nothing is wider: what does not fit goes on below its own column. In a pipe a row is a line.</summary>
[Collection(TinyPipelines.Name)]
public sealed partial class TerminalFacts(TinyPipeline tiny)
{
    private const string Script = "/usr/bin/script";

    [Fact]
    public async Task A_run_its_end_and_its_record_fit_eighty_columns()
    {
        Fits(await TerminalAsync("run", TinyPipeline.Workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus"), "block efficiency", "lineage");
        Fits(await TerminalAsync("runs", "show", tiny.FirstRun), "PEAK MEMORY", "export.onnx");
        Fits(await TerminalAsync("runs", "list"), "tiny");
    }

    [Fact]
    public async Task A_plan_and_the_doctor_fit_eighty_columns()
    {
        Fits(await TerminalAsync("plan", TinyPipeline.Workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus", "--set", "alignmentRate=0.003"), "learningRate", "NEEDS");
        Fits(await TerminalAsync("doctor"), "libtorch", "free disk");
    }

    [Fact]
    public async Task A_plan_says_what_the_stages_that_would_run_need()
    {
        string[] plan = ["plan", TinyPipeline.Workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus", "--set", "steps=100"];
        var stages = TinyPipeline.Json(await tiny.CliAsync([.. plan, "-o", "json"])).AsArray();
        Assert.All(stages, s => Assert.Equal(s!["verdict"]!.GetValue<string>() == "Hit", s["needs"] is null));
        var needs = stages.Single(s => s!["activityId"]!.GetValue<string>() == "pretrain")!["needs"]!;
        Assert.Equal(100, needs["steps"]!.GetValue<long>());
        Assert.True(needs["tokens"]!.GetValue<long>() > 0);
        Assert.InRange(needs["memoryBytes"]!.GetValue<long>(), 100L << 20, 1L << 30);
        Assert.InRange(needs["diskBytes"]!.GetValue<long>(), 1L << 20, 100L << 20);

        // It ran here before, with fewer tokens: so long for so many more.
        Assert.True(needs["seconds"]!.GetValue<double>() > 0);
        Assert.Matches(@"(?m)^pretrain +[\d.,]+ M? *100 +[\d.]+ MiB +[\d.]+ MiB +\d+:\d\d", (await tiny.CliAsync(plan)).Out);
    }

    private static void Fits(string screen, params string[] parts)
    {
        Assert.All(parts, part => Assert.Contains(part, screen, StringComparison.Ordinal));
        Assert.DoesNotContain(screen.Split('\n', '\r'), line => line.Length + line.Count(c => c == '⚡') > 80);
    }

    /// <summary>What a terminal of 80 columns is sent, without its escapes.</summary>
    private async Task<string> TerminalAsync(params string[] arguments)
    {
        Assert.SkipUnless(File.Exists(Script), $"SKIPPED: a terminal comes from {Script}, which is not here.");
        var start = new ProcessStartInfo(Script) { WorkingDirectory = tiny.Folder, RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in (string[])["-qec", "stty cols 80 rows 50; exec " + string.Join(' ', arguments.Prepend(Executable.File).Select(a => $"'{a}'")), "/dev/null"])
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["TERM"] = "xterm-256color";
        start.Environment.Remove("FASTDRAFT_DATA");
        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, await output + await error);
        return Escapes().Replace(await output, string.Empty);
    }

    [GeneratedRegex(@"\x1b\[[0-9;?]*[A-Za-z]")]
    private static partial Regex Escapes();
}
