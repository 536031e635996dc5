using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Designer.Instances;

/// <summary>What an attempt said last, from the end of its log: <see cref="Text"/> such as <c>1,200 of 4,000 steps, loss 3.21</c>, and when.</summary>
internal sealed record AttemptTail(string? Text, long WrittenAt)
{
    private const int Chunks = 2;
    private const int Chars = 16_384;

    public static async Task<AttemptTail> ReadAsync(PipelineDbContext db, Guid attempt, CancellationToken ct)
    {
        var newest = await db.AttemptLog.AsNoTracking().Where(l => l.AttemptId == attempt).OrderByDescending(l => l.Number).Take(Chunks).ToListAsync(ct);
        var said = string.Concat(newest.AsEnumerable().Reverse().Select(l => l.Lines));
        return new AttemptTail(TextOf(said.AsSpan(Math.Max(0, said.Length - Chars)).ToString()), newest.Count == 0 ? 0 : newest[0].At);
    }

    private static string? TextOf(string lines)
    {
        string? progress = null, loss = null;
        foreach (var line in lines.Split('\n').Reverse())
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
        return text.Length == 0 ? null : text;
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
