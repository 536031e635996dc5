using System.Globalization;
using FastDraft.Persistence;

namespace FastDraft.Server.ConsolePages;

/// <summary>A line of a chart. <paramref name="Color"/>: the number of its series, from 1 to 5.</summary>
public sealed record ChartLine(string Name, IReadOnlyList<(double X, double Y)> Points, int Color = 1);

/// <summary>
/// The curves of one attempt while it works: what was there at first, thinned by the database, and what came since. A curve that grew
/// loses every second of its points, so it stays as small however long the attempt takes.
/// </summary>
public sealed class Curves
{
    /// <summary>Points of a curve as it is first read; it is thinned again at twice as many.</summary>
    public const int NumPoints = 400;

    private static readonly string[] First = ["loss", "acceptance", "validation_loss", "tokens_per_second", "gradient_norm"];

    private readonly SortedDictionary<string, List<(double X, double Y)>> curves = new(StringComparer.Ordinal);

    /// <summary>The number of the newest metric point in it.</summary>
    public long Last { get; private set; }

    public IEnumerable<string> Names => curves.Keys;

    public IReadOnlyList<(double X, double Y)> this[string name] => curves[name];

    public double? Newest(string name) => curves.TryGetValue(name, out var points) ? points[^1].Y : null;

    public void Add(IEnumerable<CurvePoint> points)
    {
        foreach (var point in points)
        {
            Last = Math.Max(Last, point.Last);
            if (!curves.TryGetValue(point.Name, out var curve))
            {
                curves[point.Name] = curve = [];
            }

            // An attempt that resumes does some steps again: the newer value holds.
            while (curve.Count > 0 && curve[^1].X >= point.Step)
            {
                curve.RemoveAt(curve.Count - 1);
            }

            curve.Add((point.Step, point.Value));
            if (curve.Count > 2 * NumPoints)
            {
                var newest = curve[^1];
                curves[point.Name] = [.. curve.Where((_, i) => i % 2 == 0 && i < curve.Count - 1), newest];
            }
        }
    }

    /// <summary>What a person looks at first comes first.</summary>
    public static int Rank(string name) => Array.IndexOf(First, name) is var i && i < 0 ? First.Length : i;

    /// <summary>A metric's name as a title: <c>tokens_per_second</c> becomes Tokens per second.</summary>
    public static string Title(string name) => name switch
    {
        "loss" => "Training loss",
        "acceptance" => "Acceptance on validation",
        "validation_loss" => "Loss on validation",
        _ when name.Length > 0 => char.ToUpper(name[0], CultureInfo.InvariantCulture) + name[1..].Replace('_', ' '),
        _ => name,
    };
}
