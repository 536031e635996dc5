using System.CommandLine;

namespace FastDraft.Cli;

internal static class CommonOptions
{
    public static Option<string> Format { get; } = NewFormat();

    public static Option<string> Data { get; } = new("--data")
    {
        Description = "Folder of the embedded database and artifacts (FASTDRAFT_DATA)",
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable("FASTDRAFT_DATA") is { Length: > 0 } configured ? configured : ".fastdraft",
    };

    public static bool IsJson(ParseResult parsed) => parsed.GetValue(Format) == "json";

    public static string DataFolder(ParseResult parsed) => Path.GetFullPath(parsed.GetValue(Data)!);

    private static Option<string> NewFormat()
    {
        var option = new Option<string>("--output", "-o") { Description = "text or json", DefaultValueFactory = _ => "text" };
        option.AcceptOnlyFromAmong("text", "json");
        return option;
    }
}
