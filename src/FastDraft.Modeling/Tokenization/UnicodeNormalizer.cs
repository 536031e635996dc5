using System.Globalization;
using System.Text;

namespace FastDraft.Modeling.Tokenization;

/// <summary>
/// Unicode normalization (UAX 15) from a table of our own: the same ids on every machine, whatever ICU it has, and none is needed.
/// Linear in the text but for runs of combining marks, which are sorted.
/// </summary>
internal static class UnicodeNormalizer
{
    private const int SBase = 0xAC00, LBase = 0x1100, VBase = 0x1161, TBase = 0x11A7, LCount = 19, VCount = 21, TCount = 28;
    private const int FirstWithClassOrCanonical = 0xC0, FirstWithCompatibility = 0xA0;

    private static readonly Lazy<Tables> Data = new(Read);

    /// <summary>A lone surrogate stays as it is.</summary>
    public static string Normalize(string text, NormalizationForm form)
    {
        var compatibility = form is NormalizationForm.FormKC or NormalizationForm.FormKD;
        if (text.AsSpan().IndexOfAnyExceptInRange('\0', (char)((compatibility ? FirstWithCompatibility : FirstWithClassOrCanonical) - 1)) < 0)
        {
            return text;
        }

        var points = new List<int>(text.Length);
        for (var i = 0; i < text.Length; i++)
        {
            var isPair = char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]);
            Decompose(isPair ? char.ConvertToUtf32(text[i], text[++i]) : text[i], compatibility, points);
        }

        Order(points);
        if (form is NormalizationForm.FormC or NormalizationForm.FormKC)
        {
            Compose(points);
        }

        var result = new StringBuilder(points.Count);
        foreach (var point in points)
        {
            if (point < 0x10000)
            {
                result.Append((char)point);
            }
            else
            {
                result.Append(char.ConvertFromUtf32(point));
            }
        }

        return result.ToString();
    }

    private static void Decompose(int point, bool compatibility, List<int> into)
    {
        if (point is >= SBase and < SBase + (LCount * VCount * TCount))
        {
            var index = point - SBase;
            into.Add(LBase + (index / (VCount * TCount)));
            into.Add(VBase + (index % (VCount * TCount) / TCount));
            if (index % TCount > 0)
            {
                into.Add(TBase + (index % TCount));
            }
        }
        else if (Data.Value.Decompositions.TryGetValue(point, out var found) && (found.Canonical || compatibility))
        {
            foreach (var part in found.Parts)
            {
                Decompose(part, compatibility, into);
            }
        }
        else
        {
            into.Add(point);
        }
    }

    /// <summary>Every run of combining marks by class; equal classes keep their order.</summary>
    private static void Order(List<int> points)
    {
        var classes = Data.Value.Classes;
        for (var i = 0; i < points.Count; i++)
        {
            var end = i;
            while (end < points.Count && classes.ContainsKey(points[end]))
            {
                end++;
            }

            var isOrdered = true;
            for (var k = i + 1; k < end; k++)
            {
                isOrdered &= classes[points[k - 1]] <= classes[points[k]];
            }

            if (!isOrdered)
            {
                var sorted = points.GetRange(i, end - i).OrderBy(p => classes[p]).ToList();
                for (var k = 0; k < sorted.Count; k++)
                {
                    points[i + k] = sorted[k];
                }
            }

            i = Math.Max(i, end);
        }
    }

    private static void Compose(List<int> points)
    {
        var (classes, pairs) = (Data.Value.Classes, Data.Value.Pairs);
        var (starter, lastClass, written) = (-1, 0, 0);
        for (var i = 0; i < points.Count; i++)
        {
            var point = points[i];
            var ownClass = classes.GetValueOrDefault(point);

            // Blocked when a mark of the same or a higher class, or another starter, stands between.
            var adjacent = starter >= 0 && written == starter + 1;
            if (starter >= 0 && (adjacent || (lastClass < ownClass && lastClass != 0)) && Pair(points[starter], point, pairs) is { } composed)
            {
                points[starter] = composed;
                continue;
            }

            if (ownClass == 0)
            {
                starter = written;
            }

            lastClass = ownClass;
            points[written++] = point;
        }

        points.RemoveRange(written, points.Count - written);
    }

    private static int? Pair(int first, int second, Dictionary<(int, int), int> pairs)
    {
        if (first is >= LBase and < LBase + LCount && second is >= VBase and < VBase + VCount)
        {
            return SBase + ((((first - LBase) * VCount) + (second - VBase)) * TCount);
        }

        if (first is >= SBase and < SBase + (LCount * VCount * TCount) && (first - SBase) % TCount == 0 && second is > TBase and < TBase + TCount)
        {
            return first + (second - TBase);
        }

        return pairs.TryGetValue((first, second), out var composed) ? composed : null;
    }

    private static Tables Read()
    {
        var tables = new Tables([], [], []);
        using var reader = new StreamReader(typeof(UnicodeNormalizer).Assembly.GetManifestResourceStream("UnicodeNormalization.txt")!);
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith('#'))
            {
                continue;
            }

            var fields = line.Split(' ');
            var point = Hex(fields[0]);
            if (fields[1] != "0")
            {
                tables.Classes[point] = int.Parse(fields[1], CultureInfo.InvariantCulture);
            }

            if (fields.Length > 3)
            {
                int[] parts = [.. fields.Skip(3).Select(Hex)];
                tables.Decompositions[point] = (fields[2] != "~", parts);
                if (fields[2] == "=")
                {
                    tables.Pairs[(parts[0], parts[1])] = point;
                }
            }
        }

        return tables;

        static int Hex(string text) => int.Parse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
    }

    private sealed record Tables(Dictionary<int, int> Classes, Dictionary<int, (bool Canonical, int[] Parts)> Decompositions, Dictionary<(int, int), int> Pairs);
}
