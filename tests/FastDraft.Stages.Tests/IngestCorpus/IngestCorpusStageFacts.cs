using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Stages.IngestCorpus;

namespace FastDraft.Stages.Tests.IngestCorpus;

public sealed class IngestCorpusStageFacts : IDisposable
{
    private readonly StageFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_folder_of_every_kind_of_file_becomes_a_corpus()
    {
        _folder.File("in/a.txt", "\uFEFFfirst\r\n\nsecond paragraph\n");
        _folder.File("in/deep/b.md", "# b");
        _folder.File("in/c.jsonl", """{"text":"row one"}""" + "\n\n" + """{"text":"row \u00e9"}""");
        _folder.File("in/d.txt.gz", Gzip("zipped"));
        _folder.File("in/ignored.bin", "no text");
        await Ingest(_folder["in"]);
        Assert.Equal(
            ["a.txt: first\n\nsecond paragraph\n", "b.md: # b\n", "c.jsonl: row one", "c.jsonl: row é", "d.txt.gz: zipped\n"],
            Documents().Select(d => $"{d.Source}: {d.Text}").Order(StringComparer.Ordinal));
        var manifest = Manifest();
        Assert.Equal(Documents().Sum(d => Encoding.UTF8.GetByteCount(d.Text)), manifest["numBytes"]!.GetValue<long>());
        Assert.Equal(4, manifest["sources"]![0]!["numFiles"]!.GetValue<int>());
        Assert.Equal("in", manifest["sources"]![0]!["source"]!.GetValue<string>());
        var shard = manifest["splits"]!["train"]!["shards"]![0]!;
        Assert.Equal(
            Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(Path.Combine(_folder["corpus"], shard["name"]!.GetValue<string>())))),
            shard["sha256"]!.GetValue<string>());
    }

    [Fact]
    public async Task A_glob_takes_the_files_that_match()
    {
        _folder.File("in/a.txt", "alpha");
        _folder.File("in/b.md", "beta");
        await Ingest(_folder["in/*.md"]);
        Assert.Equal("beta\n", Assert.Single(Documents()).Text);
        Assert.Empty(CorpusArtifact.Read(_folder["corpus"], "validation"));
    }

    [Fact]
    public async Task Duplicates_and_short_documents_are_left_out_and_counted()
    {
        await Ingest(Rows("same  words", "same words", "x", "other words"), ("minCharacters", 3));
        Assert.Equal(2, Documents().Count);
        Assert.Equal(1, Removed("duplicate"));
        Assert.Equal(1, Removed("minCharacters"));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0.02)]
    [InlineData(0.5)]
    public async Task Two_documents_give_one_to_each_split(double fraction)
    {
        await Ingest(Rows("one", "two"), ("validationFraction", fraction));
        Assert.Single(CorpusArtifact.Read(_folder["corpus"], "train"));
        Assert.Single(CorpusArtifact.Read(_folder["corpus"], "validation"));
    }

    [Fact]
    public async Task A_long_text_is_cut_at_paragraphs_and_a_long_row_is_left_out()
    {
        _folder.File("in/a.txt", "aaaa\naaaa\n\nbbbb\n\n\ncccccc\n\ndd");
        _folder.File("in/b.jsonl", """{"text":"a row of more than sixteen characters"}""");
        await Ingest(_folder["in"], ("maxCharacters", 15));
        Assert.Equal(["aaaa\naaaa\n\nbbbb", "cccccc\n\ndd"], Documents().Select(d => d.Text).Order(StringComparer.Ordinal));
        Assert.Equal(1, Removed("maxCharacters"));
    }

    [Fact]
    public async Task A_capped_corpus_is_drawn_from_every_source()
    {
        foreach (var source in new[] { "a", "b", "c", "d" })
        {
            _folder.File($"in/{source}.jsonl", Lines(Enumerable.Range(0, 50).Select(i => $"{source} {i:D3} text")));
        }

        await Ingest(_folder["in"], ("maxBytes", 1000), ("validationFraction", 0.1));
        var documents = Documents();
        Assert.Equal(100, documents.Count);
        Assert.Equal(1000, Manifest()["numBytes"]!.GetValue<long>());
        Assert.Equal(100, Removed("maxBytes"));
        Assert.All(documents.CountBy(d => d.Source), s => Assert.InRange(s.Value, 12, 38));
        Assert.Equal(4, documents.CountBy(d => d.Source).Count());
        Assert.InRange(CorpusArtifact.Read(_folder["corpus"], "validation").Count(), 2, 25);
    }

    [Fact]
    public async Task A_second_run_writes_the_same_bytes_and_another_seed_does_not()
    {
        var source = Rows([.. Enumerable.Range(0, 60).Select(i => $"document {i}")]);
        var first = await Bytes(source, 1);
        Assert.Equal(first, await Bytes(source, 1));
        Assert.NotEqual(first, await Bytes(source, 2));
    }

    [Fact]
    public async Task A_bad_row_is_left_out_and_its_place_kept_while_few_are_bad()
    {
        var source = _folder.File("rows.jsonl", Lines(["one", "two"]) + "{broken\n" + Lines(["three"]));
        await Ingest(source, ("maxBadFraction", 0.25));
        Assert.Equal(3, Documents().Count);
        Assert.Equal(1, Removed("maxBadFraction"));
        Assert.StartsWith("rows.jsonl:3: ", Manifest()["firstBad"]!.GetValue<string>(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{broken")]
    [InlineData("[1]")]
    [InlineData("""{"text":null}""")]
    [InlineData("""{"text":5}""")]
    [InlineData("""{"body":"x"}""")]
    public async Task More_bad_rows_than_allowed_fail_with_the_first_ones_place(string row)
    {
        var source = _folder.File("rows.jsonl", Lines(["one"]) + row + "\n" + row);
        var failure = await Fails(source, ("maxBadFraction", 0.5));
        Assert.Contains("2 of 3 rows", failure.Message, StringComparison.Ordinal);
        Assert.Contains($"{source}:2: ", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_text_line_that_is_not_utf8_counts_against_the_lines()
    {
        var source = _folder.File("a.txt", [.. "one\ntwo\n"u8, 0xC3, 0x28, (byte)'\n', .. "four"u8]);
        await Ingest(source, ("maxBadFraction", 0.25));
        Assert.Equal("one\ntwo\nfour\n", Assert.Single(Documents()).Text);
        var failure = await Fails(source, ("maxBadFraction", 0.2));
        Assert.Contains($"1 of 4 rows are bad, more than maxBadFraction 0.2; the first is {source}:3: not valid UTF-8", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Corrupt_gzip_is_a_data_failure_that_names_the_file()
    {
        var whole = Gzip(string.Concat(Enumerable.Range(0, 2000).Select(i => $"line {i * 7919}\n")));
        var cut = _folder.File("cut.txt.gz", whole[..(whole.Length / 2)]);
        var plain = _folder.File("plain.txt.gz", "not gzip at all");
        Assert.Contains(cut, (await Fails(cut)).Message, StringComparison.Ordinal);
        Assert.Contains(plain, (await Fails(plain)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Gzip_files_put_one_after_the_other_are_read_whole()
    {
        await Ingest(_folder.File("two.txt.gz", [.. Gzip("one\n"), .. Gzip("and two\n")]));
        Assert.Equal("one\nand two\n", Assert.Single(Documents()).Text);
    }

    [Fact]
    public async Task Broken_xml_is_a_data_failure_that_names_the_file()
    {
        var source = _folder.File("docs.xml", "<doc><member name='T:A'>");
        Assert.Contains(source, (await Fails(source)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_corpus_without_documents_is_a_data_failure_that_says_why() =>
        Assert.Contains("1 were too short", (await Fails(_folder.File("a.txt", " \n\n"))).Message, StringComparison.Ordinal);

    [Fact]
    public async Task A_source_that_matches_nothing_is_a_data_failure_and_one_that_does_not_exist_a_wrong_setting()
    {
        Assert.Contains("no-such-folder/*.txt", (await Fails("no-such-folder/*.txt")).Message, StringComparison.Ordinal);
        var absent = await Assert.ThrowsAsync<StageFailureException>(() => Ingest(_folder["absent.txt"]));
        Assert.Contains("absent.txt", absent.Message, StringComparison.Ordinal);
        Assert.Equal(FailureKind.Config, absent.Kind);
    }

    [Fact]
    public async Task Documents_of_an_earlier_run_are_left_out_whatever_file_they_are_in()
    {
        Assert.Null(await Ingest(Rows("one", "two", "three")));
        Remember();
        Assert.Null(await Ingest(_folder.File("grown.jsonl", Lines(["four", " three ", "two", "five", "four"]))));
        Assert.Equal(["five", "four"], Documents().Select(d => d.Text).Order(StringComparer.Ordinal));
        Assert.Equal((2, 1), (Removed("seen"), Removed("duplicate")));
        Assert.Equal(5, _folder.Json("seen/manifest.json")["numDocuments"]!.GetValue<int>());
    }

    [Fact]
    public async Task Nothing_new_is_an_outcome_and_not_a_failure()
    {
        await Ingest(Rows("one", "two"));
        Remember();
        Assert.Equal(IngestCorpusStage.NothingNew, await Ingest(Rows("two", "one")));
        Assert.Contains("Nothing new: all 2 documents were ingested by earlier runs.", _folder.Lines);
        Assert.Empty(Documents());
    }

    [Fact]
    public async Task What_a_cap_left_out_is_not_remembered_as_seen()
    {
        await Ingest(Rows("a document of some length", "another document of that"), ("maxBytes", 30));
        Remember();
        await Ingest(Rows("a document of some length", "another document of that"));
        Assert.Single(Documents());
    }

    [Fact]
    public async Task The_same_documents_in_another_order_are_the_same_seen_bytes()
    {
        await Ingest(Rows("one", "two", "three"));
        var first = await File.ReadAllBytesAsync(_folder["seen/documents.bin"], TestContext.Current.CancellationToken);
        await Ingest(Rows("three", "one", "two"));
        Assert.Equal(first, await File.ReadAllBytesAsync(_folder["seen/documents.bin"], TestContext.Current.CancellationToken));
    }

    /// <summary>Makes what was just seen the input of the next run.</summary>
    private void Remember()
    {
        Directory.Move(_folder["seen"], _folder["earlier"]);
        _folder.Inputs["seen"] = "earlier";
    }

    private static byte[] Gzip(string text)
    {
        using var buffer = new MemoryStream();
        using (var stream = new GZipStream(buffer, CompressionLevel.Fastest))
        {
            stream.Write(Encoding.UTF8.GetBytes(text));
        }

        return buffer.ToArray();
    }

    private static string Lines(IEnumerable<string> texts) => string.Concat(texts.Select(t => new JsonObject { ["text"] = t }.ToJsonString() + "\n"));

    private string Rows(params string[] texts) => _folder.File("rows.jsonl", Lines(texts));

    private async Task<string?> Ingest(string source, params (string Name, JsonNode Value)[] settings)
    {
        var all = new JsonObject { ["sources"] = new JsonArray(source) };
        foreach (var (name, value) in settings)
        {
            all[name] = value;
        }

        var context = _folder.Context(all, "corpus", "seen");
        await new IngestCorpusStage().ExecuteAsync(context, CancellationToken.None);
        return context.Outcome;
    }

    private async Task<StageFailureException> Fails(string source, params (string Name, JsonNode Value)[] settings)
    {
        var failure = await Assert.ThrowsAsync<StageFailureException>(() => Ingest(source, settings));
        Assert.Equal(FailureKind.Data, failure.Kind);
        return failure;
    }

    private async Task<string> Bytes(string source, int seed)
    {
        await Ingest(source, ("seed", seed), ("validationFraction", 0.2));
        return string.Join(' ', Directory.GetFiles(_folder["corpus"]).Order(StringComparer.Ordinal).Select(f => Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(f)))));
    }

    private List<CorpusDocument> Documents() => [.. CorpusArtifact.Read(_folder["corpus"], "train"), .. CorpusArtifact.Read(_folder["corpus"], "validation")];

    private JsonNode Manifest() => _folder.Json("corpus/manifest.json");

    private long Removed(string filter) => Manifest()["filters"]!.AsArray().Single(f => f!["name"]!.GetValue<string>() == filter)!["removed"]!.GetValue<long>();
}
