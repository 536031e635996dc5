using System.Diagnostics;
using System.Text.Json;
using FastDraft.Modeling.Tokenization;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Tokenization;

public sealed class HuggingFaceTokenizerFacts
{
    [Theory]
    [InlineData("stories260K")]
    [InlineData("gpt2")]
    [InlineData("llama-3.1")]
    [InlineData("qwen2.5")]
    [InlineData("phi-3-mini")]
    public void Every_golden_text_encodes_and_decodes_as_the_reference_library_does(string name)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var tokenizer = HuggingFaceTokenizer.Load(
            name == "stories260K" ? SharedAssets.Path("data", name) : SharedAssets.Path("data", "tokenizers", name));
        var wrong = new List<string>();
        var rows = 0;
        foreach (var line in File.ReadLines(SharedAssets.Path("data", "golden", "tokenizers", name + ".jsonl")))
        {
            rows++;
            using var row = JsonDocument.Parse(line);
            var text = row.RootElement.GetProperty("text").GetString()!;
            var ids = Ids(row, "ids");
            if (!tokenizer.Encode(text).SequenceEqual(ids)
                || !tokenizer.Encode(text, addSpecialTokens: true).SequenceEqual(Ids(row, "ids_with_special")))
            {
                wrong.Add("encode: " + line[..Math.Min(line.Length, 300)] + " got " + string.Join(',', tokenizer.Encode(text).Take(40)));
            }

            if (tokenizer.Decode(Ids(row, "ids"), false) != row.RootElement.GetProperty("decoded").GetString()
                || tokenizer.Decode(Ids(row, "ids")) != row.RootElement.GetProperty("decoded_skip_special").GetString())
            {
                wrong.Add("decode: " + line[..Math.Min(line.Length, 300)] + " got " + tokenizer.Decode(Ids(row, "ids"), false));
            }
        }

