using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.TestKit;

namespace FastDraft.Cli.Tests;

/// <summary>Data on stdout, everything else on stderr; JSON whose members scripts may rely on; text without escapes in a pipe.</summary>
[Collection(TinyPipelines.Name)]
public sealed class OutputFacts(TinyPipeline tiny)
{
    [Fact]
    public void The_result_of_a_run_has_these_members()
    {
        var result = TinyPipeline.Json(tiny.First).AsObject();
        Members(result, "id", "workflowName", "state", "stages", "answer", "summary", "suites", "report", "draft");
        Members(result["stages"]![0]!, "activityId", "stage", "state", "outputs");
        Members(result["stages"]![0]!["outputs"]![0]!, "port", "kind", "digest");
        Members(
            result["summary"]!, "acceptanceRate", "blockEfficiency", "memoryBoundSpeedup", "predictedSpeedup", "wallClockSpeedup", "wallClockSpeedupCi", "temperature", "draftLength", "identicalPrompts", "numPrompts");
        Assert.True(File.Exists(tiny[result["report"]!.GetValue<string>()]));
        Assert.True(File.Exists(Path.Join(tiny[result["draft"]!.GetValue<string>()], "model", "model.safetensors")));
    }

    [Fact]
    public void A_piped_run_says_each_event_once_in_a_line_without_escapes()
    {
        var lines = tiny.First.Error.Split('\n');
        Assert.DoesNotContain(tiny.First.Error, c => c is '\u001b' or '\r');
        Assert.Single(lines, l => l == "pretrain  running");
        Assert.Single(lines, l => l.StartsWith("pretrain  succeeded  ", StringComparison.Ordinal));
        Assert.True(lines.Count(l => l.StartsWith("generate  ", StringComparison.Ordinal)) < 10);
    }

    [Fact]
    public async Task A_quiet_run_prints_its_id_and_nothing_else()
    {
        var quiet = await tiny.RunAsync("--quiet");
        Assert.Equal(0, quiet.ExitCode);
        Assert.True(Guid.TryParse(quiet.Out.Trim(), out _));
        Assert.Empty(quiet.Error);
    }

    [Fact]
    public async Task A_run_ends_with_the_answer_a_table_by_suite_and_where_things_lie()
    {
        var text = (await tiny.RunAsync()).Out;
        Assert.Contains("target-docs", text, StringComparison.Ordinal);
        Assert.Matches(@"suite +acceptance +block efficiency +MBSU +predicted +measured", text);
        Assert.Matches(@"docs\.jsonl +0\.\d{3}", text);
        Assert.Matches(@"report +\.fastdraft/runs/.+/report\.html", text);
        Assert.Matches(@"lineage +fastdraft lineage sha256:", text);
    }

    [Fact]
    public async Task Lineage_of_the_exported_draft_names_every_origin_stage_setting_and_the_code()
    {
        var export = TinyPipeline.Json(tiny.First)["stages"]!.AsArray().Single(s => s!["activityId"]!.GetValue<string>() == "export")!;
        var onnx = export["outputs"]!.AsArray().Single(o => o!["port"]!.GetValue<string>() == "onnx")!["digest"]!.GetValue<string>();
        var text = (await tiny.CliAsync("lineage", onnx)).Out;
        foreach (var stage in new[] { "IngestCorpus", "AlignVocabulary", "PretrainDraft", "GenerateSynthetic", "FinetuneDraft", "ExportDraft" })
        {
            Assert.Contains(stage, text, StringComparison.Ordinal);
        }

        Assert.Matches("sources: files outside the store  sha256:[0-9a-f]{64}", text);
        Assert.Matches("target: files outside the store  sha256:[0-9a-f]{64}", text);
        Assert.Contains("parameters=200000", text, StringComparison.Ordinal);
        Assert.Matches(@"made with  code \d+\.\d+.*; os .*; cpu .*; dotnet .*; libtorch ", text);

        var graph = TinyPipeline.Json(await tiny.CliAsync("lineage", onnx, "-o", "json"));
        Members(graph, "nodes", "edges");
        Members(graph["nodes"]!.AsArray().First(n => n!["stage"] is not null)!["stage"]!, "runId", "workflow", "activityId", "version", "settings", "environment");
    }

