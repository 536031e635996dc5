using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>Reads the documents of one file. A bad row is reported with its line and left out.</summary>
internal static partial class SourceReader
{
    public const int MaxLineBytes = 16 << 20;
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    /// <summary>
    /// A jsonl row is a document; a text file is one, cut at paragraphs where it is longer than <paramref name="maxCharacters"/>;
    /// so is each documented type of an XML documentation file.
    /// </summary>
    /// <exception cref="InvalidDataException">Corrupt gzip.</exception>
    /// <exception cref="System.Xml.XmlException">Broken XML.</exception>
    public static IEnumerable<string> Read(string path, long maxCharacters, ReadTally tally)
    {
        if (path.EndsWith(".xml", StringComparison.OrdinalIgnoreCase))
        {
            return ReadDocumentation(path, tally);
        }

        var name = path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? path[..^3] : path;
        return name.EndsWith(".jsonl", StringComparison.OrdinalIgnoreCase)
            ? ReadRows(path, tally)
            : ReadText(path, tally).SelectMany(text => Paragraphs.Cut(text, maxCharacters));
    }

    private static Stream Open(string path) => path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase)
        ? new GZipStream(File.OpenRead(path), CompressionMode.Decompress)
        : File.OpenRead(path);

    private static IEnumerable<string> ReadText(string path, ReadTally tally)
    {
        var text = new StringBuilder();
        foreach (var (_, line) in Texts(path, tally))
        {
            tally.Row();
            text.Append(line).Append('\n');
        }

        yield return text.ToString();
    }

    private static IEnumerable<string> ReadRows(string path, ReadTally tally)
    {
        foreach (var (number, line) in Texts(path, tally).Where(l => !string.IsNullOrWhiteSpace(l.Text)))
        {
            tally.Row();
            string? text = null;
            try
            {
                using var row = JsonDocument.Parse(line);
                text = row.RootElement.GetProperty("text").GetString() ?? throw new InvalidOperationException("the text is null.");
            }
            catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
            {
                tally.Bad(path, number, "not a JSON object with a text: " + e.Message);
            }

            if (text is not null)
            {
                yield return text;
            }
        }
    }

    /// <summary>The lines that are UTF-8; the others are counted, as rows and as bad, here.</summary>
    private static IEnumerable<(int Number, string Text)> Texts(string path, ReadTally tally)
    {
        foreach (var (number, bytes) in Lines(path))
        {
            string? line = null;
            if (bytes is null)
            {
                tally.Row();
                tally.Bad(path, number, "a line of over 16 MiB");
                continue;
            }

            try
            {
                line = Strict.GetString(bytes).TrimEnd('\r');
            }
            catch (DecoderFallbackException)
            {
                tally.Row();
                tally.Bad(path, number, "not valid UTF-8");
            }

            if (line is not null)
            {
                yield return (number, number == 1 ? line.TrimStart('\uFEFF') : line);
            }
        }
    }

    /// <summary>The lines of a file; null for one that is too long.</summary>
    private static IEnumerable<(int Number, byte[]? Bytes)> Lines(string path)
    {
        using var stream = new BufferedStream(Open(path), 1 << 16);
        var line = new List<byte>();
        var (number, tooLong) = (1, false);
        var chunk = new byte[1 << 16];
        var total = 0L;
        for (int count; (count = stream.Read(chunk)) > 0;)
        {
            total += count;
            for (var from = 0; from < count;)
            {
                var end = Array.IndexOf(chunk, (byte)'\n', from, count - from);
                var stop = end < 0 ? count : end;
                tooLong |= line.Count + stop - from > MaxLineBytes;
                if (!tooLong)
                {
                    line.AddRange(chunk.AsSpan(from, stop - from));
                }

                from = stop + 1;
                if (end < 0)
                {
                    continue;
                }

                yield return (number, tooLong ? null : line.ToArray());
                line.Clear();
                tooLong = false;
                number++;
            }
        }

        if (path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase))
        {
            GzipTrailer.Check(path, total);
        }

        if (tooLong || line.Count > 0)
        {
            yield return (number, tooLong ? null : line.ToArray());
        }
    }

    private static IEnumerable<string> ReadDocumentation(string path, ReadTally tally)
    {
        var types = new SortedDictionary<string, StringBuilder>(StringComparer.Ordinal);
        foreach (var member in XDocument.Load(path).Descendants("member"))
        {
            var id = (string?)member.Attribute("name") ?? string.Empty;
            var name = id.Length > 2 ? id[2..].Split('(')[0] : id;
            var type = id.StartsWith("T:", StringComparison.Ordinal) || !name.Contains('.') ? name : name[..name.LastIndexOf('.')];
            if (!types.TryGetValue(type, out var text))
            {
                types[type] = text = new StringBuilder(type).Append('\n');
            }

            text.Append('\n').Append(name).Append('\n');
            foreach (var part in member.Elements())
            {
                var words = Spaces().Replace(Plain(part), " ").Trim();
                if (words.Length > 0)
                {
                    text.Append((string?)part.Attribute("name") is { } label ? label + ": " : string.Empty).Append(words).Append('\n');
                }
            }
        }

        foreach (var text in types.Values)
        {
            tally.Row();
            yield return text.ToString();
        }
    }

    private static string Plain(XElement element) => string.Concat(element.Nodes().Select(node => node switch
    {
        XText text => text.Value,
        XElement { IsEmpty: true } e => ((string?)e.Attribute("cref"))?.Split(':')[^1] ?? (string?)e.Attribute("langword") ?? (string?)e.Attribute("name") ?? " ",
        XElement e => Plain(e) + " ",
        _ => string.Empty,
    }));

    [GeneratedRegex(@"\s+")]
    private static partial Regex Spaces();
}
