using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Tokenization;
using FastDraft.Stages.AlignVocabulary;

namespace FastDraft.Stages;

/// <summary>Reads of a model folder what is small (configuration, headers of the weights, tokenizer) and says whether its parts belong together.</summary>
internal static class TargetFolder
{
    private const string Expected = "a Hugging Face folder with config.json, *.safetensors and tokenizer.json";

    private static readonly string[] Embeddings = ["model.embed_tokens.weight", "embed_tokens.weight", "transformer.wte.weight"];

    /// <exception cref="StageFailureException">Config: there is no such folder. Data: its files are missing, damaged or of different models.</exception>
    public static void Check(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new StageFailureException(
                FailureKind.Config, File.Exists(folder) ? $"'{folder}' is a file, not a model folder" : $"model folder '{folder}' does not exist", Expected);
        }

        try
        {
            var config = DecoderConfig.Load(folder);
            using var weights = SafetensorsFolder.Open(folder);
            foreach (var name in Embeddings.Where(weights.Tensors.ContainsKey))
            {
                if (weights.Tensors[name].Shape is [var rows, ..] && rows != config.VocabularySize)
                {
                    throw new StageFailureException(
                        FailureKind.Data, $"'{folder}': the weights embed {rows} tokens, but vocab_size of config.json is {config.VocabularySize}", "config.json and the weights of one model");
                }
            }

            if (!File.Exists(Path.Join(folder, "tokenizer.json")))
            {
                throw new StageFailureException(FailureKind.Data, $"'{folder}' has no tokenizer.json", Expected);
            }

            TargetVocabulary.Check(folder, HuggingFaceTokenizer.Load(folder));
        }
        catch (CheckpointException e)
        {
            throw new StageFailureException(FailureKind.Data, e.Message, e.Hint ?? Expected, e);
        }
        catch (TokenizerException e)
        {
            throw new StageFailureException(FailureKind.Data, $"'{folder}': {e.Message}", "a Hugging Face folder with a BPE tokenizer.json", e);
        }
    }
}