        Assert.True(rows > 300);
        Assert.True(wrong.Count == 0, $"{wrong.Count} of {rows} differ:\n" + string.Join('\n', wrong.Take(8)));
    }

    [Theory]
    [InlineData("{", "tokenizer.json")]
    [InlineData("[]", "tokenizer.json")]
    [InlineData("{}", "tokenizer.json")]
    [InlineData("""{"model":{"type":"Unigram","vocab":[["a",-1.0]]}}""", "'Unigram'")]
    [InlineData("""{"model":{"type":"WordPiece","vocab":{}}}""", "'WordPiece'")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}""", "merges[0]")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[["a","b"]]}}""", "merges[0]")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":0},"merges":[7]}}""", "merges[0]")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}}""", "id 0")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}""", "negative")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":2147483647},"merges":[]}}""", "2147483647")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":99999999999},"merges":[]}}""", "tokenizer.json")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":1.5},"merges":[]}}""", "tokenizer.json")]
    [InlineData("""{"model":{"type":"BPE","vocab":{},"merges":[]}}""", "empty")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"<unk>"}}""", "unk_token")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>"}}""", "end_of_word_suffix")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1}}""", "dropout")]
    [InlineData("""{"pre_tokenizer":{"type":"Odd"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "pre_tokenizer.type 'Odd'")]
    [InlineData("""{"pre_tokenizer":{"type":"UnicodeScripts"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "'UnicodeScripts'")]
    [InlineData("""{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\p{Han}"},"behavior":"Isolated"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "Han")]
    [InlineData("""{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"[a-z&&[^b]]"},"behavior":"Isolated"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "intersection")]
    [InlineData("""{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"[[:alpha:]]"},"behavior":"Isolated"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "another class")]
    [InlineData("""{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "not understood")]
    [InlineData("""{"pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"Odd"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "behavior 'Odd'")]
    [InlineData("""{"normalizer":{"type":"Precompiled","precompiled_charsmap":""},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "'Precompiled'")]
    [InlineData("""{"normalizer":{"type":"Nmt"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "'Nmt'")]
    [InlineData("""{"decoder":{"type":"CTC"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "'CTC'")]
    [InlineData("""{"post_processor":{"type":"Odd"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "post_processor.type 'Odd'")]
    public void A_malformed_or_unsupported_file_says_what_and_where(string json, string part) => InFolder(json, folder =>
    {
        var error = Assert.Throws<TokenizerException>(() => HuggingFaceTokenizer.Load(folder));
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
        Assert.Contains(folder, error.Message, StringComparison.Ordinal);
    });

    [Fact]
    public void Every_cut_off_file_is_refused_with_its_path() => InFolder("""{"added_tokens":[{"id":1,"content":"<s>"}],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", folder =>
    {
        var path = Path.Combine(folder, "tokenizer.json");
        var whole = File.ReadAllBytes(path);
        for (var length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(path, whole[..length]);
            Assert.Contains(path, Assert.Throws<TokenizerException>(() => HuggingFaceTokenizer.Load(folder)).Message, StringComparison.Ordinal);
        }
    });

    [Fact]
    public void Holes_in_the_ids_and_missing_byte_tokens_are_legal() => InFolder(
        """{"model":{"type":"BPE","vocab":{"<unk>":0,"a":70},"merges":[],"unk_token":"<unk>","byte_fallback":true,"fuse_unk":true},"decoder":{"type":"Fuse"}}""", folder =>
    {
        var tokenizer = HuggingFaceTokenizer.Load(folder);
        Assert.Equal([70, 0, 70], tokenizer.Encode("aéèa"));
        Assert.Equal("aa", tokenizer.Decode([70, 5, 70]));
        Assert.Equal(71, tokenizer.VocabularySize);
    });

    [Theory]
    [InlineData("(a+)+$", "linear time")]
    [InlineData("(?=x)x|(a+)+$", "stopped")]
    public void A_pattern_made_to_never_end_runs_in_linear_time_or_is_stopped(string pattern, string what) => InFolder(
        $$$"""{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"{{{pattern}}}"},"behavior":"Isolated"},"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}""", folder =>
    {
        var tokenizer = HuggingFaceTokenizer.Load(folder);
        var text = new string('a', 40) + "b";
        if (what == "stopped")
        {
            Assert.Contains("took over", Assert.Throws<TokenizerException>(() => tokenizer.Encode(text)).Message, StringComparison.Ordinal);
        }
        else
        {
            Assert.Equal(41, tokenizer.Encode(text).Length);
        }
    });

    [Theory]
    [InlineData("a")]
    [InlineData(" ")]
    [InlineData("<")]
    [InlineData("<|")]
    [InlineData("\u0301")]
    [InlineData("e\u0301\u0323")]
    [InlineData("\n \r\n")]
    [InlineData("1")]
    [InlineData("\U0001F600")]
    [InlineData("\uD83D")]
    public void A_megabyte_of_any_repeated_text_encodes_in_seconds(string piece)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        foreach (var folder in new[] { SharedAssets.Path("models", "target-28m"), SharedAssets.Path("data", "tokenizers", "qwen2.5"), SharedAssets.Path("data", "tokenizers", "phi-3-mini") })
        {
            var tokenizer = HuggingFaceTokenizer.Load(folder);
            var text = string.Concat(Enumerable.Repeat(piece, (1 << 20) / piece.Length));
            var watch = Stopwatch.StartNew();
            var ids = tokenizer.Encode(text);

            // The budget is 2 s on a free core; a quadratic loop would take hours.
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"{folder}: {watch.Elapsed}");
            TestContext.Current.TestOutputHelper?.WriteLine($"{Path.GetFileName(folder)}: {watch.Elapsed.TotalSeconds:F2} s");
            Assert.True(ids.Length > 1000);
        }
    }

    private static void InFolder(string json, Action<string> act)
    {
        var folder = Directory.CreateTempSubdirectory("tokenizer-");
        try
        {
            File.WriteAllText(Path.Combine(folder.FullName, "tokenizer.json"), json);
            act(folder.FullName);
        }
        finally
        {
            folder.Delete(true);
        }
    }

    private static int[] Ids(JsonDocument row, string name) => [.. row.RootElement.GetProperty(name).EnumerateArray().Select(n => n.GetInt32())];
}
