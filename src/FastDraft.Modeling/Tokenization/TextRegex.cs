using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace FastDraft.Modeling.Tokenization;

/// <summary>
/// An Oniguruma pattern of a tokenizer.json run by .NET. .NET matches UTF-16 units, so a rune outside the basic plane is
/// shown to it as one unit of the same class (letter, number, mark, other); possessive quantifiers become atomic groups.
/// </summary>
internal sealed class TextRegex
{
    private readonly Regex regex;

    public TextRegex(string pattern)
    {
        try
        {
            regex = new Regex(Translate(pattern), RegexOptions.Compiled | RegexOptions.CultureInvariant, TimeSpan.FromSeconds(20));
        }
        catch (ArgumentException e)
        {
            throw new TokenizerException($"The pattern '{pattern}' is not understood: {e.Message}", e);
        }
    }

    public string Replace(string text, string content) => regex.Replace(text, content.Replace("$", "$$", StringComparison.Ordinal));

    /// <summary>Cuts the text at the matches; each piece says whether it is a match.</summary>
    public List<(ReadOnlyMemory<char> Piece, bool IsMatch)> Cut(ReadOnlyMemory<char> text)
    {
        var pieces = new List<(ReadOnlyMemory<char>, bool)>();
        var (shadow, offsets) = Shadow(text.Span);
        var from = 0;
        try
        {
            foreach (var match in regex.EnumerateMatches(shadow is null ? text.Span : shadow))
            {
                var start = offsets is null ? match.Index : offsets[match.Index];
                var end = offsets is null ? match.Index + match.Length : offsets[match.Index + match.Length];
                if (end == start)
                {
                    continue;
                }

                if (start > from)
                {
                    pieces.Add((text[from..start], false));
                }

                pieces.Add((text[start..end], true));
                from = end;
            }
        }
        catch (RegexMatchTimeoutException e)
        {
            throw new TokenizerException($"Splitting a text of {text.Length} characters took over {e.MatchTimeout.TotalSeconds} s.", e);
        }

        if (from < text.Length)
        {
            pieces.Add((text[from..], false));
        }

        return pieces;
    }

    private static (string? Text, int[]? Offsets) Shadow(ReadOnlySpan<char> text)
    {
        if (text.IndexOfAnyInRange('\uD800', '\uDFFF') < 0)
        {
            return (null, null);
        }

        var shadow = new StringBuilder(text.Length);
        var offsets = new int[text.Length + 1];
        var at = 0;
        while (at < text.Length)
        {
            offsets[shadow.Length] = at;
            Rune.DecodeFromUtf16(text[at..], out var rune, out var length);
            shadow.Append(rune.IsBmp ? (char)rune.Value : Rune.GetUnicodeCategory(rune) switch
            {
                UnicodeCategory.UppercaseLetter => '\u0410',
                UnicodeCategory.LowercaseLetter => '\u0430',
                UnicodeCategory.TitlecaseLetter or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => '\u4E00',
                UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => '\u0661',
                UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark => '\u0300',
                _ => '\u2603',
            });
            at += length;
        }

        offsets[shadow.Length] = at;
        return (shadow.ToString(), offsets);
    }

    private static string Translate(string pattern)
    {
        var result = new StringBuilder();
        var groups = new Stack<int>();
        var atom = 0;
        for (var i = 0; i < pattern.Length; i++)
        {
            var c = pattern[i];
            if (c is '?' or '*' or '+' && i + 1 < pattern.Length && pattern[i + 1] == '+' && result.Length > 0)
            {
                result.Insert(atom, "(?>").Append(c).Append(')');
                i++;
                continue;
            }

            if (c == '(')
            {
                groups.Push(result.Length);
                result.Append(c);
                if (i + 1 < pattern.Length && pattern[i + 1] == '?')
                {
                    result.Append(pattern[++i]);
                }
            }
            else if (c == ')')
            {
                atom = groups.TryPop(out var open) ? open : 0;
                result.Append(c);
            }
            else if (c == '\\' && i + 1 < pattern.Length)
            {
                var end = pattern[i + 1] is 'p' or 'P' && i + 2 < pattern.Length && pattern[i + 2] == '{' ? pattern.IndexOf('}', i) : i + 1;
                atom = result.Length;
                end = end < 0 ? i + 1 : end;
                result.Append(pattern, i, end - i + 1);
                i = end;
            }
            else if (c == '[')
            {
                atom = result.Length;
                var end = i + 1;
                while (end < pattern.Length - 1 && pattern[end] != ']')
                {
                    end += pattern[end] == '\\' ? 2 : 1;
                }

                end = Math.Min(end, pattern.Length - 1);
                result.Append(pattern, i, end - i + 1);
                i = end;
            }
            else
            {
                atom = c is '?' or '*' or '+' or '{' or '}' or ',' ? atom : result.Length;
                result.Append(c);
            }
        }

        return result.ToString();
    }
}
