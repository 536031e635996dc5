using System.Text;

namespace FastDraft.Modeling.Tokenization;

/// <summary>The printable stand-ins that GPT-2 style vocabularies use for the 256 byte values.</summary>
public static class ByteLevelAlphabet
{
    private static readonly char[] Chars = MakeChars();
    private static readonly Dictionary<char, byte> Bytes = Enumerable.Range(0, 256).ToDictionary(b => Chars[b], b => (byte)b);

    public static char ToChar(byte value) => Chars[value];

    public static bool TryToByte(char c, out byte value) => Bytes.TryGetValue(c, out value);

    public static string Map(ReadOnlySpan<char> text)
    {
        var bytes = new byte[Encoding.UTF8.GetMaxByteCount(text.Length)];
        var count = Encoding.UTF8.GetBytes(text, bytes);
        return string.Create(count, bytes, (span, source) =>
        {
            for (var i = 0; i < span.Length; i++)
            {
                span[i] = Chars[source[i]];
            }
        });
    }

    private static char[] MakeChars()
    {
        var chars = new char[256];
        var spare = 256;
        for (var b = 0; b < 256; b++)
        {
            chars[b] = b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF) ? (char)b : (char)spare++;
        }

        return chars;
    }
}
