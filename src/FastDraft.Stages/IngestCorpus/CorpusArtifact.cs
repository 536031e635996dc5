using System.IO.Compression;
using System.Text.Json;
using FastDraft.Core.Stages;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>One document. <see cref="Source"/> names the file it came from, without its folder.</summary>
public sealed record CorpusDocument(string Text, string Source);

/// <summary>Reads a corpus artifact.</summary>
public static class CorpusArtifact
{
    /// <summary>The documents of <c>train</c> or <c>validation</c>, in stored order.</summary>
    /// <exception cref="StageFailureException">Data: the split is missing or a row is not a document.</exception>
    public static IEnumerable<CorpusDocument> Read(string folder, string split)
    {
        var path = Path.Combine(folder, split + "-00000.jsonl.gz");
        if (!File.Exists(path))
        {
            throw new StageFailureException(FailureKind.Data, $"The corpus has no split '{split}': {path} is missing.", "Run IngestCorpus again.");
        }

        using var reader = new StreamReader(new GZipStream(File.OpenRead(path), CompressionMode.Decompress));
        for (var number = 1; reader.ReadLine() is { } line; number++)
        {
            CorpusDocument document;
            try
            {
                using var json = JsonDocument.Parse(line);
                document = new CorpusDocument(json.RootElement.GetProperty("text").GetString()!, json.RootElement.GetProperty("source").GetString()!);
            }
            catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
            {
                throw new StageFailureException(FailureKind.Data, $"{path}:{number}: not a corpus row: {e.Message}", "Run IngestCorpus again.", e);
            }

            yield return document;
        }
    }
}
