using System.Globalization;
using System.Net;
using System.Text;

namespace FastDraft.Stages.EvaluateDraft;

/// <summary>A line or a set of points; <see cref="Color"/> is a CSS variable, <see cref="Bars"/> are interval ends per point.</summary>
internal sealed record PlotSeries(
    string Name, string Color, IReadOnlyList<(double X, double Y)> Points, IReadOnlyList<(double Low, double High)>? Bars = null, bool Dashed = false, bool Line = true);

/// <summary>Inline SVG without scripts. Colours come from the page's CSS variables, so both themes work.</summary>
internal static class SvgPlots
{
    private const double Width = 480, Height = 230, Left = 38, Top = 12, Right = 12, Bottom = 40;

    public static string Lines(
        string description, string xTitle, IReadOnlyList<PlotSeries> series, double? reference = null, (double X, double Y, string Text)? label = null, bool fromZero = false)
    {
        var points = series.SelectMany(s => s.Points).Where(p => double.IsFinite(p.Y)).ToList();
        if (points.Count == 0)
        {
            return """<p class="muted small">Nothing was measured here.</p>""";
        }

        var ends = series.SelectMany(s => s.Bars ?? []).SelectMany(b => new[] { b.Low, b.High }).Where(double.IsFinite);
        var values = points.Select(p => p.Y).Concat(ends).Concat(reference is { } r ? [r] : []).ToList();
        var (low, high) = (fromZero ? 0 : values.Min(), values.Max());
        var step = NiceStep((high - low) / 4);
        low = Math.Floor((low / step) + 1e-9) * step;
        high = Math.Max(low + step, Math.Ceiling((high / step) - 1e-9) * step);
        if (!fromZero && label is not null)
        {
            high += step / 2;
        }

        var (xLow, xHigh) = (points.Min(p => p.X) - .5, points.Max(p => p.X) + .5);
        double X(double x) => Left + ((Width - Left - Right) * (x - xLow) / (xHigh - xLow));
        double Y(double y) => Top + ((Height - Top - Bottom) * (1 - ((y - low) / (high - low))));

        var svg = new StringBuilder();
        svg.Append(CultureInfo.InvariantCulture, $"""<svg viewBox="0 0 {Width} {Height}" width="100%" role="img" aria-label="{WebUtility.HtmlEncode(description)}">""");
        for (var tick = low; tick <= high + 1e-9; tick += step)
        {
            svg.Append(CultureInfo.InvariantCulture, $"""<line x1="{Left}" x2="{Width - Right}" y1="{Y(tick):F1}" y2="{Y(tick):F1}" stroke="var(--line)"/>""");
            Text(svg, Left - 6, Y(tick) + 4, tick.ToString(step < .1 ? "F2" : "F1", CultureInfo.InvariantCulture), "end");
        }

        foreach (var x in points.Select(p => p.X).Distinct().Order())
        {
            Text(svg, X(x), Height - Bottom + 16, x.ToString("0.##", CultureInfo.InvariantCulture), "middle");
        }

        Text(svg, (Left + Width - Right) / 2, Height - 6, xTitle, "middle");
        if (reference is { } line)
        {
            svg.Append(CultureInfo.InvariantCulture, $"""<line x1="{Left}" x2="{Width - Right}" y1="{Y(line):F1}" y2="{Y(line):F1}" stroke="var(--line-strong)" stroke-width="1.5"/>""");
        }

        foreach (var one in series)
        {
            if (one.Line)
            {
                var path = string.Join(' ', one.Points.Where(p => double.IsFinite(p.Y)).Select(p => string.Create(CultureInfo.InvariantCulture, $"{X(p.X):F1},{Y(p.Y):F1}")));
                svg.Append(CultureInfo.InvariantCulture, $"""<polyline fill="none" stroke="var({one.Color})" stroke-width="1.8"{(one.Dashed ? " stroke-dasharray=\"5 4\"" : "")} points="{path}"/>""");
            }

            for (var i = 0; i < one.Points.Count; i++)
            {
                var (x, y) = one.Points[i];
                if (!double.IsFinite(y))
                {
                    continue;
                }

                if (one.Bars is { } bars && double.IsFinite(bars[i].Low) && double.IsFinite(bars[i].High))
                {
                    svg.Append(CultureInfo.InvariantCulture, $"""<line x1="{X(x):F1}" x2="{X(x):F1}" y1="{Y(bars[i].Low):F1}" y2="{Y(bars[i].High):F1}" stroke="var({one.Color})" stroke-width="1.6"/>""");
                }

                if (!one.Dashed)
                {
                    var radius = label is { } l && l.X == x ? 5 : 3;
                    svg.Append(CultureInfo.InvariantCulture, $"""<circle cx="{X(x):F1}" cy="{Y(y):F1}" r="{radius}" fill="var({one.Color})"/>""");
                }
            }
        }

        if (label is { } mark)
        {
            svg.Append(CultureInfo.InvariantCulture, $"""<text x="{X(mark.X):F1}" y="{Math.Max(12, Y(mark.Y) - 8):F1}" font-size="12" font-weight="600" text-anchor="middle" fill="var(--ink)">{WebUtility.HtmlEncode(mark.Text)}</text>""");
        }

        return svg.Append("</svg>").ToString();
    }

    /// <summary>One bar cut into named times. Narrow parts are named in the legend only.</summary>
    public static string TimeBar(IReadOnlyList<(string Name, double Seconds, string Color)> parts)
    {
        var total = parts.Sum(p => p.Seconds);
        var svg = new StringBuilder("""<svg viewBox="0 0 1020 30" width="100%" role="img" aria-label="Time in one block">""");
        var x = 0.0;
        foreach (var (_, seconds, color) in parts)
        {
            var width = total > 0 ? seconds / total * 1020 : 0;
            svg.Append(CultureInfo.InvariantCulture, $"""<rect x="{x:F1}" y="2" width="{Math.Max(0, width - 2):F1}" height="26" rx="4" fill="var({color})"/>""");
            x += width;
        }

        return svg.Append("</svg>").ToString();
    }

    private static void Text(StringBuilder svg, double x, double y, string text, string anchor) => svg.Append(
        CultureInfo.InvariantCulture, $"""<text x="{x:F1}" y="{y:F1}" font-size="11" text-anchor="{anchor}" fill="var(--ink-3)">{WebUtility.HtmlEncode(text)}</text>""");

    private static double NiceStep(double raw)
    {
        if (raw <= 0)
        {
            return .1;
        }

        var power = Math.Pow(10, Math.Floor(Math.Log10(raw)));
        return (raw / power) switch { <= 1 => power, <= 2 => 2 * power, <= 5 => 5 * power, _ => 10 * power };
    }
}
