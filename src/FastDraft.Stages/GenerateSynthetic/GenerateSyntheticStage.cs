using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Tokenization;
using FastDraft.Stages.IngestCorpus;

namespace FastDraft.Stages.GenerateSynthetic;

/// <summary>The target writes the text on which the draft is aligned (FastDraft, section 3; methods.md 3.3).</summary>
public sealed class GenerateSyntheticStage : IStage
{
    /// <summary>Characters that hold a token's worth of any text; tokenizing a whole book for a prompt would be waste.</summary>
    private const int CharactersPerToken = 32;

    private const int TypicalCharactersPerToken = 4;

    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        "GenerateSynthetic", 1, "The target model continues prompts: greedy and at several temperatures.",
        [
            new("target", SettingType.Path, "Hugging Face folder of the target model.", Required: true, Content: PathContent.Model),
            new("prompts", SettingType.PathList, "jsonl files with prompt, text or turns; prompts come from the corpus when not given.", Content: PathContent.Text),
            new("numRows", SettingType.Integer, "Rows to write.", 1024, Minimum: 1),
            new("promptTokens", SettingType.Integer, "Tokens of each prompt.", 32, Minimum: 1, Unit: "tokens"),
            new("maxNewTokens", SettingType.Integer, "Tokens written after each prompt, at most.", 224, Minimum: 1, Unit: "tokens"),
            new("temperatures", SettingType.TextList, "Sampling temperatures, in turn; 0 is greedy.", new JsonArray("0", "0.6", "0.8", "1.0")),
            new("maxRepetition", SettingType.Number, "Share of repeated 4-grams above which a text that reached maxNewTokens is dropped; 1 keeps all. A draft that is to follow its target greedily also meets its loops.", 0.3, Minimum: 0, Maximum: 1),
            new("batchSize", SettingType.Integer, "Rows generated at a time; 64 on cpu and 1024 on cuda when not given.", Minimum: 1, Unit: "rows"),
            new("validationFraction", SettingType.Number, "Share of rows kept to decide when fine-tuning stops.", 0.05, Minimum: 0, Maximum: 0.5),
            new("seed", SettingType.Integer, "Seed of sampling.", 1),
            TensorStages.Accelerator,
        ],
        [new("corpus", ArtifactKind.Corpus, "Where prompts are taken from.")],
        [new("synthetic", ArtifactKind.SyntheticCorpus, "What the target wrote, with provenance.")]);

    public Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var targetFolder = context.RequiredText("target");
        var tokenizer = TensorStages.LoadTokenizer(targetFolder);
        using var target = TensorStages.LoadForDecoding(context, targetFolder, TensorStages.StoredType(targetFolder));
        var numRows = (int)context.Integer("numRows")!.Value;
        var prompts = Prompts(context, tokenizer, (int)context.Integer("promptTokens")!.Value, (int)context.Integer("maxNewTokens")!.Value, numRows);
        if (prompts.Count == 0)
        {
            throw new StageFailureException(FailureKind.Data, "No document is long enough to give a prompt.", "a larger corpus, or fewer promptTokens");
        }

        if (prompts.Count < numRows)
        {
            context.Events.Log($"{numRows} rows wanted, {prompts.Count} prompts found.", StageLogLevel.Warning);
        }

        var options = new SyntheticGenerationOptions(
            TensorStages.WeightsDigest(targetFolder),
            (int)context.Integer("maxNewTokens")!.Value,
            Temperatures(context),
            context.Number("maxRepetition")!.Value,
            TensorStages.Reading(() => DecoderConfig.Load(targetFolder)).EosTokenIds,
            (int)(context.Integer("batchSize") ?? (context.Text("accelerator") is "cuda" ? 1024 : 64)),
            unchecked((ulong)context.Integer("seed")!.Value));
        var result = SyntheticGeneration.Run(target, prompts, options, context.ResumeFolder, done => context.Events.Progress(done, prompts.Count, "rows"), cancellationToken);
        Write(context, result, options);
        return Task.CompletedTask;
    }

    private static void Write(StageContext context, SyntheticGenerationResult result, SyntheticGenerationOptions options)
    {
        var folder = context.Output("synthetic");
        var numValidation = (int)(result.Rows.Count * context.Number("validationFraction")!.Value);

        // Held-out rows lie evenly among all rows, so that they mix sources and temperatures as the training rows do.
        var isHeldOut = EvenSubset.Of(result.Rows.Count, numValidation);
        SyntheticCorpus.Write(folder, "train", result.Rows.Where((_, i) => !isHeldOut(i)));
        SyntheticCorpus.Write(folder, "validation", result.Rows.Where((_, i) => isHeldOut(i)));
        var numTokens = result.Rows.Sum(r => (long)r.ResponseIds.Length);
        File.WriteAllText(Path.Join(folder, "manifest.json"), JsonSerializer.Serialize(new
        {
            format = "fastdraft-synthetic-corpus/1",
            target = options.ModelDigest,
            numInput = result.NumInput,
            numRows = result.Rows.Count,
            numDropped = result.NumDropped,
            numSkipped = result.NumSkipped,
            numTrain = result.Rows.Count - numValidation,
            numValidation,
            numTokens,
            options.Temperatures,
            options.MaxRepetition,
            options.MaxNewTokens,
            options.Seed,
        }));
        context.Events.Metric("synthetic_rows", result.Rows.Count, 0);
        context.Events.Metric("synthetic_tokens", numTokens, 0);
        context.Events.Log($"{result.Rows.Count} rows, {numTokens} tokens written; {result.NumDropped} dropped for repetition, {result.NumSkipped} skipped as repeated prompts.");
    }

    private static List<double> Temperatures(StageContext context) => [.. context.TextList("temperatures").Select(text =>
        double.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out var value) && value >= 0
            ? value
            : throw new StageFailureException(FailureKind.Config, $"temperatures: '{text}' is not a temperature.", "[\"0\", \"0.6\"]"))];

    /// <summary>The first tokens of corpus documents and of further places in them, or whole prompts of the given files; the first document of a prompt keeps it.</summary>
    private static List<int[]> Prompts(StageContext context, HuggingFaceTokenizer tokenizer, int promptTokens, int maxNewTokens, int numRows)
    {
        var files = context.TextList("prompts");
        if (files.Count > 0)
        {
            return [.. files.SelectMany(CorpusSources.Expand).SelectMany(PromptTexts).Select(text => tokenizer.Encode(text, addSpecialTokens: true)).Where(ids => ids.Length > 0).Take(numRows)];
        }

        // First the head of every document, then of each what begins one row further on, until there are enough or no document is long enough.
        var prompts = new List<int[]>();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var (window, stride) = (promptTokens * CharactersPerToken, (promptTokens + maxNewTokens) * TypicalCharactersPerToken);
        for (long start = 0, found = -1; found != prompts.Count && prompts.Count < numRows; start += stride)
        {
            found = prompts.Count;
            foreach (var document in CorpusArtifact.Read(context.Input("corpus"), "train").Where(d => d.Text.Length > start))
            {
                var from = start == 0 ? 0 : document.Text.AsSpan((int)start).IndexOfAny(' ', '\n') is >= 0 and var gap ? (int)start + gap : document.Text.Length;
                int[] ids = [.. tokenizer.TemplatePrefix, .. tokenizer.Encode(document.Text.Substring(from, Math.Min(window, document.Text.Length - from)))];
                if (ids.Length >= promptTokens && seen.Add(string.Join(',', ids.AsSpan(0, promptTokens).ToArray())))
                {
                    prompts.Add(ids[..promptTokens]);
                    if (prompts.Count == numRows)
                    {
                        break;
                    }
                }
            }
        }

        return prompts;
    }

    private static IEnumerable<string> PromptTexts(string path)
    {
        foreach (var line in File.ReadLines(path).Where(l => l.Length > 0))
        {
            JsonNode? row;
            try
            {
                row = JsonNode.Parse(line);
            }
            catch (JsonException e)
            {
                throw new StageFailureException(FailureKind.Data, $"{path} has a line that is not JSON: {e.Message}", "one object a line with prompt, text or turns");
            }

            yield return (row?["prompt"] ?? row?["text"] ?? row?["turns"]?[0])?.GetValue<string>()
                ?? throw new StageFailureException(FailureKind.Data, $"{path} has a line without prompt, text or turns.", "one object a line with prompt, text or turns");
        }
    }
}
