using System.CommandLine;

namespace FastDraft.Cli;

internal static class SharedOptions
{
    public static Option<string> Format { get; } = NewFormat();

    public static Option<string> Data { get; } = new("--data")
    {
        Description = "Folder of the embedded database and artifacts (FASTDRAFT_DATA)",
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable("FASTDRAFT_DATA") is { Length: > 0 } configured ? configured : ".fastdraft",
    };

    public static bool IsJson(ParseResult parsed) => parsed.GetValue(Format) == "json";

    public static string DataFolder(ParseResult parsed) => Path.GetFullPath(parsed.GetValue(Data)!);

    public static Option<string[]> NewSet() => new("--set") { Description = "Workflow input: name=value; may be given several times", DefaultValueFactory = _ => [] };

    public static Option<bool> NewQuiet() => new("--quiet", "-q") { Description = "Print only the run's id" };

    /// <exception cref="CliException">--quiet and -o json ask for different things on stdout.</exception>
    public static bool IsQuiet(ParseResult parsed, Option<bool> quiet) => parsed.GetValue(quiet) && IsJson(parsed)
        ? throw new CliException(FastDraft.Core.Stages.ExitCode.Config, "--quiet and -o json cannot both be given.", "one of them")
        : parsed.GetValue(quiet);

    private static Option<string> NewFormat()
    {
        var option = new Option<string>("--output", "-o") { Description = "text or json", DefaultValueFactory = _ => "text" };
        option.AcceptOnlyFromAmong("text", "json");
        return option;
    }
}
