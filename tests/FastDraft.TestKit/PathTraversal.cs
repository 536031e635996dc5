namespace FastDraft.TestKit;

/// <summary>
/// Texts that lead out of a folder where somebody takes them for a name: ways up, written and encoded in every way that somebody once
/// forgot, and names that file systems treat as something else. Made by rules, so that a new trick is one more word in a list.
/// </summary>
public static class PathTraversal
{
    private static readonly string[] Ups =
        ["..", "%2e%2e", "%252e%252e", ".%2e", "..;", "....", "\uff0e\uff0e", "%c0%ae%c0%ae", "%u002e%u002e"];

    private static readonly string[] Separators =
        ["/", "\\", "%2f", "%5c", "%252f", "%255c", "%c0%af", "%e0%80%af", "\uff0f", "\u2215", "//", "/./"];

    private static readonly string[] Endings =
        ["", "%00", "%00.png", "\0", "#", "?", "#/x", "?/x", ".", " ", "/", "::$DATA", "%0a", "\r\n", "*", "~"];

    private static readonly string[] Reserved =
    [
        ".", "..", "~", "*", "~root", "-", "--help", "-rf", "", " ", "CON", "NUL", "AUX", "PRN", "COM1", "LPT1", "CON.json", "nul.txt", "C:", "C:\\", "\\\\host\\share", "\\\\?\\C:\\", "file:///",
        "%", "%%", "%s%n", "$HOME", "${HOME}", "`id`", "$(id)", ";id", "|id", "'", "\"", "<x>", "{0}", "{{7*7}}", "health", "ready", "latest", "null", "\u202e", "\ufeff", "\ud800",
    ];

    /// <param name="root">The folder that must not be left.</param>
    /// <param name="outside">A file two folders above it, relative to that place.</param>
    /// <param name="absolute">The same file.</param>
    public static IReadOnlyList<string> Corpus(string root, string outside, string absolute)
    {
        var ways = from up in Ups
                   from separator in Separators
                   from depth in (int[])[1, 2, 8]
                   select string.Concat(Enumerable.Repeat(up + separator, depth)) + outside;
        var endings = from ending in Endings
                      from up in Ups.Take(4)
                      from separator in Separators.Take(3)
                      select $"x{separator}{up}{separator}{up}{separator}{up}{separator}{outside}{ending}";
        string[] absolutes =
        [
            absolute, "/" + absolute, "file://" + absolute, absolute.Replace("/", "%2f", StringComparison.Ordinal), absolute.Replace("/", "\\", StringComparison.Ordinal), $"{root}/../../{outside}",
            $"{root}{absolute}", $"x\0{absolute}", "/etc/passwd", "/proc/self/environ", "/dev/stdin",
        ];
        string[] longs = [new('a', 4096), string.Concat(Enumerable.Repeat("../", 1365)) + outside, new string('a', 300) + "/../../" + outside, new string('.', 1000)];
        return [.. ways.Concat(endings).Concat(absolutes).Concat(longs).Concat(Reserved).Distinct(StringComparer.Ordinal)];
    }
}
