using System.Globalization;
using System.Text;
using System.Text.Json;

namespace FastDraft.Modeling.Tokenization;

/// <summary>The decoder part of a tokenizer.json: token texts to one text.</summary>
internal static class TokenDecoder
{
    public static Func<List<string>, List<string>> Build(JsonElement e, string where)
    {
        switch (TokenizerJson.TypeOf(e))
        {
            case null:
                return tokens => [string.Join(' ', tokens)];
            case "Sequence":
                var parts = e.GetProperty("decoders").EnumerateArray().Select((d, i) => Build(d, $"{where}.decoders[{i}]")).ToArray();
                return tokens => parts.Aggregate(tokens, (t, part) => part(t));
            case "ByteLevel":
                return tokens => [DecodeByteLevel(tokens)];
            case "ByteFallback":
                return DecodeByteFallback;
            case "Fuse":
                return tokens => [string.Concat(tokens)];
            case "Replace":
                var normalize = TextNormalizer.Build(e, where);
                return tokens => tokens.ConvertAll(t => normalize(t));
            case "Strip":
                var c = TokenizerJson.Character(e, "content", where);
                var (start, stop) = (e.GetProperty("start").GetInt32(), e.GetProperty("stop").GetInt32());
                return tokens => tokens.ConvertAll(t => Strip(t, c, start, stop));
            case "Metaspace":
                var mark = TokenizerJson.Character(e, "replacement", where);
                var prepended = !(e.TryGetProperty("prepend_scheme", out var scheme) && scheme.GetString() == "never");
                return tokens => [.. tokens.Select((t, i) => (i == 0 && prepended ? Strip(t, mark, 1, 0) : t).Replace(mark, ' '))];
            default:
                throw TokenizerJson.Unknown(e, where);
        }
    }

    private static string Strip(string text, char c, int start, int stop)
    {
        var from = 0;
        while (from < start && from < text.Length && text[from] == c)
        {
            from++;
        }

        var to = text.Length;
        while (text.Length - to < stop && to > from && text[to - 1] == c)
        {
            to--;
        }

        return text[from..to];
    }

    private static string DecodeByteLevel(List<string> tokens)
    {
        using var bytes = new MemoryStream();
        foreach (var token in tokens)
        {
            var at = bytes.Length;
            foreach (var c in token)
            {
                if (!ByteLevelAlphabet.TryToByte(c, out var b))
                {
                    // A token with a character outside the alphabet is an added token: its own text.
                    bytes.SetLength(at);
                    bytes.Write(Encoding.UTF8.GetBytes(token));
                    break;
                }

                bytes.WriteByte(b);
            }
        }

        return Encoding.UTF8.GetString(bytes.GetBuffer(), 0, (int)bytes.Length);
    }

    private static List<string> DecodeByteFallback(List<string> tokens)
    {
        var strict = new UTF8Encoding(false, throwOnInvalidBytes: true);
        var result = new List<string>();
        var pending = new List<byte>();
        foreach (var token in tokens)
        {
            if (token.Length == 6 && token.StartsWith("<0x", StringComparison.Ordinal) && token[5] == '>'
                && byte.TryParse(token.AsSpan(3, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var b))
            {
                pending.Add(b);
                continue;
            }

            Flush();
            result.Add(token);
        }

        Flush();
        return result;

        void Flush()
        {
            if (pending.Count > 0)
            {
                try
                {
                    result.Add(strict.GetString([.. pending]));
                }
                catch (DecoderFallbackException)
                {
                    result.Add(new string('\uFFFD', pending.Count));
                }

                pending.Clear();
            }
        }
    }
}
