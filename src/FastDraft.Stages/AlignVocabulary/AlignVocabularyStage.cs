using System.Text;
using System.Text.Json;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Tokenization;
using FastDraft.Modeling.Training;
using FastDraft.Stages.IngestCorpus;

namespace FastDraft.Stages.AlignVocabulary;

/// <summary>Gives the draft model the target's vocabulary and writes the corpus as token shards of it.</summary>
public sealed class AlignVocabularyStage : IStage
{
    private const int BatchSize = 256;

    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        "AlignVocabulary", 1, "Takes over the target's vocabulary and tokenizes the corpus with it.",
        [new("target", SettingType.Path, "Hugging Face folder of the target model.", Required: true, Content: PathContent.Model)],
        [new("corpus", ArtifactKind.Corpus, "The documents.")],
        [
            new("tokenizer", ArtifactKind.Tokenizer, "The target's tokenizer."),
            new("vocabulary", ArtifactKind.VocabularyMap, "Draft id to target id: the identity."),
            new("tokens", ArtifactKind.TokenShards, "The tokenized corpus."),
        ]);

    public Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var target = context.RequiredText("target");
        if (!Directory.Exists(target))
        {
            throw new StageFailureException(FailureKind.Config, $"Setting 'target': there is no folder '{target}'.", "Point target at a Hugging Face folder.");
        }

        var tokenizer = LoadTokenizer(target);
        var special = TargetVocabulary.Check(target, tokenizer);
        var seen = new bool[special.Size];
        var statistics = new Dictionary<string, object>();
        long numDone = 0;
        using (var writer = new TokenShardWriter(context.Output("tokens"), special.Size, tokenizer.Sha256))
        {
            foreach (var split in new[] { "train", "validation" })
            {
                long numTokens = 0, numBytes = 0;
                foreach (var batch in CorpusArtifact.Read(context.Input("corpus"), split).Chunk(BatchSize))
                {
                    var encoded = batch.AsParallel().AsOrdered().WithDegreeOfParallelism(2).WithCancellation(cancellationToken)
                        .Select(d => (int[])[.. tokenizer.TemplatePrefix, .. tokenizer.Encode(d.Text), special.Eos]).ToList();
                    foreach (var ids in encoded)
                    {
                        writer.Append(split, ids);
                        numTokens += ids.Length;
                        Array.ForEach(ids, id => seen[id] = true);
                    }

                    numBytes += batch.Sum(d => (long)Encoding.UTF8.GetByteCount(d.Text));
                    context.Events.Progress(numDone += batch.Length, null, "documents");
                }

                statistics[split] = new { numTokens, numBytes, bytesPerToken = numTokens == 0 ? 0 : (double)numBytes / numTokens };
                context.Events.Log($"{split}: {numTokens} tokens of {numBytes} bytes.");
            }

            writer.Complete();
        }

        var numSeen = seen.Count(s => s);
        var folder = context.Output("tokenizer");
        File.Copy(Path.Combine(target, "tokenizer.json"), Path.Combine(folder, "tokenizer.json"), true);
        if (File.Exists(Path.Combine(target, "tokenizer_config.json")))
        {
            File.Copy(Path.Combine(target, "tokenizer_config.json"), Path.Combine(folder, "tokenizer_config.json"), true);
        }

        Write(folder, "manifest.json", new { sha256 = tokenizer.Sha256, vocabularySize = special.Size, bosTokenId = special.Bos, eosTokenId = special.Eos });
        Write(context.Output("vocabulary"), "map.json", new
        {
            format = "fastdraft-vocab-map/1",
            kind = "identity",
            tokenizerDigest = tokenizer.Sha256,
            draftVocabularySize = special.Size,
            targetVocabularySize = special.Size,
            bosTokenId = special.Bos,
            eosTokenId = special.Eos,
            coverage = numSeen,
            keptMass = 1.0,
            statistics,
        });
        context.Events.Metric("coverage", (double)numSeen / special.Size, 0);
        return Task.CompletedTask;
    }

    private static HuggingFaceTokenizer LoadTokenizer(string target)
    {
        try
        {
            return HuggingFaceTokenizer.Load(target);
        }
        catch (TokenizerException e)
        {
            throw new StageFailureException(FailureKind.Data, e.Message, "Point target at a Hugging Face folder with a BPE tokenizer.json.", e);
        }
    }

    private static void Write(string folder, string name, object content) =>
        File.WriteAllText(Path.Combine(folder, name), JsonSerializer.Serialize(content));
}
