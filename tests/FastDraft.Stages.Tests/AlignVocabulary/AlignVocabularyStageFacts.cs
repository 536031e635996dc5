using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Tokenization;
using FastDraft.Modeling.Training;
using FastDraft.Stages.AlignVocabulary;
using FastDraft.Stages.IngestCorpus;
using FastDraft.Stages.Tests.IngestCorpus;
using FastDraft.TestKit;

namespace FastDraft.Stages.Tests.AlignVocabulary;

public sealed class AlignVocabularyStageFacts : IDisposable
{
    private static readonly string[] Outputs = ["tokenizer", "vocabulary", "tokens"];
    private readonly StageFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task The_shards_decode_to_the_documents_and_the_statistics_are_theirs()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        string[] texts = ["Once upon a time", "there was a little dog.", "He ran to the park."];
        await Ingest(string.Concat(texts.Select(t => new JsonObject { ["text"] = t }.ToJsonString() + "\n")));
        await Align(SharedAssets.Path("data", "stories260K"));

        var tokenizer = HuggingFaceTokenizer.Load(_folder["tokenizer"]);
        using var shards = TokenShards.Open(_folder["tokens"]);
        Assert.Equal(512, shards.VocabularySize);
        Assert.Equal(tokenizer.Sha256, shards.TokenizerDigest);
        Assert.Equal(tokenizer.Sha256, _folder.Json("tokenizer/manifest.json")["sha256"]!.GetValue<string>());
        var map = _folder.Json("vocabulary/map.json");
        foreach (var split in new[] { "train", "validation" })
        {
            var ids = new int[shards.Split(split).NumTokens];
            shards.Split(split).CopyTo(0, ids);
            var expected = CorpusArtifact.Read(_folder["corpus"], split).Select(d => d.Text).ToList();
            Assert.Equal(expected, Documents(ids).Select(d => tokenizer.Decode(d)));
            Assert.Equal(ids.Length, map["statistics"]![split]!["numTokens"]!.GetValue<long>());
            Assert.Equal(expected.Sum(t => t.Length), map["statistics"]![split]!["numBytes"]!.GetValue<long>());
        }
    }

    [Fact]
    public async Task A_corpus_of_one_document_leaves_shards_that_open()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        await Ingest("""{"text":"the only one"}""");
        await Align(SharedAssets.Path("data", "stories260K"));
        using var shards = TokenShards.Open(_folder["tokens"]);
        Assert.Equal(1, shards.Split("train").NumDocuments);
        Assert.False(shards.HasSplit("validation"));
    }

    [Fact]
    public async Task The_tokenizer_of_another_model_is_refused_with_both_sizes()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        await Ingest("""{"text":"x"}""");
        _folder.File("target/config.json", File.ReadAllBytes(SharedAssets.Path("data", "stories260K", "config.json")));
        _folder.File("target/tokenizer.json", File.ReadAllBytes(SharedAssets.Path("data", "tokenizers", "gpt2", "tokenizer.json")));
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => Align(_folder["target"]));
        Assert.Equal(FailureKind.Data, failure.Kind);
        Assert.Contains("50256", failure.Message, StringComparison.Ordinal);
        Assert.Contains("512", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_target_that_is_not_there_is_named()
    {
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => Align(_folder["absent"]));
        Assert.Equal(FailureKind.Config, failure.Kind);
        Assert.Contains(_folder["absent"], failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_target_without_a_tokenizer_is_a_data_failure()
    {
        _folder.File("target/config.json", "{}");
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => Align(_folder["target"]));
        Assert.Equal(FailureKind.Data, failure.Kind);
        Assert.Contains(_folder["target"], failure.Message, StringComparison.Ordinal);
    }

    /// <summary>Cuts at the end-of-text id 2 and checks the begin-of-text id 1.</summary>
    private static IEnumerable<int[]> Documents(int[] ids)
    {
        for (var start = 0; start < ids.Length;)
        {
            var end = Array.IndexOf(ids, 2, start);
            Assert.Equal(1, ids[start]);
            yield return ids[(start + 1)..end];
            start = end + 1;
        }
    }

    private Task Ingest(string rows) => new IngestCorpusStage().ExecuteAsync(
        _folder.Context(new JsonObject { ["sources"] = new JsonArray(_folder.File("rows.jsonl", rows)) }, "corpus", "seen"), CancellationToken.None);

    private Task Align(string target) => new AlignVocabularyStage().ExecuteAsync(
        _folder.Context(new JsonObject { ["target"] = target }, Outputs), CancellationToken.None);
}
