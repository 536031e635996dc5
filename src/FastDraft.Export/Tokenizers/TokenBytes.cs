using System.Globalization;
using System.Text;
using FastDraft.Modeling.Tokenization;

namespace FastDraft.Export.Tokenizers;

/// <summary>The bytes that tokens stand for, for tokenizers that work on bytes whatever alphabet tokenizer.json writes them in.</summary>
internal static class TokenBytes
{
    /// <summary>
    /// The bytes of each token as the merging reads them. What merging can never give (a token that no merge makes, an added token, the
    /// name of a byte spelled out in a text) gets bytes that no text has, so that an engine that looks for the longest token cannot find it.
    /// </summary>
    public static byte[][] ForMerging(TokenizerDefinition tokenizer)
    {
        var made = tokenizer.Merges.Select(m => m.Left + m.Right).ToHashSet(StringComparer.Ordinal);
        var added = tokenizer.Added.Select(t => t.Id).ToHashSet();
        var characters = tokenizer.Tokens.Where((t, id) => t is { Length: 1 } && !added.Contains(id)).ToHashSet(StringComparer.Ordinal);
        return [.. tokenizer.Tokens.Select((text, id) =>
        {
            if (text is null || added.Contains(id))
            {
                return Unfindable(id);
            }

            if (tokenizer.ByteFallback && ByteOf(text) is { } value)
            {
                return characters.Contains(((char)value).ToString()) && value < 128 ? Unfindable(id) : [value];
            }

            return made.Contains(text) || tokenizer.IgnoreMerges || IsOneCharacter(text) ? Of(tokenizer, text) ?? Unfindable(id) : Unfindable(id);
        })];
    }

    /// <summary>A text of tokens, such as a side of a merge, in bytes.</summary>
    public static byte[]? Of(TokenizerDefinition tokenizer, string text) => tokenizer.IsByteLevel ? FromByteLevel(text) : Encoding.UTF8.GetBytes(text);

    /// <summary>The bytes of a text in the byte-level alphabet; null if a character is not of it.</summary>
    public static byte[]? FromByteLevel(string text)
    {
        var bytes = new byte[text.Length];
        for (var i = 0; i < text.Length; i++)
        {
            if (!ByteLevelAlphabet.TryToByte(text[i], out bytes[i]))
            {
                return null;
            }
        }

        return bytes;
    }

    /// <summary>The value of a token <c>&lt;0x0A&gt;</c>; null if it is none.</summary>
    public static byte? ByteOf(string token) => token.Length == 6 && token.StartsWith("<0x", StringComparison.Ordinal) && token[5] == '>'
        && byte.TryParse(token.AsSpan(3, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value) ? value : null;

    private static bool IsOneCharacter(string text) => text.Length == 1 || (text.Length == 2 && char.IsSurrogatePair(text, 0));

    // No UTF-8 text has the byte 0xFF.
    private static byte[] Unfindable(int id) => [0xFF, 0xFF, .. Encoding.ASCII.GetBytes(id.ToString(CultureInfo.InvariantCulture))];
}
