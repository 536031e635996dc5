using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Export.Tokenizers;
using FastDraft.Modeling.Models;

namespace FastDraft.Export.Gguf;

/// <summary>The tokenizer of a model as GGUF metadata, in the two kinds that llama.cpp has for byte pair encoding.</summary>
internal static class GgufTokenizer
{
    private const string Gpt2Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    private const string Llama3Pattern = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    private const string Qwen2Pattern = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private const string Metaspace = "\u2581";

    // Token types of the format.
    private const int Normal = 1, Unknown = 2, Control = 3, UserDefined = 4, Unused = 5, Byte = 6;

    /// <exception cref="ExportException">llama.cpp would cut texts otherwise than this tokenizer.</exception>
    public static void Add(GgufFile file, TokenizerDefinition tokenizer, DecoderConfig config)
    {
        if (tokenizer.IsByteLevel)
        {
            file.Add("tokenizer.ggml.model", "gpt2");
            file.Add("tokenizer.ggml.pre", PreTokenizer(tokenizer));
            file.Add("tokenizer.ggml.merges", [.. tokenizer.Merges.Select(m => $"{m.Left} {m.Right}")]);
        }
        else
        {
            file.Add("tokenizer.ggml.model", "llama");
            file.Add("tokenizer.ggml.pre", "default");
            file.Add("tokenizer.ggml.scores", Scores(tokenizer));
            file.Add("tokenizer.ggml.add_space_prefix", PrependsSpace(tokenizer));
        }

        file.Add("tokenizer.ggml.tokens", [.. tokenizer.Tokens.Select((t, id) => t ?? string.Create(CultureInfo.InvariantCulture, $"[UNUSED{id}]"))]);
        file.Add("tokenizer.ggml.token_type", Types(tokenizer));
        var first = tokenizer.Tokenizer.TemplatePrefix;
        var bos = config.BosTokenId ?? tokenizer.Tokenizer.BosTokenId;
        if (first.Count > 1 || (first.Count == 1 && first[0] != (bos ??= first[0])))
        {
            throw Unsupported(tokenizer, $"puts the ids {string.Join(", ", first)} before a text, where llama.cpp can only put one beginning-of-sequence token");
        }

        if (bos is { } begin)
        {
            file.Add("tokenizer.ggml.bos_token_id", begin);
        }

        if (config.EosTokenIds.Count > 0 || tokenizer.Tokenizer.EosTokenId is not null)
        {
            file.Add("tokenizer.ggml.eos_token_id", config.EosTokenIds.Count > 0 ? config.EosTokenIds[0] : tokenizer.Tokenizer.EosTokenId!.Value);
        }

        if (tokenizer.UnknownToken is { } unknown)
        {
            file.Add("tokenizer.ggml.unknown_token_id", tokenizer.Tokenizer.TokenToId(unknown)!.Value);
        }

        file.Add("tokenizer.ggml.add_bos_token", first.Count == 1);
        file.Add("tokenizer.ggml.add_eos_token", false);
        if (tokenizer.ChatTemplate is { } template)
        {
            file.Add("tokenizer.chat_template", template);
        }
    }

    /// <summary>llama.cpp's name for the way a text is cut before merging: each name stands for fixed patterns.</summary>
    private static string PreTokenizer(TokenizerDefinition tokenizer)
    {
        var steps = TokenizerDefinition.Steps(tokenizer.PreTokenizer, "pretokenizers").ToList();
        var last = steps.Count == 0 ? null : steps[^1];
        if (last is null || TokenizerDefinition.TypeOf(last) != "ByteLevel" || TokenizerDefinition.Flag(last, "add_prefix_space", otherwise: true)
            || TokenizerDefinition.Steps(tokenizer.Normalizer, "normalizers").Any(s => TokenizerDefinition.TypeOf(s) != "NFC"))
        {
            throw Unsupported(tokenizer, "normalizes or cuts texts in a way that llama.cpp has no name for");
        }

        var patterns = steps[..^1].ConvertAll(Pattern);
        if (TokenizerDefinition.Flag(last, "use_regex", otherwise: true))
        {
            patterns.Add(Gpt2Pattern);
        }

        return (patterns, tokenizer.IgnoreMerges) switch
        {
            ([Gpt2Pattern], false) => "gpt-2",
            ([@"\p{N}", Gpt2Pattern], false) => "smollm",
            ([Llama3Pattern], true) => "llama-bpe",
            ([Llama3Pattern], false) => "smaug-bpe",
            ([Qwen2Pattern], false) => "qwen2",
            _ => throw Unsupported(tokenizer, $"cuts texts by {string.Join(" then ", patterns)}{(tokenizer.IgnoreMerges ? " and ignores merges" : "")}, which llama.cpp has no name for"),
        };
    }

