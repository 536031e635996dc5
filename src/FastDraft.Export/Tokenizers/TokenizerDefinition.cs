using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Modeling.Tokenization;

namespace FastDraft.Export.Tokenizers;

/// <summary>A token that is found in a text before anything else is done to it.</summary>
internal sealed record AddedTokenDefinition(int Id, string Content, bool Special, bool StripLeft, bool StripRight, bool SingleWord);

/// <summary>
/// What a tokenizer.json says, for formats that carry a tokenizer of their own. It has been read by <see cref="HuggingFaceTokenizer"/>
/// first, so it is known to be well-formed byte pair encoding.
/// </summary>
internal sealed class TokenizerDefinition
{
    private readonly JsonObject _root;

    private TokenizerDefinition(string folder, JsonObject root, HuggingFaceTokenizer tokenizer, int vocabularySize)
    {
        _root = root;
        Folder = folder;
        Tokenizer = tokenizer;
        Tokens = new string?[vocabularySize];
        foreach (var (text, id) in Model["vocab"]!.AsObject())
        {
            Tokens[id!.GetValue<int>()] = text;
        }

        Added = [.. (root["added_tokens"] as JsonArray ?? []).Select(t => new AddedTokenDefinition(
            t!["id"]!.GetValue<int>(), t["content"]!.GetValue<string>(), Flag(t, "special"), Flag(t, "lstrip"), Flag(t, "rstrip"), Flag(t, "single_word")))];
        foreach (var token in Added)
        {
            Tokens[token.Id] = token.Content;
        }

        Merges = [.. Model["merges"]!.AsArray().Select(m => m is JsonArray pair
            ? (pair[0]!.GetValue<string>(), pair[1]!.GetValue<string>())
            : Pair(m!.GetValue<string>()))];
        var config = Path.Combine(folder, "tokenizer_config.json");
        ChatTemplate = File.Exists(config) && JsonNode.Parse(File.ReadAllText(config)) is JsonObject { } c && c["chat_template"] is JsonValue template
            && template.GetValueKind() == JsonValueKind.String ? template.GetValue<string>() : null;
    }

    public string Folder { get; }

    public HuggingFaceTokenizer Tokenizer { get; }

    /// <summary>The text of each id of the model's vocabulary, added tokens included; null where there is none.</summary>
    public string?[] Tokens { get; }

    /// <summary>In the order of their rank.</summary>
    public IReadOnlyList<(string Left, string Right)> Merges { get; }

    public IReadOnlyList<AddedTokenDefinition> Added { get; }

    public string? ChatTemplate { get; }

    public JsonNode? Normalizer => _root["normalizer"];

    public JsonNode? PreTokenizer => _root["pre_tokenizer"];

    public JsonNode? Decoder => _root["decoder"];

    /// <summary>Whether a character without a token becomes the tokens of its bytes, <c>&lt;0x0A&gt;</c>.</summary>
    public bool ByteFallback => Flag(Model, "byte_fallback");

    public bool IgnoreMerges => Flag(Model, "ignore_merges");

    public bool FuseUnknown => Flag(Model, "fuse_unk");

    public string? UnknownToken => Model["unk_token"]?.GetValue<string>();

    /// <summary>Whether tokens are written in the byte-level alphabet.</summary>
    public bool IsByteLevel => Steps(PreTokenizer, "pretokenizers").Any(s => TypeOf(s) == "ByteLevel") || Steps(Normalizer, "normalizers").Any(s => TypeOf(s) == "ByteLevel");

    private JsonObject Model => _root["model"]!.AsObject();

    /// <param name="folder">A model folder with tokenizer.json.</param>
    /// <param name="vocabularySize">Rows of the model's embedding.</param>
    /// <exception cref="TokenizerException">The file cannot be read.</exception>
    /// <exception cref="ExportException">There is none, or it has tokens that the model has not.</exception>
    public static TokenizerDefinition Load(string folder, int vocabularySize)
    {
        var path = Path.Combine(folder, "tokenizer.json");
        if (!File.Exists(path))
        {
            throw new ExportException($"'{folder}' has no tokenizer.json, and this format carries its own tokenizer.", "copy the tokenizer files of the model into the folder");
        }

        var tokenizer = HuggingFaceTokenizer.Load(folder);
        if (tokenizer.VocabularySize > vocabularySize)
        {
            throw new ExportException(
                $"'{path}' has ids up to {tokenizer.VocabularySize - 1}, the model of this folder has a vocabulary of {vocabularySize}: it is another model's tokenizer.",
                "the tokenizer.json that the model was trained with");
        }

        return new TokenizerDefinition(folder, JsonNode.Parse(File.ReadAllText(path), documentOptions: new JsonDocumentOptions { MaxDepth = 64 })!.AsObject(), tokenizer, vocabularySize);
    }

    /// <summary>The steps of a part: those of a Sequence, the part itself, or none.</summary>
    public static IEnumerable<JsonObject> Steps(JsonNode? part, string sequenceMember) => part switch
    {
        null => [],
        JsonObject o when TypeOf(o) == "Sequence" => o[sequenceMember]!.AsArray().SelectMany(n => Steps(n, sequenceMember)),
        _ => [part.AsObject()],
    };

    public static string TypeOf(JsonNode step) => step["type"]!.GetValue<string>();

    /// <summary>The literal text of a step's pattern; null where it is a regular expression.</summary>
    public static string? Literal(JsonNode step) => step["pattern"] switch
    {
        JsonObject pattern => pattern["String"]?.GetValue<string>(),
        var text => text?.GetValue<string>(),
    };

    public static bool Flag(JsonNode step, string name, bool otherwise = false) => step[name] is JsonValue value && value.GetValueKind() is JsonValueKind.True or JsonValueKind.False ? step[name]!.GetValue<bool>() : otherwise;

    private static (string Left, string Right) Pair(string merge)
    {
        // The space between the two is the first one after a character: a token may begin with one.
        var space = merge.IndexOf(' ', 1);
        return (merge[..space], merge[(space + 1)..]);
    }
}
