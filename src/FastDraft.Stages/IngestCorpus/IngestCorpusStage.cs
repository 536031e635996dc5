using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Xml;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>Reads, filters, deduplicates and splits text. Equal sources and settings give equal bytes.</summary>
public sealed class IngestCorpusStage : IStage
{
    public const string Done = "Done";

    /// <summary>Every document was seen before. The corpus is then empty, which no later stage can use.</summary>
    public const string NothingNew = "NothingNew";

    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        "IngestCorpus", 3, "Reads text sources into a deduplicated corpus with a train and a validation split; of what it has not seen before, if told what it has.",
        [
            new("sources", SettingType.PathList, "Files, folders or globs of txt, md or jsonl (plain or .gz), or the word dotnet-docs.", Required: true, Content: PathContent.Text),
            new("validationFraction", SettingType.Number, "Share of documents kept for validation; at least one of two or more.", 0.02, Minimum: 0, Maximum: 0.5),
            new("minCharacters", SettingType.Integer, "Shorter documents are left out.", 1, Minimum: 0),
            new("maxCharacters", SettingType.Integer, "Longer documents are left out; txt and md are first cut at paragraphs.", 100_000_000, Minimum: 1),
            new("maxBytes", SettingType.Integer, "Keep a sample of at most this many bytes of text.", Minimum: 1, Unit: "bytes"),
            new("maxBadFraction", SettingType.Number, "Fail when a larger share of rows (lines of txt and md) is bad.", 0.001, Minimum: 0, Maximum: 1),
            new("seed", SettingType.Integer, "Decides which documents validate.", 1),
            new("license", SettingType.Text, "Licence of the text as its SPDX identifier, such as CC-BY-SA-4.0; model cards name it."),
        ],
        [new("seen", ArtifactKind.SeenDocuments, "What earlier runs have ingested, as FindSeenDocuments gives it; these documents are left out.", Required: false)],
        [
            new("corpus", ArtifactKind.Corpus, "The documents."),
            new("seen", ArtifactKind.SeenDocuments, "Digests of these documents and of all that were seen before."),
        ])
    {
        Outcomes = [Done, NothingNew],
    };

    public Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var (min, max) = (context.Integer("minCharacters") ?? 1, context.Integer("maxCharacters") ?? 100_000_000);
        var (cap, seed) = (context.Integer("maxBytes") ?? long.MaxValue, context.Integer("seed") ?? 1);
        var fraction = context.Number("validationFraction") ?? 0.02;
        var maxBad = context.Number("maxBadFraction") ?? 0.001;
        var sources = context.TextList("sources").Select(s => (Given: s, Files: CorpusSources.Expand(s))).ToList();
        var files = sources.SelectMany(s => s.Files).Distinct(StringComparer.Ordinal).ToList();
        var digests = new Dictionary<string, string>(StringComparer.Ordinal);
        var tally = new ReadTally();
        long numRead = 0, numDuplicate = 0, numShort = 0, numLong = 0;
        var seen = context.HasInput("seen") ? SeenDocuments.Read(context.Input("seen")) : SeenDocuments.Nothing;
        using var spool = new DocumentSpool(context.ScratchFolder, seed, seen);
        foreach (var file in files)
        {
            var source = Path.GetFileName(file);
            foreach (var text in Guarded(file, max, tally))
            {
                cancellationToken.ThrowIfCancellationRequested();
                numRead++;
                if (text.Length < min || string.IsNullOrWhiteSpace(text))
                {
                    numShort++;
                }
                else if (text.Length > max)
                {
                    numLong++;
                }
                else if (!spool.Add(text, source))
                {
                    numDuplicate++;
                }
            }

            digests[file] = CorpusSources.Sha256(file);
            context.Events.Progress(digests.Count, files.Count, "files");
        }

        if (tally.FirstBad is { } bad)
        {
            var place = $"{bad.Path}:{bad.Line}: {bad.Why}";
            if (tally.NumBad > maxBad * tally.NumRows)
            {
                throw new StageFailureException(
                    FailureKind.Data,
                    $"{tally.NumBad} of {tally.NumRows} rows are bad, more than maxBadFraction {maxBad.ToString(CultureInfo.InvariantCulture)}; the first is {place}",
                    "mend the rows or raise maxBadFraction");
            }

            context.Events.Log($"{tally.NumBad} of {tally.NumRows} rows are bad and left out; the first is {place}", StageLogLevel.Warning);
        }

        var documents = spool.Draw(cap);
        var numOverCap = numRead - numShort - numLong - numDuplicate - spool.NumSeen - documents.Count;
        if (documents.Count == 0 && (spool.NumSeen == 0 || numOverCap > 0))
        {
            throw new StageFailureException(
                FailureKind.Data,
                $"The corpus is empty: of {numRead} documents {numShort} were too short, {numLong} too long and {numOverCap} larger than maxBytes.",
                "other sources, or other minCharacters, maxCharacters and maxBytes");
        }

        var held = Held(documents, fraction);
        var folder = context.Output("corpus");
        using var train = new CorpusSplitWriter(folder, "train");
        using var validation = new CorpusSplitWriter(folder, "validation");
        foreach (var document in documents)
        {
            cancellationToken.ThrowIfCancellationRequested();
            (held.Contains(document) ? validation : train).Write(spool.Read(document), document);
        }

        var numBytes = documents.Sum(d => (long)d.NumBytes);
        File.WriteAllText(Path.Combine(folder, "manifest.json"), JsonSerializer.Serialize(
            new
            {
                format = "fastdraft-corpus/1",
                numBytes,
                numDocuments = documents.Count,
                splits = new { train = train.Complete(), validation = validation.Complete() },
                numRowsRead = tally.NumRows,
                numDocumentsRead = numRead,
                filters = new object[]
                {
                    new { name = "maxBadFraction", value = maxBad, removed = tally.NumBad },
                    new { name = "minCharacters", value = min, removed = numShort },
                    new { name = "maxCharacters", value = max, removed = numLong },
                    new { name = "duplicate", removed = numDuplicate },
                    new { name = "seen", removed = spool.NumSeen },
                    new { name = "maxBytes", value = context.Integer("maxBytes"), removed = numOverCap },
                },
                firstBad = tally.FirstBad is { } first ? $"{Name(first.Path)}:{first.Line}: {first.Why}" : null,
                validationFraction = fraction,
                seed,
                license = context.Text("license"),
                sources = sources.Select(s => new { source = Name(s.Given), numFiles = s.Files.Count, sha256 = Digest(s.Files, digests) }),
            },
            Json));
        seen.With(documents.Select(d => d.Identity)).Write(context.Output("seen"));
        if (documents.Count == 0)
        {
            context.Outcome = NothingNew;
            context.Events.Log($"Nothing new: all {spool.NumSeen} documents were ingested by earlier runs.");
            return Task.CompletedTask;
        }

        context.Events.Log(
            $"{documents.Count - held.Count} training and {held.Count} validation documents, {numBytes} bytes; left out: {tally.NumBad} bad rows, "
            + $"{numDuplicate} duplicate, {spool.NumSeen} seen before, {numShort} short, {numLong} long, {numOverCap} over maxBytes.");
        return Task.CompletedTask;
    }

    /// <summary>Where a source lay is nobody's business a year later, and would change the digest of equal text.</summary>
    private static string Name(string source) => Path.GetFileName(Path.TrimEndingDirectorySeparator(source));

    /// <summary>The documents that validate. Of two or more documents at least one validates and at least one trains.</summary>
    private static HashSet<SpooledDocument> Held(List<SpooledDocument> documents, double fraction)
    {
        var held = documents.Where(d => d.Validation < fraction).ToHashSet();
        if (held.Count == 0 && documents.Count > 1)
        {
            held.Add(documents.MinBy(d => d.Validation)!);
        }
        else if (held.Count == documents.Count)
        {
            held.Remove(documents.MaxBy(d => d.Validation)!);
        }

        return held;
    }

    /// <summary>SHA-256 over the names and digests of a source's files, so it does not depend on where they lie.</summary>
    private static string Digest(IEnumerable<string> files, Dictionary<string, string> digests) => Convert.ToHexStringLower(
        SHA256.HashData(Encoding.UTF8.GetBytes(string.Concat(files.Select(f => $"{Path.GetFileName(f)} {digests[f]}\n")))));

    /// <summary>The documents of a file, with what is wrong with the file as a whole told as a data failure that names it.</summary>
    private static IEnumerable<string> Guarded(string file, long maxCharacters, ReadTally tally)
    {
        using var documents = SourceReader.Read(file, maxCharacters, tally).GetEnumerator();
        while (true)
        {
            string text;
            try
            {
                if (!documents.MoveNext())
                {
                    yield break;
                }

                text = documents.Current;
            }
            catch (Exception e) when (e is InvalidDataException or XmlException or UnauthorizedAccessException)
            {
                throw new StageFailureException(FailureKind.Data, $"{file} cannot be read: {e.Message}", "replace the file or leave it out of 'sources'", e);
            }

            yield return text;
        }
    }
}
