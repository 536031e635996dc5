using System.Globalization;

namespace FastDraft.Server;

/// <summary>Numbers as a person reads them: with unit, without needless digits.</summary>
public static class Figures
{
    /// <summary>12:40, or 3:05:12 from an hour on.</summary>
    public static string Duration(TimeSpan span) => span.TotalHours >= 1
        ? string.Create(CultureInfo.InvariantCulture, $"{(int)span.TotalHours}:{span.Minutes:D2}:{span.Seconds:D2}")
        : string.Create(CultureInfo.InvariantCulture, $"{span.Minutes}:{span.Seconds:D2}");

    /// <summary>What something took: tenths of a second below a minute.</summary>
    public static string Took(DateTimeOffset from, DateTimeOffset to) => to - from is var span && span < TimeSpan.FromMinutes(1)
        ? string.Create(CultureInfo.InvariantCulture, $"{Math.Max(0, span.TotalSeconds):F1} s") : Duration(span);

    /// <summary>How long is left, no more exact than it is known: 40 s, 6 min, 2 h 10 min.</summary>
    public static string Left(TimeSpan span) => Roughly(span) + " left";

    /// <summary>40 s, 6 min, 2 h 10 min.</summary>
    public static string Roughly(TimeSpan span) => span.TotalSeconds < 90
        ? string.Create(CultureInfo.InvariantCulture, $"{Math.Max(1, Math.Round(span.TotalSeconds)):F0} s")
        : span.TotalMinutes < 90
            ? string.Create(CultureInfo.InvariantCulture, $"{span.TotalMinutes:F0} min")
            : string.Create(CultureInfo.InvariantCulture, $"{(int)span.TotalHours} h {span.Minutes} min");

    /// <summary>73,404 or 1.37 M.</summary>
    public static string Count(double value) => value switch
    {
        >= 1e9 => (value / 1e9).ToString("F2", CultureInfo.InvariantCulture) + " G",
        >= 1e6 => (value / 1e6).ToString("F2", CultureInfo.InvariantCulture) + " M",
        _ => value.ToString("N0", CultureInfo.InvariantCulture),
    };

    /// <summary>1.9 MiB</summary>
    public static string Bytes(long value) => value switch
    {
        >= 1L << 30 => (value / (double)(1L << 30)).ToString("F1", CultureInfo.InvariantCulture) + " GiB",
        >= 1L << 20 => (value / (double)(1L << 20)).ToString("F1", CultureInfo.InvariantCulture) + " MiB",
        >= 1L << 10 => (value / (double)(1L << 10)).ToString("F1", CultureInfo.InvariantCulture) + " KiB",
        _ => value.ToString(CultureInfo.InvariantCulture) + " B",
    };

    /// <summary>24 Nov 14:02, in UTC.</summary>
    public static string Day(DateTimeOffset at) => at.UtcDateTime.ToString("d MMM HH:mm", CultureInfo.InvariantCulture);

    public static string Time(DateTimeOffset at) => at.ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture);

    /// <summary>The first half of a run's id, unique to the millisecond; every command takes it.</summary>
    public static string Short(Guid run) => run.ToString()[..13];

    /// <summary>Enough of a digest to be unique in a store; every command takes it.</summary>
    public static string Short(string digest) => digest.Length > 19 ? digest[..19] : digest;

    /// <summary>As much of a digest as a page shows beside a link to the whole: <c>5c0a91be</c>.</summary>
    public static string Brief(string digest) => digest["sha256:".Length..][..8];
}
