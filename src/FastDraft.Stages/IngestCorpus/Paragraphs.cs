namespace FastDraft.Stages.IngestCorpus;

/// <summary>Cuts a text at blank lines.</summary>
internal static class Paragraphs
{
    /// <summary>
    /// The text in as few pieces of at most <paramref name="maxCharacters"/> as whole paragraphs allow; a longer paragraph is a piece
    /// of its own. A text that is short enough is its only piece.
    /// </summary>
    public static IEnumerable<string> Cut(string text, long maxCharacters)
    {
        if (text.Length <= maxCharacters)
        {
            yield return text;
            yield break;
        }

        var (start, end) = (0, 0);
        while (end < text.Length)
        {
            var next = End(text, end);
            if (end > start && text.AsSpan(start, next - start).TrimEnd('\n').Length > maxCharacters)
            {
                yield return text[start..end].TrimEnd('\n');
                start = end;
            }

            end = next;
        }

        yield return text[start..].TrimEnd('\n');
    }

    private static int End(string text, int from)
    {
        var blank = text.IndexOf("\n\n", from, StringComparison.Ordinal);
        if (blank < 0)
        {
            return text.Length;
        }

        while (blank < text.Length && text[blank] == '\n')
        {
            blank++;
        }

        return blank;
    }
}
