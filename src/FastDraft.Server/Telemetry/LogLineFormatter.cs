using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Logging.Console;
using Microsoft.Extensions.Options;

namespace FastDraft.Server.Telemetry;

internal sealed class LogLineOptions : ConsoleFormatterOptions
{
    public bool AsJson { get; set; }
}

/// <summary>
/// A line each: <c>{"time":...,"level":...,"message":...}</c> with <c>run</c>, <c>stage</c>, <c>attempt</c> and <c>trace_id</c> where the line
/// is about one (experience.md 2), flat, so that a collector needs no rule; or time, level and message for eyes.
/// </summary>
internal sealed class LogLineFormatter(IOptions<LogLineOptions> options) : ConsoleFormatter(FormatterName)
{
    public const string FormatterName = "fastdraft";

    // A log is no page: quotes and letters beyond ASCII stay readable.
    private static readonly JsonWriterOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public override void Write<TState>(in LogEntry<TState> entry, IExternalScopeProvider? scopes, TextWriter writer)
    {
        var (level, message) = (NameOf(entry.LogLevel), entry.Formatter(entry.State, entry.Exception));
        var now = TimeProvider.System.GetUtcNow();
        if (!options.Value.AsJson)
        {
            writer.WriteLine($"{now:HH:mm:ss}  {level,-7}  {message}{(entry.Exception is { } thrown ? Environment.NewLine + thrown : "")}");
            return;
        }

        // The innermost: an attempt that ends its run tells of the run.
        LogScope? about = null;
        scopes?.ForEachScope((scope, _) => about = scope as LogScope ?? about, 0);
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, Json))
        {
            json.WriteStartObject();
            json.WriteString("time", now.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", System.Globalization.CultureInfo.InvariantCulture));
            json.WriteString("level", level);
            json.WriteString("source", entry.Category);
            json.WriteString("message", message);
            about?.WriteTo(json);
            if (entry.Exception is { } error)
            {
                json.WriteString("error", error.ToString());
            }

            json.WriteEndObject();
        }

        writer.WriteLine(Encoding.UTF8.GetString(bytes.GetBuffer(), 0, (int)bytes.Length));
    }

    private static string NameOf(LogLevel level) => level switch
    {
        LogLevel.Critical or LogLevel.Error => "error",
        LogLevel.Warning => "warning",
        LogLevel.Information => "info",
        _ => "debug",
    };
}
