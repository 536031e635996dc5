using System.Globalization;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Tokenization;
using FastDraft.Stages.IngestCorpus;

namespace FastDraft.Stages.EvaluateDraft;

/// <summary>Chooses held-out prompts by suite: the heads of corpus documents, or the rows of prompt files.</summary>
internal static class EvaluationPrompts
{
    private const int MaxSuites = 4;

    /// <summary>Prompts of <paramref name="promptTokens"/> tokens, at most <paramref name="numPrompts"/> per suite, chosen by the seed.</summary>
    public static IReadOnlyList<PromptCase> FromCorpus(string folder, HuggingFaceTokenizer tokenizer, int promptTokens, int numPrompts, long seed, Action<string> warn)
    {
        var documents = Heads(folder, "validation", promptTokens);
        if (documents.Count == 0)
        {
            warn("The corpus holds no validation documents: prompts are taken from its train split, which the draft may have seen.");
            documents = Heads(folder, "train", promptTokens);
        }

        var suiteOf = SuiteNames([.. documents.Select(d => d.Source).Distinct()]);
        var suites = documents
            .GroupBy(d => suiteOf(d.Source))
            .OrderByDescending(g => g.Count()).ThenBy(g => g.Key, StringComparer.Ordinal)
            .Take(MaxSuites)
            .OrderBy(g => g.Key, StringComparer.Ordinal);
        return [.. suites.SelectMany(suite => suite
            .OrderBy(d => Order(d, seed), StringComparer.Ordinal)
            .Select(d => (Document: d, Ids: Encode(tokenizer, d.Text)))
            .Where(x => x.Ids.Length >= promptTokens)
            .DistinctBy(x => string.Join(',', x.Ids.Take(promptTokens)))
            .Take(numPrompts)
            .Select((x, i) => new PromptCase(suite.Key, string.Create(CultureInfo.InvariantCulture, $"{x.Document.Source}:{i}"), x.Ids[..promptTokens])))];
    }

    /// <summary>The first <paramref name="numPrompts"/> rows of each suite, whole.</summary>
    public static IReadOnlyList<PromptCase> FromFiles(IEnumerable<string> paths, HuggingFaceTokenizer tokenizer, int numPrompts) =>
        [.. paths.SelectMany(Rows)
            .GroupBy(r => r.Suite)
            .SelectMany(g => g.DistinctBy(r => r.Id).Take(numPrompts))
            .Select(r => new PromptCase(r.Suite, r.Id, Encode(tokenizer, r.Text)))
            .Where(p => p.Ids.Length > 0)];

    private static int[] Encode(HuggingFaceTokenizer tokenizer, string text) => [.. tokenizer.TemplatePrefix, .. tokenizer.Encode(text)];

    private static List<CorpusDocument> Heads(string folder, string split, int promptTokens)
    {
        // A prompt needs a few hundred characters; keeping and tokenizing whole books for them would be waste.
        var numCharacters = promptTokens * 32;
        return [.. CorpusArtifact.Read(folder, split).Select(d => d.Text.Length > numCharacters ? d with { Text = d.Text[..numCharacters] } : d)];
    }

    /// <summary>A few sources are suites themselves; many are told apart by how their names begin, or not at all.</summary>
    private static Func<string, string> SuiteNames(IReadOnlyList<string> sources)
    {
        if (sources.Count <= MaxSuites)
        {
            return Name;
        }

        var numPrefixes = sources.Select(Prefix).Distinct().Count();
        return numPrefixes is > 1 and <= MaxSuites ? s => Name(Prefix(s)) : _ => "corpus";
    }

    private static string Name(string suite) => suite is ReportPage.AllSuites or "" ? "corpus" : suite;

    private static string Prefix(string source) => source.IndexOfAny(['-', '_', '.']) is > 0 and var end ? source[..end] : source;

    private static string Order(CorpusDocument document, long seed) => Convert.ToHexStringLower(SHA256.HashData(
        Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{seed}\n{document.Text}"))));

    private static IEnumerable<(string Suite, string Id, string Text)> Rows(string path)
    {
        using Stream file = path.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(File.OpenRead(path), CompressionMode.Decompress) : File.OpenRead(path);
        using var reader = new StreamReader(file);
        var stem = Path.GetFileName(path).Split('.')[0];
        for (var number = 1; reader.ReadLine() is { } line; number++)
        {
            if (line.Length > 0)
            {
                yield return Row(line, stem, string.Create(CultureInfo.InvariantCulture, $"{path}:{number}"), number);
            }
        }
    }

    private static (string Suite, string Id, string Text) Row(string line, string stem, string where, int number)
    {
        const string Hint = "one object a line with prompt, text or turns, and if wanted id and suite";
        try
        {
            var row = JsonNode.Parse(line) as JsonObject;
            var text = (row?["prompt"] ?? row?["text"] ?? (row?["turns"] as JsonArray)?.FirstOrDefault())?.GetValue<string>()
                ?? throw new StageFailureException(FailureKind.Data, $"{where}: a line without prompt, text or turns.", Hint);
            var id = row?["id"]?.ToString() ?? number.ToString(CultureInfo.InvariantCulture);
            return (Name(row?["suite"]?.ToString() ?? stem), id, text);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new StageFailureException(FailureKind.Data, $"{where}: not a prompt: {e.Message}", Hint, e);
        }
    }
}