    private static string Pattern(JsonObject step) => TokenizerDefinition.TypeOf(step) switch
    {
        "Split" when step["behavior"]?.GetValue<string>() == "Isolated" && !TokenizerDefinition.Flag(step, "invert") => step["pattern"]?["Regex"]?.GetValue<string>() ?? "a literal",
        "Digits" => TokenizerDefinition.Flag(step, "individual_digits") ? @"\p{N}" : @"\p{N}+",
        var other => other,
    };

    // A token's score is what it merges by: less than 0, the later the merge the less.
    private static float[] Scores(TokenizerDefinition tokenizer)
    {
        var scores = new float[tokenizer.Tokens.Length];
        var made = new HashSet<int>();
        for (var rank = 0; rank < tokenizer.Merges.Count; rank++)
        {
            var (left, right) = tokenizer.Merges[rank];
            if (tokenizer.Tokenizer.TokenToId(left + right) is { } id && made.Add(id))
            {
                scores[id] = -rank;
            }
        }

        // llama.cpp joins any two neighbours whose union is a token; one that no merge makes comes last.
        for (var id = 0; id < scores.Length; id++)
        {
            if (!made.Contains(id) && tokenizer.Tokens[id] is { Length: > 1 })
            {
                scores[id] = -tokenizer.Merges.Count - 1;
            }
        }

        return scores;
    }

    private static bool PrependsSpace(TokenizerDefinition tokenizer)
    {
        var (prepends, replaces) = (false, false);
        foreach (var step in TokenizerDefinition.Steps(tokenizer.Normalizer, "normalizers").Concat(TokenizerDefinition.Steps(tokenizer.PreTokenizer, "pretokenizers")))
        {
            switch (TokenizerDefinition.TypeOf(step))
            {
                case "Prepend" when step["prepend"]!.GetValue<string>() == Metaspace:
                    prepends = true;
                    break;
                case "Replace" when TokenizerDefinition.Literal(step) == " " && step["content"]!.GetValue<string>() == Metaspace:
                    replaces = true;
                    break;
                case "Metaspace" when step["replacement"]!.GetValue<string>() == Metaspace:
                    replaces = true;
                    prepends |= (step["prepend_scheme"]?.GetValue<string>() ?? (TokenizerDefinition.Flag(step, "add_prefix_space", otherwise: true) ? "always" : "never")) != "never";
                    break;
                default:
                    throw Unsupported(tokenizer, $"has a step '{TokenizerDefinition.TypeOf(step)}' that llama.cpp's SentencePiece tokenizer has not");
            }
        }

        return replaces && tokenizer.ByteFallback
            ? prepends
            : throw Unsupported(tokenizer, "is neither byte-level nor of SentencePiece's kind with byte fallback");
    }

    private static int[] Types(TokenizerDefinition tokenizer)
    {
        var added = tokenizer.Added.ToDictionary(t => t.Id, t => t.Special);
        return [.. tokenizer.Tokens.Select((text, id) => text switch
        {
            null => Unused,
            _ when text == tokenizer.UnknownToken => Unknown,
            _ when added.TryGetValue(id, out var special) => (special ? Control : UserDefined),
            ['<', '0', 'x', _, _, '>'] when tokenizer.ByteFallback => Byte,
            _ => Normal,
        })];
    }

    private static ExportException Unsupported(TokenizerDefinition tokenizer, string why) => new(
        $"The tokenizer of '{tokenizer.Folder}' cannot be written as GGUF: it {why}.",
        "--format openvino or --format onnx; a GGUF with a wrong tokenizer would tokenize texts otherwise than the model was trained with");
}
