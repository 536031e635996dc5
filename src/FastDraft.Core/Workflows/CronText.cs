using Cronos;

namespace FastDraft.Core.Workflows;

/// <summary>Cron expressions as Elsa reads them: minute, hour, day, month, weekday, with seconds in front where there are six fields.</summary>
public static class CronText
{
    /// <returns>What is wrong with the expression, or null.</returns>
    public static string? Check(string? text) => TryParse(text, out _, out var error) ? null : error;

    /// <summary>The first occurrence after <paramref name="after"/>; null where there is none.</summary>
    /// <exception cref="FormatException">The text is no cron expression.</exception>
    public static DateTimeOffset? Next(string text, DateTimeOffset after, TimeZoneInfo zone) =>
        TryParse(text, out var cron, out var error) ? cron!.GetNextOccurrence(after, zone) : throw new FormatException(error);

    private static bool TryParse(string? text, out CronExpression? cron, out string? error)
    {
        (cron, error) = (null, null);
        var numFields = (text ?? "").Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Length;
        try
        {
            cron = CronExpression.Parse(text ?? "", numFields == 6 ? CronFormat.IncludeSeconds : CronFormat.Standard);

            // Cron names no year, so what has not come in the decades after any date never does.
            error = cron.GetNextOccurrence(DateTime.UnixEpoch) is null ? $"'{text}' never occurs" : null;
            return error is null;
        }
        catch (CronFormatException e)
        {
            error = $"'{text}' is no cron expression: {e.Message}";
            return false;
        }
    }
}
