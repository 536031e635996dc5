using System.Text;
using System.Text.Json;

namespace FastDraft.Modeling.Tokenization;

/// <summary>The normalizer and pre-tokenizer parts of a tokenizer.json, compiled to delegates once.</summary>
internal static class TextPipeline
{
    private const string Gpt2Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    public static Func<string, string> Normalizer(JsonElement e, string where)
    {
        switch (TypeOf(e))
        {
            case null:
                return text => text;
            case "Sequence":
                var parts = e.GetProperty("normalizers").EnumerateArray().Select((n, i) => Normalizer(n, $"{where}.normalizers[{i}]")).ToArray();
                return text => parts.Aggregate(text, (t, part) => part(t));
            case "NFC" or "NFD" or "NFKC" or "NFKD":
                var form = TypeOf(e) switch
                {
                    "NFC" => NormalizationForm.FormC,
                    "NFD" => NormalizationForm.FormD,
                    "NFKC" => NormalizationForm.FormKC,
                    _ => NormalizationForm.FormKD,
                };
                return text => text.Normalize(form);
            case "Prepend":
                var prefix = e.GetProperty("prepend").GetString()!;
                return text => text.Length == 0 ? text : prefix + text;
            case "Lowercase":
                return text => text.ToLowerInvariant();
            case "Replace":
                var content = e.GetProperty("content").GetString()!;
                var pattern = e.GetProperty("pattern");
                if (pattern.TryGetProperty("String", out var literal))
                {
                    var old = literal.GetString()!;
                    return text => text.Replace(old, content, StringComparison.Ordinal);
                }

                var regex = new TextRegex(pattern.GetProperty("Regex").GetString()!);
                return text => regex.Replace(text, content);
            default:
                throw new TokenizerException($"{where}.type '{TypeOf(e)}' is not one that can be read.");
        }
    }

    public static Func<List<ReadOnlyMemory<char>>, List<ReadOnlyMemory<char>>> PreTokenizer(JsonElement e, string where, ref bool byteLevel)
    {
        switch (TypeOf(e))
        {
            case null:
                return pieces => pieces;
            case "Sequence":
                var parts = new List<Func<List<ReadOnlyMemory<char>>, List<ReadOnlyMemory<char>>>>();
                foreach (var child in e.GetProperty("pretokenizers").EnumerateArray())
                {
                    parts.Add(PreTokenizer(child, $"{where}.pretokenizers[{parts.Count}]", ref byteLevel));
                }

                return pieces => parts.Aggregate(pieces, (p, part) => part(p));
            case "ByteLevel":
                byteLevel = true;
                var addSpace = Flag(e, "add_prefix_space", true);
                var regex = Flag(e, "use_regex", true) ? new TextRegex(Gpt2Pattern) : null;
                return pieces => Each(pieces, piece =>
                {
                    var text = addSpace && piece.Span[0] != ' ' ? (" " + piece.ToString()).AsMemory() : piece;
                    return regex is null ? [(text, true)] : regex.Cut(text);
                });
            case "Split":
                var behavior = e.GetProperty("behavior").GetString();
                if (behavior is not ("Isolated" or "Removed"))
                {
                    throw new TokenizerException($"{where}.behavior '{behavior}' is not one that can be read.");
                }

                var pattern = e.GetProperty("pattern");
                var split = new TextRegex(pattern.TryGetProperty("String", out var literal)
                    ? System.Text.RegularExpressions.Regex.Escape(literal.GetString()!)
                    : pattern.GetProperty("Regex").GetString()!);
                var removed = behavior == "Removed";
                var invert = Flag(e, "invert", false);
                return pieces => Each(pieces, piece =>
                {
                    var cut = split.Cut(piece);
                    return removed ? cut.FindAll(p => p.IsMatch == invert) : cut;
                });
            case "Digits":
                var digits = new TextRegex(Flag(e, "individual_digits", false) ? @"\p{N}" : @"\p{N}+");
                return pieces => Each(pieces, digits.Cut);
            case "Metaspace":
                var mark = e.GetProperty("replacement").GetString()![0];
                var scheme = e.TryGetProperty("prepend_scheme", out var s) ? s.GetString() : Flag(e, "add_prefix_space", true) ? "always" : "never";
                if (scheme == "first")
                {
                    throw new TokenizerException($"{where}.prepend_scheme 'first' is not one that can be read.");
                }

                var cutter = Flag(e, "split", true) ? new TextRegex($"{mark}?[^{mark}]+|{mark}") : null;
                return pieces => Each(pieces, piece =>
                {
                    var text = piece.ToString().Replace(' ', mark);
                    text = scheme == "always" && text[0] != mark ? mark + text : text;
                    return cutter is null ? [(text.AsMemory(), true)] : cutter.Cut(text.AsMemory());
                });
            default:
                throw new TokenizerException($"{where}.type '{TypeOf(e)}' is not one that can be read.");
        }
    }

    public static string? TypeOf(JsonElement e) => e.ValueKind == JsonValueKind.Object ? e.GetProperty("type").GetString() : null;

    public static bool Flag(JsonElement e, string name, bool otherwise) =>
        e.TryGetProperty(name, out var value) && value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : otherwise;

    private static List<ReadOnlyMemory<char>> Each(
        List<ReadOnlyMemory<char>> pieces, Func<ReadOnlyMemory<char>, List<(ReadOnlyMemory<char> Piece, bool IsMatch)>> cut)
    {
        var result = new List<ReadOnlyMemory<char>>();
        foreach (var piece in pieces)
        {
            if (!piece.IsEmpty)
            {
                result.AddRange(cut(piece).Select(p => p.Piece));
            }
        }

        return result;
    }
}
