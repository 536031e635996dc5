using System.Security.Cryptography;
using System.Text.Json.Nodes;

namespace FastDraft.Cli.Tests;

/// <summary>A year later: where a draft came from, in the forms that others read, and whether it comes out the same.</summary>
[Collection(TinyPipelines.Name)]
public sealed class ProvenanceFacts(TinyPipeline tiny)
{
    [Fact]
    public async Task The_statement_has_the_members_that_in_toto_and_SLSA_prescribe()
    {
        var statement = TinyPipeline.Json(await tiny.CliAsync("artifacts", "provenance", Exported("onnx")));
        Assert.Equal(["_type", "subject", "predicateType", "predicate"], Names(statement));
        Assert.Equal("https://in-toto.io/Statement/v1", (string?)statement["_type"]);
        Assert.Equal("https://slsa.dev/provenance/v1", (string?)statement["predicateType"]);
        Assert.All(statement["subject"]!.AsArray(), Resource);
        Assert.Contains(statement["subject"]!.AsArray(), s => (string?)s!["name"] == "model.onnx");

        var predicate = statement["predicate"]!;
        Assert.Equal(["buildDefinition", "runDetails"], Names(predicate));
        var build = predicate["buildDefinition"]!;
        Assert.Equal(["buildType", "externalParameters", "internalParameters", "resolvedDependencies"], Names(build));
        Assert.True(Uri.TryCreate((string?)build["buildType"], UriKind.Absolute, out _));
        Assert.Equal("tiny", (string?)build["externalParameters"]!["workflow"]!["name"]);
        Assert.Equal("ExportDraft", (string?)build["externalParameters"]!["stage"]!["name"]);
        Assert.Equal(4, (int)build["externalParameters"]!["inputs"]!["steps"]!);
        Assert.Equal(200_000, int.Parse((string)build["externalParameters"]!["upstream"]!.AsArray().Single(s => (string?)s!["stage"] == "PretrainDraft")!["settings"]!["parameters"]!, System.Globalization.CultureInfo.InvariantCulture));

        var dependencies = build["resolvedDependencies"]!.AsArray();
        Assert.Equal("fastdraft", (string?)dependencies[0]!["name"]);
        Assert.All(dependencies.Skip(1), Resource);
        foreach (var name in new[] { "docs.jsonl", "tokenizer.json", "model.safetensors", "corpus" })
        {
            Assert.Contains(dependencies, d => (string?)d!["name"] == name);
        }

        var corpus = await SHA256.HashDataAsync(File.OpenRead(tiny["corpus/docs.jsonl"]), TestContext.Current.CancellationToken);
        Assert.Equal(Convert.ToHexStringLower(corpus), (string?)dependencies.First(d => (string?)d!["name"] == "docs.jsonl")!["digest"]!["sha256"]);

        var run = predicate["runDetails"]!;
        Assert.Equal(["builder", "metadata", "byproducts"], Names(run));
        Assert.True(Uri.TryCreate((string?)run["builder"]!["id"], UriKind.Absolute, out _));
        Assert.Equal(["invocationId", "startedOn", "finishedOn"], Names(run["metadata"]!));
        Assert.Contains(tiny.FirstRun, (string?)run["metadata"]!["invocationId"], StringComparison.Ordinal);
        Assert.True(DateTimeOffset.Parse((string)run["metadata"]!["startedOn"]!, System.Globalization.CultureInfo.InvariantCulture)
            <= DateTimeOffset.Parse((string)run["metadata"]!["finishedOn"]!, System.Globalization.CultureInfo.InvariantCulture));
        Assert.All(run["byproducts"]!.AsArray(), Resource);
    }

