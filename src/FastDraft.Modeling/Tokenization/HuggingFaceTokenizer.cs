using System.Security.Cryptography;
using System.Text.Json;

namespace FastDraft.Modeling.Tokenization;

/// <summary>
/// The byte pair encoding that a Hugging Face tokenizer.json describes, exactly: added tokens, normalizer, pre-tokenizer, merges,
/// template and decoder. A part of the file that is not known is an error at load. Ids are a function of the file and the text alone: no
/// table of the machine takes part. Safe for concurrent use.
/// </summary>
public sealed class HuggingFaceTokenizer
{
    private const int MaxHoles = 1 << 20;

    private const long MaxFileBytes = 256L << 20;

    private readonly BytePairModel model;
    private readonly AddedTokens rawTokens;
    private readonly AddedTokens normalizedTokens;
    private readonly Func<string, string> normalize;
    private readonly CutPieces preTokenize;
    private readonly Func<List<string>, List<string>> decode;
    private readonly Dictionary<string, int> ids;
    private readonly string?[] tokens;
    private readonly HashSet<int> specialIds;
    private readonly List<int> prefix = [];
    private readonly List<int> suffix = [];
    private readonly bool cutAtMetaspace;

    private HuggingFaceTokenizer(JsonElement root, string sha256)
    {
        Sha256 = sha256;
        var byteLevel = false;
        normalize = TextNormalizer.Build(Part(root, "normalizer"), "normalizer");
        preTokenize = PreTokenizer.Build(Part(root, "pre_tokenizer"), "pre_tokenizer", ref byteLevel);
        decode = TokenDecoder.Build(Part(root, "decoder"), "decoder");
        model = new BytePairModel(root.GetProperty("model"), byteLevel);
        cutAtMetaspace = !byteLevel && model.SplitsBeforeMetaspace;
        var added = AddedTokens.Read(root);
        rawTokens = new AddedTokens([.. added.Where(t => !t.Normalized)]);
        normalizedTokens = new AddedTokens([.. added.Where(t => t.Normalized).Select(t => t with { Content = normalize(t.Content) })]);
        specialIds = [.. added.Where(t => t.Special).Select(t => t.Id)];
        ids = new Dictionary<string, int>(model.Vocabulary, StringComparer.Ordinal);
        foreach (var token in added)
        {
            ids[token.Content] = token.Id;
        }

        if (ids.Count == 0 || ids.Values.Min() < 0)
        {
            throw new TokenizerException("model.vocab is empty or has a negative id.");
        }

        // Holes are legal and some real vocabularies have thousands; the table of texts must not be as large as a hostile id.
        if (ids.Values.Max() > (4L * ids.Count) + MaxHoles)
        {
            throw new TokenizerException($"the largest id is {ids.Values.Max()}, but there are only {ids.Count} tokens.");
        }

        tokens = new string?[ids.Values.Max() + 1];
        foreach (var (text, id) in ids)
        {
            tokens[id] = text;
        }

        ReadTemplate(Part(root, "post_processor"), "post_processor");
    }

    /// <summary>The largest id, added tokens included, plus 1.</summary>
    public int VocabularySize => tokens.Length;

    /// <summary>SHA-256 of the bytes of tokenizer.json, 64 lowercase hex digits.</summary>
    public string Sha256 { get; }

