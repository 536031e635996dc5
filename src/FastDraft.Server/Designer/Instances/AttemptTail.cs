using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace FastDraft.Server.Designer.Instances;

/// <summary>What an attempt said last, from the end of its log: <see cref="Text"/> such as <c>1,200 of 4,000 steps, loss 3.21</c>, and when.</summary>
internal sealed record AttemptTail(string? Text, long WrittenAt)
{
    private const int Bytes = 16_384;

    public static AttemptTail Read(string logFile)
    {
        var file = new FileInfo(logFile);
        if (!file.Exists)
        {
            return new AttemptTail(null, 0);
        }

        using var stream = new FileStream(logFile, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        stream.Position = Math.Max(0, stream.Length - Bytes);
        var buffer = new byte[Bytes];
        var read = stream.ReadAtLeast(buffer, Bytes, throwOnEndOfStream: false);
        string? progress = null, loss = null;
        foreach (var line in Encoding.UTF8.GetString(buffer, 0, read).Split('\n').Reverse())
        {
            var said = Parse(line);
            if (progress is null && (string?)said?["type"] == "progress")
            {
                progress = string.Create(CultureInfo.InvariantCulture, $"{(long?)said["done"]:N0}{((long?)said["total"] is { } total ? $" of {total.ToString("N0", CultureInfo.InvariantCulture)}" : "")} {said["unit"]}");
            }
            else if (loss is null && (string?)said?["type"] == "metric" && (string?)said["name"] == "loss")
            {
                loss = string.Create(CultureInfo.InvariantCulture, $"loss {(double?)said["value"]:G4}");
            }
        }

        var text = string.Join(", ", new[] { progress, loss }.OfType<string>());
        return new AttemptTail(text.Length == 0 ? null : text, new DateTimeOffset(file.LastWriteTimeUtc).ToUnixTimeMilliseconds());
    }

    private static JsonObject? Parse(string line)
    {
        try
        {
            return JsonNode.Parse(line) as JsonObject;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
