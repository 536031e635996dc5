using System.Globalization;

namespace FastDraft.Server.ConsolePages;

/// <summary>A layout in pixels: boxes of one size, and the lines between them.</summary>
public sealed class GraphDrawing(GraphLayout layout)
{
    public const int BoxWidth = 184, BoxHeight = 58;

    private const int Gap = 24, RowGap = 16;

    public double Width => Math.Max(1, (layout.NumColumns * (BoxWidth + Gap)) - Gap + 4);

    public double Height => Math.Max(1, (layout.NumRows * (BoxHeight + RowGap)) - RowGap + 4);

    /// <summary>The upper left corner of a node's box.</summary>
    public (double X, double Y) At(string node) => At(layout[node]);

    /// <summary>The path of a line from the right of one box to the left of another, for an SVG.</summary>
    public string Line(string from, string to)
    {
        var (start, end) = (At(from), At(to));
        var (x, y) = (start.X + BoxWidth, start.Y + (BoxHeight / 2.0));
        var path = $"M{N(x)} {N(y)}";
        foreach (var bend in layout.Bends(from, to).Select(At))
        {
            Curve(bend.X, bend.Y + (BoxHeight / 2.0));
            path += $"H{N(bend.X + BoxWidth)}";
            x = bend.X + BoxWidth;
        }

        Curve(end.X, end.Y + (BoxHeight / 2.0));
        return path;

        void Curve(double toX, double toY)
        {
            var middle = (x + toX) / 2;
            path += $"C{N(middle)} {N(y)} {N(middle)} {N(toY)} {N(toX)} {N(toY)}";
            (x, y) = (toX, toY);
        }
    }

    /// <summary>A number as SVG reads it.</summary>
    public static string N(double value) => value.ToString("0.#", CultureInfo.InvariantCulture);

    public static string Cut(string text, int length) => text.Length <= length ? text : text[..(length - 1)] + "\u2026";

    private static (double X, double Y) At(Place place) => (2 + (place.Column * (BoxWidth + Gap)), 2 + (place.Row * (BoxHeight + RowGap)));
}
