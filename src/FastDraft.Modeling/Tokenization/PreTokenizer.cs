using System.Text.Json;

namespace FastDraft.Modeling.Tokenization;

/// <summary>Cuts the pieces of a text further; <c>startsText</c> says whether the first piece begins the whole text.</summary>
internal delegate List<ReadOnlyMemory<char>> CutPieces(List<ReadOnlyMemory<char>> pieces, bool startsText);

/// <summary>The pre-tokenizer part of a tokenizer.json, compiled to a delegate once.</summary>
internal static class PreTokenizer
{
    private const string Gpt2Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    // Any of Unicode's punctuation, and the ASCII symbols that BERT counted as such.
    private const string Punctuation = @"[\p{P}$+<=>^`|~]";

    /// <exception cref="TokenizerException">A type that cannot be done exactly, named with its place.</exception>
    public static CutPieces Build(JsonElement e, string where, ref bool byteLevel, bool isLast = true)
    {
        switch (TokenizerJson.TypeOf(e))
        {
            case null:
                return (pieces, _) => pieces;
            case "Sequence":
                var parts = new List<CutPieces>();
                var children = e.GetProperty("pretokenizers");
                foreach (var child in children.EnumerateArray())
                {
                    parts.Add(Build(child, $"{where}.pretokenizers[{parts.Count}]", ref byteLevel, isLast && parts.Count + 1 == children.GetArrayLength()));
                }

                return (pieces, startsText) => parts.Aggregate(pieces, (p, part) => part(p, startsText));
            case "ByteLevel":
                // The model does the mapping to bytes, which saves a string a word, unless a later part is to see the mapped text.
                byteLevel = isLast;
                var addSpace = TokenizerJson.Flag(e, "add_prefix_space", true);
                var regex = TokenizerJson.Flag(e, "use_regex", true) ? new TextRegex(Gpt2Pattern) : null;
                return (pieces, _) => Each(pieces, (piece, _) =>
                {
                    var text = addSpace && piece.Span[0] != ' ' ? (" " + piece.ToString()).AsMemory() : piece;
                    var cut = regex is null ? [(text, true)] : regex.Cut(text);
                    return isLast ? cut : cut.ConvertAll(p => (ByteLevelAlphabet.Map(p.Piece.Span).AsMemory(), p.IsMatch));
                });
            case "Split":
                return Split(TokenizerJson.Pattern(e), TokenizerJson.Text(e, "behavior"), TokenizerJson.Flag(e, "invert", false), where);
            case "Punctuation":
                return Split(new TextRegex(Punctuation), TokenizerJson.Text(e, "behavior") ?? "Isolated", false, where);
            case "Digits":
                return Split(new TextRegex(TokenizerJson.Flag(e, "individual_digits", false) ? @"\p{N}" : @"\p{N}+"), "Isolated", false, where);
            case "Whitespace":
                return Split(new TextRegex(@"\w+|[^\w\s]+"), "Removed", true, where);
            case "WhitespaceSplit":
                return Split(new TextRegex(@"\s"), "Removed", false, where);
            case "BertPreTokenizer":
                var spaces = Split(new TextRegex(@"\s"), "Removed", false, where);
                var marks = Split(new TextRegex(Punctuation), "Isolated", false, where);
                return (pieces, startsText) => marks(spaces(pieces, startsText), startsText);
            case "CharDelimiterSplit":
                return Split(TextRegex.Literal(TokenizerJson.Character(e, "delimiter", where).ToString()), "Removed", false, where);
            case "Metaspace":
                return Metaspace(e, where);
            default:
                throw TokenizerJson.Unknown(e, where);
        }
    }

    private static CutPieces Metaspace(JsonElement e, string where)
    {
        var mark = TokenizerJson.Character(e, "replacement", where);
        var scheme = TokenizerJson.Text(e, "prepend_scheme") ?? (TokenizerJson.Flag(e, "add_prefix_space", true) ? "always" : "never");
        if (scheme is not ("always" or "first" or "never"))
        {
            throw new TokenizerException($"{where}.prepend_scheme '{scheme}' is not one that can be read.");
        }

        var cut = Split(TextRegex.Literal(mark.ToString()), "MergedWithNext", false, where);
        var split = TokenizerJson.Flag(e, "split", true);
        return (pieces, startsText) =>
        {
            var marked = Each(pieces, (piece, isFirst) =>
            {
                var text = piece.ToString().Replace(' ', mark);
                var prepend = scheme == "always" || (scheme == "first" && isFirst && startsText);
                return [((prepend && text[0] != mark ? mark + text : text).AsMemory(), true)];
            });
            return split ? cut(marked, startsText) : marked;
        };
    }

    private static CutPieces Split(TextRegex regex, string? behavior, bool invert, string where)
    {
        if (behavior is not ("Isolated" or "Removed" or "MergedWithPrevious" or "MergedWithNext" or "Contiguous"))
        {
            throw new TokenizerException($"{where}.behavior '{behavior}' is not one that can be read.");
        }

        return (pieces, _) => Each(pieces, (piece, _) =>
        {
            var cut = regex.Cut(piece);
            return behavior switch
            {
                "Isolated" => cut,
                "Removed" => cut.FindAll(p => p.IsMatch == invert),
                _ => Merge(piece, cut, (before, after) => behavior switch
                {
                    "MergedWithPrevious" => after != invert && before == invert,
                    "MergedWithNext" => before != invert && after == invert,
                    _ => before == after,
                }),
            };
        });
    }

    /// <summary>Joins neighbours of which the rule, given whether each is a match, says so. A piece joined keeps the nature of its last part.</summary>
    private static List<(ReadOnlyMemory<char> Piece, bool IsMatch)> Merge(
        ReadOnlyMemory<char> whole, List<(ReadOnlyMemory<char> Piece, bool IsMatch)> cut, Func<bool, bool, bool> joins)
    {
        var result = new List<(ReadOnlyMemory<char>, bool)>();
        var (start, at) = (0, 0);
        for (var i = 0; i < cut.Count; i++)
        {
            at += cut[i].Piece.Length;
            if (i + 1 == cut.Count || !joins(cut[i].IsMatch, cut[i + 1].IsMatch))
            {
                result.Add((whole[start..at], cut[i].IsMatch));
                start = at;
            }
        }

        return result;
    }

    private static List<ReadOnlyMemory<char>> Each(
        List<ReadOnlyMemory<char>> pieces, Func<ReadOnlyMemory<char>, bool, List<(ReadOnlyMemory<char> Piece, bool IsMatch)>> cut)
    {
        var result = new List<ReadOnlyMemory<char>>();
        for (var i = 0; i < pieces.Count; i++)
        {
            if (!pieces[i].IsEmpty)
            {
                result.AddRange(cut(pieces[i], i == 0).Select(p => p.Piece));
            }
        }

        return result;
    }
}
