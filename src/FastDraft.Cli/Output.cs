using System.Text.Json;
using System.Text.Json.Serialization;
using FastDraft.Cli.Terminal;

namespace FastDraft.Cli;

/// <summary>Data goes to stdout, everything else to stderr. <c>-o json</c> writes one stable object or array.</summary>
internal static class Output
{
    public static JsonSerializerOptions Json { get; } = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new FiniteNumberConverter(), new JsonStringEnumConverter() },
    };

    public static void WriteJson(object value) => Console.Out.WriteLine(JsonSerializer.Serialize(value, Json));

    /// <summary>
    /// Columns padded to their widest cell, two spaces apart; the first row is the header. On a terminal that is narrower, the widest
    /// column of text goes on in the lines below; in a pipe a row is a line.
    /// </summary>
    /// <param name="rows">Header and rows of equal length.</param>
    /// <param name="indent">Spaces before each line.</param>
    /// <param name="numbers">Columns from this one on are figures and stand to the right.</param>
    public static void WriteTable(IReadOnlyList<string[]> rows, int indent = 0, int numbers = int.MaxValue)
    {
        foreach (var line in Table(rows, indent, numbers, Width))
        {
            Console.Out.WriteLine(line);
        }
    }

    /// <summary>A sentence, broken between words where the terminal ends; lines after the first begin below its first word.</summary>
    public static void WriteText(string text, string lead = "") => Write(Console.Out, text, lead, Width);

    /// <summary>The same on stderr, for what goes wrong.</summary>
    public static void WriteError(string text, string lead = "") => Write(Console.Error, text, lead, Console.IsErrorRedirected ? int.MaxValue : Screen.Size.Width);

    internal static IEnumerable<string> Table(IReadOnlyList<string[]> rows, int indent, int numbers, int width)
    {
        const int Narrowest = 7;
        var widths = Enumerable.Range(0, rows[0].Length).Select(c => rows.Max(r => Screen.Cells(r[c]))).ToArray();
        var over = indent + widths.Sum() + (2 * (widths.Length - 1)) - width;
        var gives = Enumerable.Range(0, Math.Min(numbers, widths.Length)).MaxBy(c => widths[c]);
        if (over > 0)
        {
            widths[gives] = Math.Max(Math.Min(widths[gives], Narrowest), widths[gives] - over);
        }

        foreach (var row in rows)
        {
            var parts = Screen.Wrap(row[gives], widths[gives]);
            for (var i = 0; i < parts.Count; i++)
            {
                var cells = row.Select((cell, c) =>
                {
                    var text = c == gives ? parts[i] : i == 0 ? cell : string.Empty;
                    var space = new string(' ', widths[c] - Screen.Cells(text));
                    return c >= numbers ? space + text : text + space;
                });
                yield return (new string(' ', indent) + string.Join("  ", cells)).TrimEnd();
            }
        }
    }

    private static int Width => Console.IsOutputRedirected ? int.MaxValue : Screen.Size.Width;

    private static void Write(TextWriter writer, string text, string lead, int width)
    {
        var cells = Screen.Cells(lead);
        foreach (var (line, i) in Screen.Wrap(text, width - cells).Select((line, i) => (line, i)))
        {
            writer.WriteLine((i == 0 ? lead : new string(' ', cells)) + line);
        }
    }

    /// <summary>What could not be measured is null: JSON has no NaN.</summary>
    private sealed class FiniteNumberConverter : JsonConverter<double>
    {
        public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetDouble();

        public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
        {
            if (double.IsFinite(value))
            {
                writer.WriteNumberValue(value);
            }
            else
            {
                writer.WriteNullValue();
            }
        }
    }
}
