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

    public static Option<string[]> NewAccelerators() => new("--accelerator")
    {
        Description = "Do stages of this accelerator: cpu, cuda, gaudi, or none to do no stages; may be given several times (default: what this machine has)",
        DefaultValueFactory = _ => [.. ComputeEnvironment.Accelerators()],
    };

    /// <exception cref="CliException">One that is none, or none beside one.</exception>
    public static IReadOnlyList<string> Accelerators(ParseResult parsed, Option<string[]> accelerators)
    {
        var given = parsed.GetValue(accelerators)!.Distinct(StringComparer.Ordinal).ToList();
        return given is ["none"] ? []
            : given.Except(ComputeEnvironment.KnownAccelerators).FirstOrDefault() is { } unknown
                ? throw new CliException(FastDraft.Core.Stages.ExitCode.Config, $"--accelerator '{unknown}': there are {string.Join(", ", ComputeEnvironment.KnownAccelerators)}, or none alone.", "--accelerator cpu")
                : given;
    }

    private static Option<string> NewFormat()
    {
        var option = new Option<string>("--output", "-o") { Description = "text or json", DefaultValueFactory = _ => "text" };
        option.AcceptOnlyFromAmong("text", "json");
        return option;
    }
}