    /// <summary>SHA-256 of the tokens in id order: equal for files that differ in their layout only.</summary>
    public string VocabularyDigest()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var token in tokens)
        {
            hash.AppendData(System.Text.Encoding.UTF8.GetBytes((token ?? string.Empty) + "\0"));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>From tokenizer_config.json, else the template's first token.</summary>
    public int? BosTokenId { get; private set; }

    /// <summary>From tokenizer_config.json.</summary>
    public int? EosTokenId { get; private set; }

    /// <summary>Reads tokenizer.json (or the folder with it) and, where present, the tokenizer_config.json beside it.</summary>
    /// <exception cref="TokenizerException">The file is missing, malformed, or asks for something that cannot be done exactly.</exception>
    public static HuggingFaceTokenizer Load(string folderOrTokenizerJson)
    {
        var path = Directory.Exists(folderOrTokenizerJson) ? Path.Combine(folderOrTokenizerJson, "tokenizer.json") : folderOrTokenizerJson;
        try
        {
            if (new FileInfo(path) is { Exists: true, Length: > MaxFileBytes and var length })
            {
                throw new TokenizerException($"the file has {length} bytes; at most {MaxFileBytes} are read.");
            }

            var bytes = File.ReadAllBytes(path);
            using var document = JsonDocument.Parse(bytes, new JsonDocumentOptions { MaxDepth = 64 });
            var tokenizer = new HuggingFaceTokenizer(document.RootElement, Convert.ToHexStringLower(SHA256.HashData(bytes)));
            tokenizer.ReadConfig(Path.Combine(Path.GetDirectoryName(Path.GetFullPath(path))!, "tokenizer_config.json"));
            return tokenizer;
        }
        catch (TokenizerException e)
        {
            throw new TokenizerException($"{path}: {e.Message}", e);
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or IOException
            or UnauthorizedAccessException or IndexOutOfRangeException or OverflowException or ArgumentException)
        {
            throw new TokenizerException($"{path}: not a readable tokenizer.json: {e.Message}", e);
        }
    }

    /// <summary>The ids of a text; with <paramref name="addSpecialTokens"/> also those of the file's template.</summary>
    public int[] Encode(string text, bool addSpecialTokens = false)
    {
        var result = new List<int>((text.Length / 3) + 4);
        if (addSpecialTokens)
        {
            result.AddRange(prefix);
        }

        var startsText = true;
        rawTokens.Cut(text, (stretch, token) =>
        {
            if (token is not null)
            {
                result.Add(token.Id);
                startsText = false;
                return;
            }

            normalizedTokens.Cut(normalize(stretch), (plain, inner) =>
            {
                if (inner is not null)
                {
                    result.Add(inner.Id);
                    startsText = false;
                    return;
                }

                foreach (var piece in preTokenize([plain.AsMemory()], startsText))
                {
                    EncodePiece(piece.Span, result);
                }

                startsText = false;
            });
        });
        if (addSpecialTokens)
        {
            result.AddRange(suffix);
        }

        return [.. result];
    }

    /// <summary>The text of ids. An id without a token gives no text, as in the reference library.</summary>
    public string Decode(IReadOnlyList<int> ids, bool skipSpecialTokens = true)
    {
        var texts = new List<string>(ids.Count);
        foreach (var id in ids)
        {
            if (id >= 0 && id < tokens.Length && tokens[id] is { } text && !(skipSpecialTokens && specialIds.Contains(id)))
            {
                texts.Add(text);
            }
        }

        return string.Concat(decode(texts));
    }

    /// <exception cref="ArgumentOutOfRangeException">No token has this id.</exception>
    public string IdToToken(int id) => id >= 0 && id < tokens.Length && tokens[id] is { } text
        ? text
        : throw new ArgumentOutOfRangeException(nameof(id), id, "No token has this id.");

    public int? TokenToId(string token) => ids.TryGetValue(token, out var id) ? id : null;

    /// <summary>Ids that the template puts before a text, such as BOS.</summary>
    public IReadOnlyList<int> TemplatePrefix => prefix;

    /// <summary>Ids that the template puts after a text.</summary>
    public IReadOnlyList<int> TemplateSuffix => suffix;

    private static JsonElement Part(JsonElement root, string name) => root.TryGetProperty(name, out var part) ? part : default;

    private void EncodePiece(ReadOnlySpan<char> piece, List<int> result)
    {
        while (cutAtMetaspace && !piece.IsEmpty)
        {
            var end = 1;
            while (end < piece.Length && !(piece[end] == '\u2581' && piece[end - 1] != '\u2581'))
            {
                end++;
            }

            model.Encode(piece[..end], result);
            piece = piece[end..];
        }

        if (!piece.IsEmpty)
        {
            model.Encode(piece, result);
        }
    }

    private void ReadTemplate(JsonElement e, string where)
    {
        switch (TokenizerJson.TypeOf(e))
        {
            case null or "ByteLevel":
                break;
            case "Sequence":
                var i = 0;
                foreach (var child in e.GetProperty("processors").EnumerateArray())
                {
                    ReadTemplate(child, $"{where}.processors[{i++}]");
                }

                break;
            case "TemplateProcessing":
                var target = prefix;
                foreach (var item in e.GetProperty("single").EnumerateArray())
                {
                    if (item.TryGetProperty("SpecialToken", out var special))
                    {
                        var name = special.GetProperty("id").GetString()!;
                        target.AddRange(e.GetProperty("special_tokens").GetProperty(name).GetProperty("ids").EnumerateArray().Select(n => n.GetInt32()));
                    }
                    else
                    {
                        target = suffix;
                    }
                }

                break;
            case "BertProcessing" or "RobertaProcessing":
                prefix.Add(e.GetProperty("cls")[1].GetInt32());
                suffix.Add(e.GetProperty("sep")[1].GetInt32());
                break;
            default:
                throw TokenizerJson.Unknown(e, where);
        }
    }

    private void ReadConfig(string path)
    {
        BosTokenId = prefix.Count > 0 ? prefix[0] : null;
        if (!File.Exists(path))
        {
            return;
        }

        using var document = JsonDocument.Parse(File.ReadAllBytes(path));
        BosTokenId = Named("bos_token") ?? BosTokenId;
        EosTokenId = Named("eos_token");

        int? Named(string name)
        {
            var value = Part(document.RootElement, name);
            value = value.ValueKind == JsonValueKind.Object ? value.GetProperty("content") : value;
            return value.ValueKind != JsonValueKind.String ? null : TokenToId(value.GetString()!)
                ?? throw new TokenizerException($"{name} '{value.GetString()}' of tokenizer_config.json is not a token.");
        }
    }
}
