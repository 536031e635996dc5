using System.Text;
using System.Text.Json.Nodes;
using FastDraft.TestKit;

namespace FastDraft.Cli.Tests;

/// <summary>Each mistake is one message (what, where, why, try) with its exit code, before anything runs where that can be known.</summary>
[Collection(TinyPipelines.Name)]
public sealed class BadInputFacts(TinyPipeline tiny)
{
    private const int Config = 64, Data = 65, Io = 74;

    private static readonly int Vocabulary = JsonNode.Parse(File.ReadAllText(Path.Join(TinyPipeline.Target, "config.json")))!["vocab_size"]!.GetValue<int>();

    [Fact]
    public async Task A_missing_target_folder_is_named_once_for_all_stages() =>
        await RefusedAsync(Config, ["model folder", "no-such-model", "'align'", "'evaluate'", "setting 'target'", "try: a Hugging Face folder"], "--set", "target=no-such-model");

    [Theory]
    [InlineData("pytorch_model.bin")]
    [InlineData("model.pt")]
    public async Task Pickled_weights_are_refused(string name)
    {
        var target = tiny.CopyTarget("pickled-" + name);
        File.Delete(Path.Join(target, "model.safetensors"));
        await File.WriteAllBytesAsync(Path.Join(target, name), [0x80, 2, (byte)'.']);
        await RefusedAsync(Data, [name, "refused", "try: convert the weights to safetensors"], "--set", $"target={target}");
    }

    [Fact]
    public async Task A_zip_with_the_name_of_safetensors_is_refused()
    {
        var target = tiny.CopyTarget("zipped");
        await File.WriteAllBytesAsync(Path.Join(target, "model.safetensors"), [(byte)'P', (byte)'K', 3, 4, .. new byte[64]]);
        await RefusedAsync(Data, ["model.safetensors", "not a usable safetensors file"], "--set", $"target={target}");
    }

    [Fact]
    public async Task Truncated_weights_are_refused()
    {
        var target = tiny.CopyTarget("truncated");
        using (var file = File.OpenWrite(Path.Join(target, "model.safetensors")))
        {
            file.SetLength(file.Length / 2);
        }

        await RefusedAsync(Data, ["model.safetensors", "try: the file is truncated: copy it again"], "--set", $"target={target}");
    }

    [Fact]
    public async Task The_tokenizer_of_another_model_is_refused()
    {
        var target = tiny.CopyTarget("other-tokenizer");
        var path = Path.Join(target, "tokenizer.json");
        var tokenizer = JsonNode.Parse(await File.ReadAllTextAsync(path))!;
        tokenizer["added_tokens"]!.AsArray().Add(new JsonObject
        {
            ["id"] = 90_000,
            ["content"] = "<other>",
            ["single_word"] = false,
            ["lstrip"] = false,
            ["rstrip"] = false,
            ["normalized"] = false,
            ["special"] = true,
        });
        await File.WriteAllTextAsync(path, tokenizer.ToJsonString());
        await RefusedAsync(Data, ["90000", $"vocab_size of config.json is {Vocabulary}", "tokenizer.json published with this model"], "--set", $"target={target}");
    }

    [Fact]
    public async Task A_configuration_of_another_model_is_refused()
    {
        var target = tiny.CopyTarget("other-config");
        var path = Path.Join(target, "config.json");
        await File.WriteAllTextAsync(path, (await File.ReadAllTextAsync(path)).Replace($"\"vocab_size\": {Vocabulary}", $"\"vocab_size\": {Vocabulary + 8}", StringComparison.Ordinal));
        await RefusedAsync(Data, [$"the weights embed {Vocabulary} tokens", $"vocab_size of config.json is {Vocabulary + 8}"], "--set", $"target={target}");
    }

