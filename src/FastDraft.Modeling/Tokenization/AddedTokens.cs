using System.Buffers;
using System.Text.Json;

namespace FastDraft.Modeling.Tokenization;

internal sealed record AddedToken(int Id, string Content, bool Special, bool Normalized, bool StripLeft, bool StripRight, bool SingleWord);

/// <summary>Finds added tokens in a text, leftmost and longest first.</summary>
internal sealed class AddedTokens(IEnumerable<AddedToken> tokens)
{
    private readonly Dictionary<char, AddedToken[]> byFirst = tokens.Where(t => t.Content.Length > 0).GroupBy(t => t.Content[0])
        .ToDictionary(g => g.Key, g => g.OrderByDescending(t => t.Content.Length).ToArray());

    private readonly SearchValues<string> any = SearchValues.Create([.. tokens.Where(t => t.Content.Length > 0).Select(t => t.Content).Distinct()], StringComparison.Ordinal);

    public static IReadOnlyList<AddedToken> Read(JsonElement root)
    {
        if (!root.TryGetProperty("added_tokens", out var list) || list.ValueKind != JsonValueKind.Array)
        {
            return [];
        }

        return [.. list.EnumerateArray().Select(e => new AddedToken(
            e.GetProperty("id").GetInt32(), e.GetProperty("content").GetString()!, TokenizerJson.Flag(e, "special", false),
            TokenizerJson.Flag(e, "normalized", true), TokenizerJson.Flag(e, "lstrip", false), TokenizerJson.Flag(e, "rstrip", false),
            TokenizerJson.Flag(e, "single_word", false)))];
    }

    /// <summary>Calls back for every stretch of the text in order; the token is null for a stretch of plain text.</summary>
    public void Cut(string text, Action<string, AddedToken?> stretch)
    {
        var from = 0;
        var at = 0;
        while (at < text.Length)
        {
            var found = text.AsSpan(at).IndexOfAny(any);
            if (found < 0)
            {
                break;
            }

            at += found;
            var token = Array.Find(byFirst[text[at]], t => Fits(text, at, t));
            if (token is null)
            {
                at++;
                continue;
            }

            var start = at;
            var end = at + token.Content.Length;
            while (token.StripLeft && start > from && char.IsWhiteSpace(text[start - 1]))
            {
                start--;
            }

            while (token.StripRight && end < text.Length && char.IsWhiteSpace(text[end]))
            {
                end++;
            }

            if (start > from)
            {
                stretch(text[from..start], null);
            }

            stretch(token.Content, token);
            from = at = end;
        }

        if (from < text.Length)
        {
            stretch(from == 0 ? text : text[from..], null);
        }
    }

    private static bool Fits(string text, int at, AddedToken token)
    {
        var end = at + token.Content.Length;
        return text.AsSpan(at).StartsWith(token.Content, StringComparison.Ordinal)
            && !(token.SingleWord && ((at > 0 && IsWord(text[at - 1])) || (end < text.Length && IsWord(text[end]))));
    }

    private static bool IsWord(char c) => char.IsLetterOrDigit(c) || c == '_';
}
