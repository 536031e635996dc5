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

    public static IEnumerable<string> Read(string path, Action<int, string> bad)
    {
        if (path.EndsWith(".xml", StringComparison.OrdinalIgnoreCase))
        {
            return ReadDocumentation(path);
        }

        var name = path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? path[..^3] : path;
        return name.EndsWith(".jsonl", StringComparison.OrdinalIgnoreCase) ? ReadRows(path, bad) : ReadText(path, bad);
    }

    private static Stream Open(string path) => path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase)
        ? new GZipStream(File.OpenRead(path), CompressionMode.Decompress)
        : File.OpenRead(path);

    private static IEnumerable<string> ReadText(string path, Action<int, string> bad)
    {
        var text = new StringBuilder();
        foreach (var (number, bytes) in Lines(path, bad))
        {
            if (Decode(number, bytes, bad) is { } line)
            {
                text.Append(line).Append('\n');
            }
        }

        yield return text.ToString();
    }

    private static IEnumerable<string> ReadRows(string path, Action<int, string> bad)
    {
        foreach (var (number, bytes) in Lines(path, bad))
        {
            if (Decode(number, bytes, bad) is { } line && !string.IsNullOrWhiteSpace(line))
            {
                string? text = null;
                try
                {
                    using var row = JsonDocument.Parse(line);
                    text = row.RootElement.GetProperty("text").GetString();
                }
                catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
                {
                    bad(number, "not a JSON object with a text: " + e.Message);
                }

                if (text is not null)
                {
                    yield return text;
                }
            }
        }
    }

    private static string? Decode(int number, byte[] bytes, Action<int, string> bad)
    {
        try
        {
            return Strict.GetString(bytes).TrimEnd('\r').TrimStart('\uFEFF');
        }
        catch (DecoderFallbackException)
        {
            bad(number, "not valid UTF-8");
            return null;
        }
    }

    private static IEnumerable<(int Number, byte[] Bytes)> Lines(string path, Action<int, string> bad)
    {
        using var stream = new BufferedStream(Open(path), 1 << 16);
        var line = new List<byte>();
        var (number, tooLong) = (1, false);
        var chunk = new byte[1 << 16];
        for (int count; (count = stream.Read(chunk)) > 0;)
        {
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

                if (tooLong)
                {
                    bad(number, "a line of over 16 MiB");
                }
                else
                {
                    yield return (number, line.ToArray());
                }

                line.Clear();
                tooLong = false;
                number++;
            }
        }

        if (tooLong)
        {
            bad(number, "a line of over 16 MiB");
        }
        else if (line.Count > 0)
        {
            yield return (number, line.ToArray());
        }
    }

    private static IEnumerable<string> ReadDocumentation(string path)
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

        return types.Values.Select(t => t.ToString());
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