    [Fact]
    public async Task A_draft_leaves_the_store_with_its_provenance_and_card_beside_files_that_are_the_subjects()
    {
        var got = tiny["got"];
        Assert.Equal(0, (await tiny.CliAsync("artifacts", "get", Exported("model"), got)).ExitCode);
        var statement = JsonNode.Parse(await File.ReadAllTextAsync(Path.Join(got, "provenance.intoto.json"), TestContext.Current.CancellationToken))!;
        foreach (var subject in statement["subject"]!.AsArray())
        {
            var bytes = await File.ReadAllBytesAsync(Path.Join(got, (string)subject!["name"]!), TestContext.Current.CancellationToken);
            Assert.Equal((string?)subject["digest"]!["sha256"], Convert.ToHexStringLower(SHA256.HashData(bytes)));
        }

        var readMe = await File.ReadAllTextAsync(Path.Join(got, "README.md"), TestContext.Current.CancellationToken);
        Assert.StartsWith("---\npipeline_tag: text-generation\n", readMe, StringComparison.Ordinal);
        Assert.DoesNotContain(tiny.FirstRun, readMe, StringComparison.Ordinal);
        var card = await File.ReadAllTextAsync(Path.Join(got, "MODEL_CARD.md"), TestContext.Current.CancellationToken);
        foreach (var heading in new[] { "base_model: \"target-docs\"", "## What it is", "## How it was trained", "## How to use it", "## Limits", "## Evaluation", "## Data", "## Lineage" })
        {
            Assert.Contains(heading, card, StringComparison.Ordinal);
        }

        Assert.Matches(@"\| all \| 3 \| 0 \| \d \| \d\.\d{3} \(\d\.\d{3} to \d\.\d{3}\)", card);
        Assert.Matches(@"\| corpus \| 60 \| [\d,]+ \| CC0-1\.0 \| sha256:", card);
        Assert.Matches(@"\| file docs\.jsonl \| \| [\d,]+ \| \| sha256:", card);
        Assert.Contains($"run {tiny.FirstRun} of the workflow 'tiny'", card, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_onnx_card_tells_the_parity_and_an_artifact_that_is_no_model_has_none()
    {
        var card = (await tiny.CliAsync("artifacts", "card", Exported("onnx"))).Out;
        Assert.Contains("## Compared with the draft in float32", card, StringComparison.Ordinal);
        Assert.Matches(@"\| greedyIdsEqual \| true \|", card);
        var corpus = TinyPipeline.Json(tiny.First)["stages"]!.AsArray().Single(s => (string?)s!["activityId"] == "ingest")!["outputs"]!.AsArray().Single(o => (string?)o!["port"] == "corpus")!;
        var none = await tiny.CliAsync("artifacts", "card", (string)corpus["digest"]!);
        Assert.Equal(64, none.ExitCode);
        Assert.Contains("not a model", none.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_whole_chain_comes_out_the_same_bit_for_bit()
    {
        var once = await tiny.CliAsync("reproduce", Exported("onnx"), "--whole", "-o", "json");
        Assert.True(once.ExitCode == 0, once.Out + once.Error);
        var result = TinyPipeline.Json(once);
        Assert.True((bool)result["isEqual"]!);
        Assert.Equal(["align", "export", "finetune", "generate", "ingest", "pretrain"], result["stages"]!.AsArray().Select(s => (string)s!["activityId"]!).Order());
        Assert.All(result["stages"]!.AsArray().SelectMany(s => s!["outputs"]!.AsArray()), o => Assert.True((bool)o!["isEqual"]!, o.ToJsonString()));
        Assert.Equal((string?)result["thisCode"], (string?)result["recordedCode"]);
    }

    [Fact]
    public async Task A_measurement_does_not_come_out_the_same_and_the_first_file_is_named()
    {
        var evaluation = (string)TinyPipeline.Json(tiny.First)["stages"]!.AsArray().Single(s => (string?)s!["activityId"] == "evaluate")!["outputs"]!.AsArray()[0]!["digest"]!;
        var again = await tiny.CliAsync("reproduce", evaluation);
        Assert.Equal(1, again.ExitCode);
        Assert.Matches(@"evaluate +\w+ +evaluation +different: \w+", again.Out);
        Assert.Contains("which this is", again.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_changed_corpus_is_named_and_nothing_is_run()
    {
        var file = tiny["corpus/docs.jsonl"];
        var before = await File.ReadAllBytesAsync(file, TestContext.Current.CancellationToken);
        try
        {
            await File.AppendAllTextAsync(file, "{\"text\":\"one more\"}\n", TestContext.Current.CancellationToken);
            var refused = await tiny.CliAsync("reproduce", Exported("onnx"), "--whole");
            Assert.Equal(65, refused.ExitCode);
            Assert.Matches(@"ingest +sources +\S+docs\.jsonl +changed", refused.Out);
            Assert.DoesNotContain("running", refused.Error, StringComparison.Ordinal);
        }
        finally
        {
            await File.WriteAllBytesAsync(file, before, TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public async Task What_was_made_from_a_corpus_file_is_found_by_the_file()
    {
        var graph = TinyPipeline.Json(await tiny.CliAsync("lineage", "corpus/docs.jsonl", "--downstream", "-o", "json"));
        Assert.Contains(graph["nodes"]!.AsArray(), n => (string?)n!["id"] == Exported("onnx"));
        Assert.Contains("no registered draft was made from it", (await tiny.CliAsync("lineage", "corpus/docs.jsonl", "--downstream")).Out, StringComparison.Ordinal);
        Assert.Equal(64, (await tiny.CliAsync("lineage", TinyPipeline.Workflow)).ExitCode);
    }

    private string Exported(string port) => (string)TinyPipeline.Json(tiny.First)["stages"]!.AsArray().Single(s => (string?)s!["activityId"] == "export")!["outputs"]!
        .AsArray().Single(o => (string?)o!["port"] == port)!["digest"]!;

    private static void Resource(JsonNode? resource)
    {
        Assert.False(string.IsNullOrEmpty((string?)resource!["name"]));
        Assert.Matches("^[0-9a-f]{64}$", (string)resource["digest"]!["sha256"]!);
        Assert.Subset(new HashSet<string> { "name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations" }, Names(resource).ToHashSet());
    }

    private static IEnumerable<string> Names(JsonNode node) => node.AsObject().Select(m => m.Key);
}
