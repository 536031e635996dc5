using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace FastDraft.Modeling.Tokenization;

/// <summary>
/// An Oniguruma pattern of a tokenizer.json run by .NET. .NET matches UTF-16 units, so a rune outside the basic plane is
/// shown to it as one unit of the same class (letter, number, mark, other); possessive quantifiers become atomic groups.
/// A pattern without look-around runs in linear time, whatever it is; one with it is stopped at <see cref="MatchLimit"/>.
/// </summary>
internal sealed class TextRegex
{
    /// <summary>A match takes microseconds; this is a limit for patterns that were made to never end, also on a busy machine.</summary>
    private static readonly TimeSpan MatchLimit = TimeSpan.FromSeconds(1);

    private readonly Regex regex;

    /// <exception cref="TokenizerException">The pattern means something that .NET's would not.</exception>
    public TextRegex(string pattern)
    {
        try
        {
            regex = Make(Translate(pattern));
        }
        catch (ArgumentException e)
        {
            throw new TokenizerException($"The pattern '{pattern}' is not understood: {e.Message}", e);
        }
    }

    private TextRegex(Regex regex) => this.regex = regex;

    /// <summary>Matches a text as it stands.</summary>
    public static TextRegex Literal(string text) => new(Make(Regex.Escape(text)));

    public string Replace(string text, string content)
    {
        try
        {
            return regex.Replace(text, content.Replace("$", "$$", StringComparison.Ordinal));
        }
        catch (RegexMatchTimeoutException e)
        {
            throw TooSlow(text.Length, e);
        }
    }

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
            throw TooSlow(text.Length, e);
        }

        if (from < text.Length)
        {
            pieces.Add((text[from..], false));
        }

        return pieces;
    }

    // In Oniguruma's syntax ^ and $ always stand for lines.
    private static Regex Make(string pattern)
    {
        const RegexOptions Options = RegexOptions.CultureInvariant | RegexOptions.Multiline;
        try
        {
            return new Regex(pattern, Options | RegexOptions.NonBacktracking);
        }
        catch (NotSupportedException)
        {
            return new Regex(pattern, Options | RegexOptions.Compiled, MatchLimit);
        }
    }

    private TokenizerException TooSlow(int length, RegexMatchTimeoutException e) =>
        new($"The pattern '{regex}' took over {e.MatchTimeout.TotalSeconds} s for one match in a text of {length} characters.", e);

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
            shadow.Append(rune.IsBmp ? (char)rune.Value : StandIn(Rune.GetUnicodeCategory(rune)));
            at += length;
        }

        offsets[shadow.Length] = at;
        return (shadow.ToString(), offsets);
    }

    /// <summary>A unit of the category, chosen from small scripts so that the ranges patterns spell out do not hold it.</summary>
    private static char StandIn(UnicodeCategory category) => category switch
    {
        UnicodeCategory.UppercaseLetter => '\u0531',
        UnicodeCategory.LowercaseLetter => '\u0561',
        UnicodeCategory.TitlecaseLetter => '\u01C5',
        UnicodeCategory.ModifierLetter => '\u0559',
        UnicodeCategory.OtherLetter => '\u0710',
        UnicodeCategory.NonSpacingMark => '\u0711',
        UnicodeCategory.SpacingCombiningMark => '\u0903',
        UnicodeCategory.EnclosingMark => '\u0488',
        UnicodeCategory.DecimalDigitNumber => '\u07C0',
        UnicodeCategory.LetterNumber => '\u16EE',
        UnicodeCategory.OtherNumber => '\u00BC',
        UnicodeCategory.Format => '\u0600',
        UnicodeCategory.PrivateUse => '\uE000',
        UnicodeCategory.MathSymbol => '\u00AC',
        UnicodeCategory.CurrencySymbol => '\u00A4',
        UnicodeCategory.ModifierSymbol => '\u02C2',
        UnicodeCategory.OtherSymbol => '\u0482',
        UnicodeCategory.OtherNotAssigned => '\u0378',
        _ => '\u061E',
    };

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

            if (c == '+' && i > 0 && pattern[i - 1] == '}' && result[^1] == '}')
            {
                // After an interval, + is no possessive sign but repeats it.
                result.Insert(atom, "(?:").Append(")+");
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
                RefuseOtherSyntax(pattern[i..end]);
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
    /// <summary>Inside a class Oniguruma knows nested classes and intersections, which .NET would read as plain characters.</summary>
    private static void RefuseOtherSyntax(string set)
    {
        for (var i = 1; i < set.Length; i++)
        {
            if (set[i] == '[' || set.AsSpan(i).StartsWith("&&", StringComparison.Ordinal))
            {
                throw new ArgumentException($"the class '{set}]' holds another class or an intersection.");
            }

            i += set[i] == '\\' ? 1 : 0;
        }
    }
}
