using System.IO.Compression;
using System.Text.Json;
using FastDraft.Modeling.Tokenization;

namespace FastDraft.Modeling.Tests.Tokenization;

/// <summary>
/// Small tokenizers of many kinds (normalizers, pre-tokenizers, post-processors, decoders of the field), trained and run by Hugging Face's
/// library 0.22.2: the resource holds each tokenizer.json with texts and their ids.
/// </summary>
public sealed class TokenizerPipelineFacts
{
    private static readonly JsonDocument Pipelines = Read();

    public static TheoryData<string> Names => [.. Pipelines.RootElement.EnumerateArray().Select(p => p.GetProperty("name").GetString()!)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Each_kind_of_pipeline_gives_the_ids_and_texts_of_the_reference_library(string name)
    {
        var pipeline = Pipelines.RootElement.EnumerateArray().Single(p => p.GetProperty("name").GetString() == name);
        var folder = Directory.CreateTempSubdirectory("tokenizer-");
        try
        {
            File.WriteAllText(Path.Join(folder.FullName, "tokenizer.json"), pipeline.GetProperty("tokenizer").GetRawText());
            var tokenizer = HuggingFaceTokenizer.Load(folder.FullName);
            Assert.All(pipeline.GetProperty("cases").EnumerateArray(), row =>
            {
                var text = row.GetProperty("text").GetString()!;
                Assert.Equal(Ids(row, "bare"), tokenizer.Encode(text));
                Assert.Equal(Ids(row, "ids"), tokenizer.Encode(text, addSpecialTokens: true));
                Assert.Equal(row.GetProperty("decoded").GetString(), tokenizer.Decode(Ids(row, "ids"), skipSpecialTokens: false));
            });
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static int[] Ids(JsonElement row, string name) => [.. row.GetProperty(name).EnumerateArray().Select(n => n.GetInt32())];

    private static JsonDocument Read()
    {
        using var stream = new GZipStream(typeof(TokenizerPipelineFacts).Assembly.GetManifestResourceStream("pipelines.json.gz")!, CompressionMode.Decompress);
        return JsonDocument.Parse(stream);
    }
}
