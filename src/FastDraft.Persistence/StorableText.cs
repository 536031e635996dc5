using System.Text;

namespace FastDraft.Persistence;

/// <summary>
/// Text that every database takes. NUL and halves of surrogate pairs are no text in PostgreSQL: what a worker or a script says with one in
/// it would be refused for ever, and with it the commit that carries it.
/// </summary>
internal static class StorableText
{
    /// <summary>The text itself where nothing is wrong with it; otherwise with U+FFFD in the place of what is.</summary>
    public static string Of(string text)
    {
        if (!text.AsSpan().ContainsAnyInRange('\ud800', '\udfff') && !text.Contains('\0', StringComparison.Ordinal))
        {
            return text;
        }

        var storable = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes())
        {
            storable.Append(rune.Value == 0 ? Rune.ReplacementChar : rune);
        }

        return storable.ToString();
    }
}