    [Fact]
    public async Task Logs_are_lines_for_people_and_json_lines_for_programs()
    {
        var text = (await tiny.CliAsync("runs", "logs", tiny.FirstRun, "pretrain")).Out;
        Assert.Matches(@"(?m)^\d\d:\d\d:\d\d  draft: [\d,]+ parameters", text);
        Assert.Matches(@"(?m)^\d\d:\d\d:\d\d  step 4  loss \d", text);
        var json = (await tiny.CliAsync("runs", "logs", tiny.FirstRun, "pretrain", "-o", "json")).Out;
        Assert.All(json.Split('\n', StringSplitOptions.RemoveEmptyEntries), line => Assert.NotNull(JsonNode.Parse(line)!["type"]));
        Assert.Contains("pretrain  succeeded", (await tiny.CliAsync("runs", "logs", tiny.FirstRun, "-f")).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Verify_finds_a_flipped_bit()
    {
        // In a copy of the store: the others' is not to be spoilt.
        var copy = tiny["flipped"];
        foreach (var file in Directory.EnumerateFiles(tiny[".fastdraft"], "*", SearchOption.AllDirectories))
        {
            var target = Path.Join(copy, Path.GetRelativePath(tiny[".fastdraft"], file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            await File.WriteAllBytesAsync(target, await File.ReadAllBytesAsync(file));
        }

        Assert.Equal(0, (await tiny.CliAsync("artifacts", "verify", "--data", copy)).ExitCode);
        var blob = new DirectoryInfo(Path.Join(copy, "cas", "sha256")).EnumerateFiles("*", SearchOption.AllDirectories).MaxBy(f => f.Length)!;
        var bytes = await File.ReadAllBytesAsync(blob.FullName);
        bytes[bytes.Length / 2] ^= 1;
        await File.WriteAllBytesAsync(blob.FullName, bytes);
        var damaged = await tiny.CliAsync("artifacts", "verify", "--data", copy);
        Assert.Equal(65, damaged.ExitCode);
        Assert.Contains("is damaged: expected sha256:", damaged.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_doctor_gives_every_check_a_status_and_a_remedy_where_it_is_not_well()
    {
        var doctor = await tiny.CliAsync("doctor", "-o", "json");
        var checks = TinyPipeline.Json(doctor).AsArray();
        Assert.Equal(["fastdraft", "runtime", "cpu", "libtorch", "cuda", "pytorch", "gaudi", "openvino", "data folder", "database", "store", "free disk"], checks.Select(c => c!["name"]!.GetValue<string>()));
        Assert.All(checks, c => Assert.True(c!["status"]!.GetValue<string>() == "ok" || c["remedy"] is not null));
        Assert.Equal(checks.Any(c => c!["status"]!.GetValue<string>() == "fail") ? 1 : 0, doctor.ExitCode);
    }

    [Fact]
    public async Task An_interrupted_run_goes_on_or_is_cancelled_later()
    {
        using var process = Executable.Start(
            tiny.Folder, new Dictionary<string, string>(), "run", TinyPipeline.Workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus", "--set", "steps=1000000");
        while (await process.StandardError.ReadLineAsync() is { } line && !line.StartsWith("pretrain  running", StringComparison.Ordinal))
        {
        }

        using (var kill = Process.Start(new ProcessStartInfo("kill") { ArgumentList = { "-INT", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture) } })!)
        {
            await kill.WaitForExitAsync();
        }

        var rest = await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.Equal(130, process.ExitCode);
        Assert.Contains("go on with: fastdraft run --resume ", rest, StringComparison.Ordinal);
        var run = rest.Split("--resume ")[1].Split('\n')[0].Trim();

        Assert.Equal(0, (await tiny.CliAsync("runs", "cancel", run)).ExitCode);
        var cancelled = await tiny.CliAsync("run", "--resume", run);
        Assert.Equal(143, cancelled.ExitCode);
        Assert.Contains("was cancelled", cancelled.Error, StringComparison.Ordinal);
    }

    private static void Members(JsonNode node, params string[] names)
    {
        foreach (var name in names)
        {
            Assert.True(node.AsObject().ContainsKey(name), $"no member '{name}' in {node.ToJsonString()[..Math.Min(300, node.ToJsonString().Length)]}");
        }
    }
}
