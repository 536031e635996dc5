using System.Text.Json;
using System.Text.Json.Serialization;

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

    /// <summary>Columns padded to their widest cell, two spaces apart; the first row is the header.</summary>
    /// <param name="rows">Header and rows of equal length.</param>
    /// <param name="indent">Spaces before each line.</param>
    /// <param name="numbers">Columns from this one on are figures and stand to the right.</param>
    public static void WriteTable(IReadOnlyList<string[]> rows, int indent = 0, int numbers = int.MaxValue)
    {
        var widths = Enumerable.Range(0, rows[0].Length).Select(c => rows.Max(r => r[c].Length)).ToArray();
        foreach (var row in rows)
        {
            var cells = row.Select((cell, c) => c >= numbers ? cell.PadLeft(widths[c]) : cell.PadRight(widths[c]));
            Console.Out.WriteLine((new string(' ', indent) + string.Join("  ", cells)).TrimEnd());
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
