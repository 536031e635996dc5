using System.IO.Compression;
using System.Text.Json;

namespace FastDraft.Stages.GenerateSynthetic;

/// <summary>Who wrote a row: the SHA-256 of the target's weight files.</summary>
public sealed record SyntheticGenerator(string Kind, string ModelDigest);

/// <summary>How a row was drawn; <see cref="Seed"/> is the row's own.</summary>
public sealed record SyntheticSampling(double Temperature, double TopP, int TopK, ulong Seed);

/// <summary>A prompt and what the target answered, in token ids (methods.md section 7). Loss counts on response tokens only.</summary>
public sealed record SyntheticRow
{
    public required string Id { get; init; }

    public required int[] PromptIds { get; init; }

    public required int[] ResponseIds { get; init; }

    public required SyntheticGenerator Generator { get; init; }

    public required SyntheticSampling Sampling { get; init; }

    /// <summary><c>eos</c> (the last response id is the end-of-sequence token) or <c>length</c>.</summary>
    public required string FinishReason { get; init; }

    /// <summary>Zero for every prompt token and one for every response token: as long as both together. Follows from the ids.</summary>
    public int[] LossMask => [.. Enumerable.Repeat(0, PromptIds.Length), .. Enumerable.Repeat(1, ResponseIds.Length)];
}

/// <summary>Reads and writes the rows of a <c>synthetic-corpus</c> artifact: <c>train.jsonl.gz</c> and <c>validation.jsonl.gz</c>.</summary>
public static class SyntheticCorpus
{
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>The rows of a split in file order. Empty when the corpus has no such split.</summary>
    /// <exception cref="InvalidDataException">A line is not a row, or its loss mask is not as long as its ids.</exception>
    public static IEnumerable<SyntheticRow> Read(string folder, string split)
    {
        var path = Path.Combine(folder, split + ".jsonl.gz");
        if (!File.Exists(path))
        {
            yield break;
        }

        using var reader = new StreamReader(new GZipStream(File.OpenRead(path), CompressionMode.Decompress));
        for (var line = 1; reader.ReadLine() is { } text; line++)
        {
            yield return Parse(text, $"{split}.jsonl.gz line {line}");
        }
    }

    /// <summary>Writes a split: equal rows give equal bytes. The file appears whole or not at all.</summary>
    public static void Write(string folder, string split, IEnumerable<SyntheticRow> rows)
    {
        Directory.CreateDirectory(folder);
        var path = Path.Combine(folder, split + ".jsonl.gz");
        var temporary = path + ".tmp";
        using (var writer = new StreamWriter(new GZipStream(File.Create(temporary), CompressionLevel.Optimal)) { NewLine = "\n" })
        {
            foreach (var row in rows)
            {
                writer.WriteLine(JsonSerializer.Serialize(row, Json));
            }
        }

        File.Move(temporary, path, overwrite: true);
    }

    private static SyntheticRow Parse(string text, string where)
    {
        try
        {
            using var document = JsonDocument.Parse(text);
            var row = document.Deserialize<SyntheticRow>(Json) ?? throw new JsonException("null");
            if (document.RootElement.GetProperty("loss_mask").GetArrayLength() != row.PromptIds.Length + row.ResponseIds.Length)
            {
                throw new InvalidDataException($"{where}: the loss mask is not as long as the ids.");
            }

            return row;
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new InvalidDataException($"{where} is not a row of a synthetic corpus: {e.Message}", e);
        }
    }
}
