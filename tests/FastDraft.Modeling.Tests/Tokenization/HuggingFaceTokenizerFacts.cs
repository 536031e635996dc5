using System.Diagnostics;
using System.Text.Json;
using FastDraft.Modeling.Tokenization;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Tokenization;

public sealed class HuggingFaceTokenizerFacts
{
    [Theory]
    [InlineData("stories260K", 0)]
    [InlineData("gpt2", 0)]
    [InlineData("llama-3.1", 0)]
    [InlineData("qwen2.5", 7)] // NFC does nothing under InvariantGlobalization: seven decomposed texts differ.
    [InlineData("phi-3-mini", 0)]
    public void Every_golden_text_encodes_and_decodes_as_the_reference_library_does(string name, int numKnownDifferences)
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
        Assert.True(wrong.Count == numKnownDifferences, $"{wrong.Count} of {rows} differ:\n" + string.Join('\n', wrong.Take(8)));
    }

    [Theory]
    [InlineData("{", "tokenizer.json")]
    [InlineData("""{"model":{"type":"Unigram"}}""", "Unigram")]
    [InlineData("""{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}""", "merges[0]")]
    [InlineData("""{"pre_tokenizer":{"type":"Odd"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""", "pre_tokenizer.type 'Odd'")]
    public void A_malformed_file_says_what_and_where(string json, string part)
    {
        var folder = Directory.CreateTempSubdirectory();
        try
        {
            File.WriteAllText(Path.Combine(folder.FullName, "tokenizer.json"), json);
            var error = Assert.Throws<TokenizerException>(() => HuggingFaceTokenizer.Load(folder.FullName));
            Assert.Contains(part, error.Message, StringComparison.Ordinal);
            Assert.Contains(folder.FullName, error.Message, StringComparison.Ordinal);
        }
        finally
        {
            folder.Delete(true);
        }
    }

    [Theory]
    [InlineData('a')]
    [InlineData(' ')]
    [InlineData('<')]
    public void A_megabyte_of_one_character_encodes_in_seconds(char c)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var tokenizer = HuggingFaceTokenizer.Load(SharedAssets.Path("models", "target-28m"));
        var text = new string(c, 1 << 20);
        var watch = Stopwatch.StartNew();
        var ids = tokenizer.Encode(text);

        // The budget is 2 s on a free core; a quadratic loop would take hours.
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"{watch.Elapsed}");
        Assert.Equal(text, tokenizer.Decode(ids));
    }

    private static int[] Ids(JsonDocument row, string name) => [.. row.RootElement.GetProperty(name).EnumerateArray().Select(n => n.GetInt32())];
}
