using System.Text;

namespace FastDraft.Cli.Terminal;

/// <summary>
/// A few lines at the bottom of a terminal that are written again in place. Every line is cut to the width, so that the number of
/// lines on the screen is the number written; the cursor is shown again when the process leaves the screen.
/// </summary>
internal sealed class Screen : IDisposable
{
    private const string HideCursor = "\u001b[?25l", ShowCursor = "\u001b[?25h", ClearBelow = "\u001b[J", Reset = "\u001b[0m";

    private readonly TextWriter _out = Console.Error;
    private int _lines;

    public Screen() => _out.Write(HideCursor);

    /// <summary>People look: a terminal on both streams that can move its cursor.</summary>
    public static bool IsInteractive => !Console.IsOutputRedirected && !Console.IsErrorRedirected && Environment.GetEnvironmentVariable("TERM") is not (null or "" or "dumb");

    public static bool HasColor => IsInteractive && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));

    public static (int Width, int Height) Size
    {
        get
        {
            try
            {
                return (Console.WindowWidth > 0 ? Console.WindowWidth : 80, Console.WindowHeight > 0 ? Console.WindowHeight : 24);
            }
            catch (IOException)
            {
                return (80, 24);
            }
        }
    }

    public static string Paint(string text, string color) => HasColor && text.Length > 0 ? $"\u001b[{color}m{text}{Reset}" : text;

    public void Write(IReadOnlyList<string> lines)
    {
        var (width, _) = Size;
        var frame = new StringBuilder();
        if (_lines > 0)
        {
            frame.Append('\r').Append(System.Globalization.CultureInfo.InvariantCulture, $"\u001b[{_lines}A");
        }

        frame.Append(ClearBelow);
        foreach (var line in lines)
        {
            frame.Append(Cut(line, width - 1)).Append('\n');
        }

        _lines = lines.Count;
        _out.Write(frame);
    }

    public void Dispose() => _out.Write(ShowCursor);

    /// <summary>How many cells a text takes.</summary>
    internal static int Cells(string text) => Visible(text).Sum(c => c.Cells);

    /// <summary>A text in lines of at most so many cells, broken at spaces, and inside a word only where it alone is longer.</summary>
    internal static IReadOnlyList<string> Wrap(string text, int width)
    {
        var lines = new List<string>();
        var line = string.Empty;
        foreach (var word in text.Split(' '))
        {
            var rest = word;
            if (line.Length > 0 && Cells(line) + 1 + Cells(rest) > width)
            {
                lines.Add(line);
                line = string.Empty;
            }

            while (line.Length == 0 && Cells(rest) > width)
            {
                var part = Cut(rest, width);
                lines.Add(part);
                rest = rest[part.Length..];
            }

            line = line.Length == 0 ? rest : line + " " + rest;
        }

        lines.Add(line);
        return lines;
    }

    /// <summary>At most so many cells of a line; colour codes take none, and a cut line ends its colour.</summary>
    internal static string Cut(string line, int width)
    {
        var cells = 0;
        foreach (var (at, taken) in Visible(line))
        {
            cells += taken;
            if (cells > width)
            {
                return line[..at] + (line.Contains('\u001b', StringComparison.Ordinal) ? Reset : string.Empty);
            }
        }

        return line;
    }

    /// <summary>The characters that stand on the screen and the cells each takes: a colour code none, the bolt two.</summary>
    private static IEnumerable<(int At, int Cells)> Visible(string text)
    {
        for (var i = 0; i < text.Length; i++)
        {
            if (text[i] == '\u001b')
            {
                i = text.IndexOf('m', i);
                continue;
            }

            yield return (i, text[i] == '⚡' ? 2 : 1);
        }
    }
}
