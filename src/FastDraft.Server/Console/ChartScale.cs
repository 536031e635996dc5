using System.Globalization;

namespace FastDraft.Server.ConsolePages;

/// <summary>Where values lie on an axis, and the round values to write beside it.</summary>
public sealed record ChartScale(double Low, double High, IReadOnlyList<double> Ticks)
{
    /// <summary>Round steps (1, 2, 5, 10 ...) that cover the values, about <paramref name="numTicks"/> of them.</summary>
    public static ChartScale Of(IEnumerable<double> values, int numTicks)
    {
        var finite = values.Where(double.IsFinite).ToList();
        if (finite.Count == 0)
        {
            return new ChartScale(0, 1, [0, 1]);
        }

        var (low, high) = (finite.Min(), finite.Max());
        if (high - low <= Math.Abs(high) * 1e-9)
        {
            var around = low == 0 ? 1 : Math.Abs(low) / 2;
            (low, high) = (low - around, high + around);
        }

        var raw = (high - low) / numTicks;
        var power = Math.Pow(10, Math.Floor(Math.Log10(raw)));
        var step = power * (raw / power) switch { <= 1 => 1, <= 2 => 2, <= 5 => 5, _ => 10 };
        var first = Math.Floor((low / step) + 1e-9);
        var last = Math.Ceiling((high / step) - 1e-9);
        return new ChartScale(first * step, last * step, [.. Enumerable.Range(0, (int)(last - first) + 1).Select(i => (first + i) * step)]);
    }

    /// <summary>From 0 at <see cref="Low"/> to 1 at <see cref="High"/>.</summary>
    public double At(double value) => (value - Low) / (High - Low);

    /// <summary>With as many digits as the steps need.</summary>
    public string Label(double value)
    {
        var step = Ticks.Count > 1 ? Ticks[1] - Ticks[0] : 1;
        return Math.Abs(High) >= 1e12 ? In(1e12, " T") : Math.Abs(High) >= 1e9 ? In(1e9, " G") : Math.Abs(High) >= 1e6 ? In(1e6, " M")
            : step >= 1 ? value.ToString("N0", CultureInfo.InvariantCulture)
            : value.ToString("F" + Math.Clamp((int)Math.Ceiling(-Math.Log10(step) - 1e-9), 0, 8), CultureInfo.InvariantCulture);

        string In(double unit, string name) => (value / unit).ToString("0.##", CultureInfo.InvariantCulture) + name;
    }
}
