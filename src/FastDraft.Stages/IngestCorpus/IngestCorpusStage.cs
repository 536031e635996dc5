using System.Buffers.Binary;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>Reads, filters, deduplicates and splits text. Equal sources and settings give equal bytes.</summary>
public sealed class IngestCorpusStage : IStage
{
    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        "IngestCorpus", 1, "Reads text sources into a deduplicated corpus with a train and a validation split.",
        [
            new("sources", SettingType.PathList, "Files, folders or globs of txt, md or jsonl (plain or .gz), or the word dotnet-docs.", Required: true),
            new("validationFraction", SettingType.Number, "Share of documents kept for validation.", 0.02, Minimum: 0, Maximum: 0.5),
            new("minCharacters", SettingType.Integer, "Shorter documents are left out.", 1, Minimum: 0),
            new("maxCharacters", SettingType.Integer, "Longer documents are left out.", 100_000_000, Minimum: 1),
            new("maxBytes", SettingType.Integer, "Stop after this many bytes of text.", Minimum: 1, Unit: "bytes"),
            new("maxBadFraction", SettingType.Number, "Fail when more rows than this are bad.", 0.001, Minimum: 0, Maximum: 1),
            new("seed", SettingType.Integer, "Decides which documents validate.", 1),
        ],
        [],
        [new("corpus", ArtifactKind.Corpus, "The documents.")]);

    public Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var (min, max) = (context.Integer("minCharacters") ?? 1, context.Integer("maxCharacters") ?? long.MaxValue);
        var (cap, seed) = (context.Integer("maxBytes") ?? long.MaxValue, context.Integer("seed") ?? 1);
        var fraction = context.Number("validationFraction") ?? 0.02;
        var files = context.TextList("sources").SelectMany(CorpusSources.Expand).Distinct(StringComparer.Ordinal).ToList();
        var folder = context.Output("corpus");
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var sources = new List<object>();
        long numRead = 0, numBad = 0, numDuplicate = 0, numShort = 0, numLong = 0, numBytes = 0;
        var counts = new long[2];
        string? firstBad = null;
        using (var train = Create(folder, "train"))
        using (var validation = Create(folder, "validation"))
        {
            for (var i = 0; i < files.Count && numBytes < cap; i++)
            {
                var file = files[i];
                var source = Path.GetFileName(file);
                foreach (var text in SourceReader.Read(file, (line, why) => (numBad, firstBad) = (numBad + 1, firstBad ?? $"{file}:{line}: {why}")))
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    numRead++;
                    var hash = SHA256.HashData(Encoding.UTF8.GetBytes(string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))));
                    var size = Encoding.UTF8.GetByteCount(text);
                    if (text.Length < min || string.IsNullOrWhiteSpace(text))
                    {
                        numShort++;
                    }
                    else if (text.Length > max)
                    {
                        numLong++;
                    }
                    else if (!seen.Add(Convert.ToHexString(hash)))
                    {
                        numDuplicate++;
                    }
                    else if (numBytes + size > cap)
                    {
                        numBytes = cap;
                        break;
                    }
                    else
                    {
                        var draw = SHA256.HashData([.. hash, .. BitConverter.GetBytes(seed)]);
                        var held = BinaryPrimitives.ReadUInt64LittleEndian(draw) / 18446744073709551616.0 < fraction;
                        Write(held ? validation : train, text, source);
                        counts[held ? 1 : 0]++;
                        numBytes += size;
                    }
                }

                using var stream = File.OpenRead(file);
                sources.Add(new { name = source, sha256 = Convert.ToHexStringLower(SHA256.HashData(stream)) });
                context.Events.Progress(i + 1, files.Count, "files");
            }
        }

        if (numBad > (context.Number("maxBadFraction") ?? 0.001) * (numRead + numBad))
        {
            throw new StageFailureException(
                FailureKind.Data, $"{numBad} of {numRead + numBad} rows are bad; the first is {firstBad}.", "Mend the rows or raise maxBadFraction.");
        }

        if (counts[0] + counts[1] == 0)
        {
            throw new StageFailureException(
                FailureKind.Data, $"The corpus is empty: of {numRead} documents {numShort} were too short and {numLong} too long.",
                "Name other sources, or change minCharacters and maxCharacters.");
        }

        File.WriteAllText(Path.Combine(folder, "manifest.json"), JsonSerializer.Serialize(new
        {
            format = "fastdraft-corpus/1", numTrain = counts[0], numValidation = counts[1], numBytes, numRead, numBad, numDuplicate, numShort, numLong,
            minCharacters = min, maxCharacters = max, validationFraction = fraction, seed, sources,
        }));
        context.Events.Log($"{counts[0]} training and {counts[1]} validation documents, {numBytes} bytes; left out: {numBad} bad, {numDuplicate} duplicate, {numShort} short, {numLong} long.");
        return Task.CompletedTask;
    }

    private static GZipStream Create(string folder, string split) =>
        new(File.Create(Path.Combine(folder, split + "-00000.jsonl.gz")), CompressionLevel.Optimal);

    private static void Write(GZipStream stream, string text, string source)
    {
        stream.Write(JsonSerializer.SerializeToUtf8Bytes(new { text, source }));
        stream.WriteByte((byte)'\n');
    }
}
