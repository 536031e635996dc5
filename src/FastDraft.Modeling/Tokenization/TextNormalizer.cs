using System.Globalization;
using System.Text;
using System.Text.Json;

namespace FastDraft.Modeling.Tokenization;

/// <summary>The normalizer part of a tokenizer.json, compiled to a delegate once.</summary>
internal static class TextNormalizer
{
    /// <exception cref="TokenizerException">A type that cannot be done exactly, named with its place.</exception>
    public static Func<string, string> Build(JsonElement e, string where)
    {
        switch (TokenizerJson.TypeOf(e))
        {
            case null:
                return text => text;
            case "Sequence":
                var parts = e.GetProperty("normalizers").EnumerateArray().Select((n, i) => Build(n, $"{where}.normalizers[{i}]")).ToArray();
                return text => parts.Aggregate(text, (t, part) => part(t));
            case "NFC":
                return text => UnicodeNormalizer.Normalize(text, NormalizationForm.FormC);
            case "NFD":
                return text => UnicodeNormalizer.Normalize(text, NormalizationForm.FormD);
            case "NFKC":
                return text => UnicodeNormalizer.Normalize(text, NormalizationForm.FormKC);
            case "NFKD":
                return text => UnicodeNormalizer.Normalize(text, NormalizationForm.FormKD);
            case "Prepend":
                var prefix = e.GetProperty("prepend").GetString()!;
                return text => text.Length == 0 ? text : prefix + text;
            case "Lowercase":
                return Lowercase;
            case "StripAccents":
                return StripAccents;
            case "Strip":
                var (left, right) = (TokenizerJson.Flag(e, "strip_left", true), TokenizerJson.Flag(e, "strip_right", true));
                return text => left ? (right ? text.Trim() : text.TrimStart()) : right ? text.TrimEnd() : text;
            case "ByteLevel":
                return text => ByteLevelAlphabet.Map(text);
            case "BertNormalizer":
                return Bert(e);
            case "Replace":
                var content = e.GetProperty("content").GetString()!;
                var pattern = TokenizerJson.Pattern(e);
                return text => pattern.Replace(text, content);
            default:
                throw TokenizerJson.Unknown(e, where);
        }
    }

    // One character has a lowercase of two: I with a dot above, whose dot stays as a mark.
    private static string Lowercase(string text) => text.Replace("\u0130", "i\u0307", StringComparison.Ordinal).ToLowerInvariant();

    private static string StripAccents(string text) => Where(text, rune => Rune.GetUnicodeCategory(rune) != UnicodeCategory.NonSpacingMark);

    private static Func<string, string> Bert(JsonElement e)
    {
        var (clean, chinese, lowercase) = (TokenizerJson.Flag(e, "clean_text", true), TokenizerJson.Flag(e, "handle_chinese_chars", true), TokenizerJson.Flag(e, "lowercase", true));
        var accents = TokenizerJson.Flag(e, "strip_accents", lowercase);
        return text =>
        {
            text = clean ? Clean(text) : text;
            text = chinese ? SpaceIdeographs(text) : text;
            text = accents ? StripAccents(UnicodeNormalizer.Normalize(text, NormalizationForm.FormD)) : text;
            return lowercase ? Lowercase(text) : text;
        };
    }

    private static string Clean(string text) => string.Concat(
        Where(text, rune => rune.Value is '\t' or '\n' or '\r' || (rune.Value is not (0 or 0xFFFD) && Rune.GetUnicodeCategory(rune) is not (UnicodeCategory.Control
            or UnicodeCategory.Format or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned))).Select(c => char.IsWhiteSpace(c) ? ' ' : c));

    private static string SpaceIdeographs(string text)
    {
        var result = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes())
        {
            var isIdeograph = rune.Value is (>= 0x4E00 and <= 0x9FFF) or (>= 0x3400 and <= 0x4DBF) or (>= 0x20000 and <= 0x2A6DF) or (>= 0x2A700 and <= 0x2B73F)
                or (>= 0x2B740 and <= 0x2B81F) or (>= 0x2B920 and <= 0x2CEAF) or (>= 0xF900 and <= 0xFAFF) or (>= 0x2F800 and <= 0x2FA1F);
            _ = isIdeograph ? result.Append(' ').Append(rune).Append(' ') : result.Append(rune);
        }

        return result.ToString();
    }

    private static string Where(string text, Predicate<Rune> keep)
    {
        var result = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes())
        {
            if (keep(rune))
            {
                result.Append(rune);
            }
        }

        return result.ToString();
    }
}
