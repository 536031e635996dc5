using System.Text.Json;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Tokenization;

namespace FastDraft.Stages.AlignVocabulary;

/// <summary>The target's vocabulary as config.json, generation_config.json and the tokenizer agree on it.</summary>
internal sealed record TargetVocabulary(int Size, int? Bos, int Eos)
{
    private const string Hint = "The tokenizer may be another model's: use the tokenizer.json published with this model.";

    /// <exception cref="StageFailureException">Data: the files disagree or cannot be read.</exception>
    public static TargetVocabulary Check(string folder, HuggingFaceTokenizer tokenizer)
    {
        try
        {
            using var config = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "config.json")));
            var size = config.RootElement.GetProperty("vocab_size").GetInt32();
            if (tokenizer.VocabularySize > size)
            {
                throw new StageFailureException(
                    FailureKind.Data, $"{folder}: the tokenizer has ids up to {tokenizer.VocabularySize - 1}, but vocab_size of config.json is {size}.", Hint);
            }

            // Embeddings are padded by some hundred rows, never doubled.
            if (tokenizer.VocabularySize < size / 2)
            {
                throw new StageFailureException(
                    FailureKind.Data, $"{folder}: the tokenizer has {tokenizer.VocabularySize} tokens, but vocab_size of config.json is {size}.", Hint);
            }

            var (bos, eos) = (Ids(config.RootElement, "bos_token_id"), Ids(config.RootElement, "eos_token_id"));
            Agree(folder, "bos_token_id", bos, tokenizer.BosTokenId, "tokenizer");
            Agree(folder, "eos_token_id", eos, tokenizer.EosTokenId, "tokenizer");
            var generation = Path.Combine(folder, "generation_config.json");
            if (File.Exists(generation))
            {
                using var document = JsonDocument.Parse(File.ReadAllBytes(generation));
                var ids = Ids(document.RootElement, "eos_token_id");
                eos = eos.Length == 0 ? ids : eos;
                Agree(folder, "eos_token_id", ids.Length == 0 ? eos : ids, eos.Length == 0 ? null : eos[0], "config.json");
            }

            int? end = eos.Length > 0 ? eos[0] : tokenizer.EosTokenId;
            int? begin = bos.Length > 0 ? bos[0] : tokenizer.BosTokenId;
            if (end is not { } last || last < 0 || last >= size)
            {
                throw new StageFailureException(FailureKind.Data, $"{folder}: eos_token_id {end?.ToString() ?? "(none)"} is not in the vocabulary of {size}.", Hint);
            }

            return new TargetVocabulary(size, begin, last);
        }
        catch (Exception e) when (e is JsonException or IOException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new StageFailureException(FailureKind.Data, $"{folder}: the model's config files cannot be read: {e.Message}", "Point target at a Hugging Face folder.", e);
        }
    }

    private static void Agree(string folder, string name, int[] configured, int? other, string otherName)
    {
        if (configured.Length > 0 && other is { } id && !configured.Contains(id))
        {
            throw new StageFailureException(FailureKind.Data, $"{folder}: {name} is {string.Join(", ", configured)}, but {id} in the {otherName}.", Hint);
        }
    }

    private static int[] Ids(JsonElement root, string name) => !root.TryGetProperty(name, out var value) ? [] : value.ValueKind switch
    {
        JsonValueKind.Number => [value.GetInt32()],
        JsonValueKind.Array => [.. value.EnumerateArray().Select(v => v.GetInt32())],
        _ => [],
    };
}