    [Fact]
    public async Task A_draft_of_another_tokenizer_is_not_evaluated()
    {
        // Two tokens exchanged: the same size, other meanings.
        var target = tiny.CopyTarget("exchanged-tokens");
        var path = Path.Join(target, "tokenizer.json");
        var tokenizer = JsonNode.Parse(await File.ReadAllTextAsync(path))!;
        var vocabulary = tokenizer["model"]!["vocab"]!.AsObject();
        var (first, second) = (vocabulary.Single(p => p.Value!.GetValue<int>() == 300).Key, vocabulary.Single(p => p.Value!.GetValue<int>() == 301).Key);
        (vocabulary[first], vocabulary[second]) = (301, 300);
        await File.WriteAllTextAsync(path, tokenizer.ToJsonString());
        var workflow = tiny.Changed("exchanged.json", w =>
            TinyPipeline.Stage(w, "evaluate")["target"] = new JsonObject { ["typeName"] = "String", ["expression"] = new JsonObject { ["type"] = "Literal", ["value"] = target } });
        Says(await tiny.CliAsync("run", workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus"), Data, ["stage 'evaluate' failed", "another tokenizer", "try: the target that the draft was made for"]);
    }

    [Fact]
    public async Task An_empty_corpus_is_refused()
    {
        tiny.Write("empty/nothing.txt", string.Empty);
        await RefusedAsync(Data, ["empty", "no bytes"], "--set", "corpus=empty");
    }

    [Fact]
    public async Task A_folder_without_text_is_refused()
    {
        tiny.Write("pictures/a.png", "x");
        await RefusedAsync(Data, ["pictures", "has no .txt, .md, .jsonl"], "--set", "corpus=pictures");
    }

    [Fact]
    public async Task Invalid_lines_are_counted_and_too_many_fail()
    {
        Directory.CreateDirectory(tiny["latin"]);
        await File.WriteAllBytesAsync(tiny["latin/a.txt"], [.. Encoding.UTF8.GetBytes("one\ntwo\n"), 0xe9, (byte)'\n', .. Encoding.UTF8.GetBytes("four\n")]);
        await FailsAsync(Data, ["stage 'ingest' failed", "1 of 4 rows are bad", "maxBadFraction 0.001", "a.txt:3: not valid UTF-8", "try: mend the rows"], "--set", "corpus=latin");
    }

    [Fact]
    public async Task A_few_invalid_lines_are_left_out_and_told()
    {
        Directory.CreateDirectory(tiny["mostly"]);
        await File.WriteAllBytesAsync(tiny["mostly/rows.jsonl"], [.. Encoding.UTF8.GetBytes(string.Join('\n', TinyPipeline.Documents(2000))), (byte)'\n', 0xff, (byte)'\n']);
        var workflow = tiny.Changed("ingest-only.json", w =>
        {
            w["root"]!["activities"] = new JsonArray(TinyPipeline.Stage(w, "ingest").DeepClone());
            w["root"]!["connections"] = new JsonArray();
        });
        var outcome = await tiny.CliAsync("run", workflow, "--set", "corpus=mostly");
        Assert.Equal(0, outcome.ExitCode);
        Assert.Contains("1 of 2001 rows are bad and left out", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_corpus_smaller_than_one_batch_fails_with_both_sizes()
    {
        tiny.Write("short/a.jsonl", string.Join('\n', TinyPipeline.Documents(2).Select(d => d.Replace("string", "text", StringComparison.Ordinal)[..40] + "\"}")));
        await FailsAsync(Data, ["stage 'pretrain' failed", "a batch needs 4", "try: a larger corpus"], "--set", "corpus=short");
    }

    [Fact]
    public async Task An_unknown_activity_and_a_misspelt_setting_are_found_together_with_their_places()
    {
        var workflow = tiny.Changed("misspelt.json", w =>
        {
            TinyPipeline.Stage(w, "align")["type"] = "FastDraft.AlignVocabluary";
            var pretrain = TinyPipeline.Stage(w, "pretrain");
            pretrain["batchSiez"] = pretrain["batchSize"]!.DeepClone();
        });
        var outcome = await tiny.CliAsync("run", workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus");
        Says(outcome, Config, ["misspelt.json:", "unknown activity type 'FastDraft.AlignVocabluary'", "did you mean 'FastDraft.AlignVocabulary'?", "unknown setting 'batchSiez'", "did you mean 'batchSize'?"]);
        await IntactAsync();
    }

    [Fact]
    public async Task An_artifact_of_the_wrong_kind_is_not_wired()
    {
        var workflow = tiny.Changed("wired.json", w => TinyPipeline.Stage(w, "pretrain")["tokens"] = new JsonObject
        {
            ["typeName"] = "String",
            ["expression"] = new JsonObject { ["type"] = "Literal", ["value"] = "ingest.corpus" },
        });
        Says(await tiny.CliAsync("workflow", "validate", workflow), Config, ["input 'tokens' expects kind token-shards, got corpus (from 'ingest.corpus')", "set 'tokens' to 'align.tokens'"]);
    }

    [Fact]
    public async Task An_unknown_accelerator_is_refused() =>
        await RefusedAsync(Config, ["accelerator", "expects one of cpu, cuda", "tpu"], "--set", "accelerator=tpu");

    [Fact]
    public async Task Cuda_without_cuda_is_refused()
    {
        var doctor = await tiny.CliAsync("doctor", "-o", "json");
        Assert.SkipWhen(JsonNode.Parse(doctor.Out)!.AsArray().Any(c => c!["name"]!.GetValue<string>() == "cuda" && c["status"]!.GetValue<string>() == "ok"), "SKIPPED: this machine has CUDA.");
        await RefusedAsync(Config, ["setting 'accelerator'", "cuda is not available on this machine", "try: --set accelerator=cpu"], "--set", "accelerator=cuda");
    }

    [Fact]
    public async Task Inputs_without_a_value_are_all_named()
    {
        var outcome = await Executable.RunAsync(tiny.Folder, "run", Path.Join(Executable.Repository, "workflows", "fastdraft.json"), "--set", $"target={TinyPipeline.Target}");
        Says(outcome, Config, ["input 'corpus'", "input 'codeCorpus'", "try: --set codeCorpus=..."]);
    }

    [Theory]
    [InlineData("stpes=4", "has no input 'stpes'", "did you mean 'steps'?")]
    [InlineData("steps=many", "'many' is not a whole number", "--set steps=4")]
    [InlineData("alignmentRate=fast", "'fast' is not a number", "--set alignmentRate=0.001")]
    [InlineData("steps", "is not name=value", "--set")]
    [InlineData("steps=-4", "stage 'pretrain': setting 'numTokens' expects at least 1", "--set steps=4")]
    public async Task A_wrong_set_is_refused(string set, string what, string attempt) => await RefusedAsync(Config, [what, attempt], "--set", set);

    [Fact]
    public async Task A_data_folder_that_cannot_be_written_is_refused()
    {
        tiny.Write("file", "in the way");
        Says(await tiny.RunAsync("--data", Path.Join("file", "data")), Io, ["file", "try:"]);
    }

    [Fact]
    public async Task A_workflow_that_is_missing_or_no_json_or_too_deep_is_refused()
    {
        Says(await tiny.CliAsync("run", "absent.json"), Config, ["'absent.json' is neither a file nor a published workflow"]);
        tiny.Write("flows/nightly.json", "{}");
        Says(await tiny.CliAsync("run", "flows/nigthly.json"), Config, ["'flows/nigthly.json' is neither", "did you mean 'flows/nightly.json'?"]);
        Says(await tiny.CliAsync("workflow", "validate", "flows/nigthly.json"), Config, ["does not exist", "did you mean 'flows/nightly.json'?"]);
        Says(await tiny.CliAsync("run", tiny.Write("broken.json", "{ \"root\": ")), Config, ["broken.json:1:", "Not valid JSON"]);
        Says(await tiny.CliAsync("run", tiny.Write("deep.json", new string('[', 100) + new string(']', 100))), Config, ["deep.json:1:", "depth"]);
    }

    [Fact]
    public async Task A_run_or_artifact_or_stage_that_does_not_exist_is_said_to_be_unknown()
    {
        Says(await tiny.CliAsync("runs", "show", "feedbeef"), Config, ["There is no run 'feedbeef'", "fastdraft runs list"]);
        Says(await tiny.CliAsync("artifacts", "show", "feedbeef"), Config, ["There is no artifact 'feedbeef'", "fastdraft artifacts list"]);
        Says(await tiny.CliAsync("runs", "logs", tiny.FirstRun, "pretrian"), Config, ["has no stage 'pretrian'", "did you mean 'pretrain'?"]);
        Says(await tiny.CliAsync("runs", "list", "--data", "elsewhere"), Config, ["is not a data folder", "--data FOLDER"]);
    }

    [Fact]
    public async Task Before_the_first_run_a_workflow_that_ships_is_known_by_its_name()
    {
        Says(await Executable.RunAsync(Executable.Repository, "plan", "quickstrat", "--data", tiny["none"]), Config, ["'quickstrat' is neither a file", "There are: fastdraft,", "did you mean 'quickstart'?"]);
        Assert.Equal(0, (await Executable.RunAsync(Executable.Repository, "plan", "quickstart", "--data", tiny["none"])).ExitCode);
    }

    [Fact]
    public async Task A_draft_that_would_be_smaller_than_its_vocabulary_is_refused_before_anything_runs()
    {
        var workflow = tiny.Changed("small.json", w => TinyPipeline.Stage(w, "pretrain")["parameters"]!["expression"]!["value"] = 10);
        Says(await tiny.CliAsync("plan", workflow, "--set", $"target={TinyPipeline.Target}", "--set", "corpus=corpus"), Config,
            ["stage 'pretrain': setting 'parameters'", "A budget of 10 parameters cannot hold", "the smallest", "try: --set parameters="]);
    }

    [Theory]
    [InlineData("fastdraft has no command 'runz'.", "did you mean 'run'? fastdraft --help", "runz", "list")]
    [InlineData("fastdraft runs has no command 'lst'.", "did you mean 'list'? fastdraft runs --help", "runs", "lst")]
    [InlineData("fastdraft runs needs one of the commands list, show,", "fastdraft runs --help", "runs")]
    [InlineData("fastdraft run has no option '--quite'.", "did you mean '--quiet'? fastdraft run --help", "run", "tiny.json", "--quite")]
    [InlineData("fastdraft plan: 'more' is one argument too many.", "fastdraft plan --help", "plan", "tiny.json", "more")]
    [InlineData("'workflow' missing", "fastdraft plan --help", "plan")]
    [InlineData("Must be one of: 'bash', ", "fastdraft completion --help", "completion", "tcsh")]
    public async Task A_mistyped_command_line_is_one_message_with_the_nearest_that_there_is(string what, string attempt, params string[] arguments)
    {
        var outcome = await tiny.CliAsync(arguments);
        Says(outcome, Config, ["error: ", what, $"  try: {attempt}"]);
        Assert.Equal(2, outcome.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
    }

    /// <summary>Refused before anything is written: the data folder is what it was, file for file.</summary>
    private async Task RefusedAsync(int exitCode, string[] words, params string[] arguments)
    {
        var before = DataFolder();
        Says(await tiny.RunAsync(arguments), exitCode, words);
        Assert.Equal(before, DataFolder());
    }

    private List<(string, long, DateTime)> DataFolder() =>
        [.. new DirectoryInfo(tiny[".fastdraft"]).EnumerateFiles("*", SearchOption.AllDirectories).Select(f => (f.FullName, f.Length, f.LastWriteTimeUtc)).OrderBy(f => f.FullName, StringComparer.Ordinal)];

    private async Task FailsAsync(int exitCode, string[] words, params string[] arguments)
    {
        Says(await tiny.RunAsync(arguments), exitCode, words);
        await IntactAsync();
    }

    private async Task IntactAsync() => Assert.Equal(0, (await tiny.CliAsync("artifacts", "verify")).ExitCode);

    private static void Says(Outcome outcome, int exitCode, string[] words)
    {
        Assert.True(exitCode == outcome.ExitCode, $"exit code {outcome.ExitCode}, expected {exitCode}\n{outcome.Error}");
        foreach (var word in words)
        {
            Assert.Contains(word, outcome.Error, StringComparison.Ordinal);
        }

        Assert.DoesNotContain("   at ", outcome.Error, StringComparison.Ordinal);
    }
}
