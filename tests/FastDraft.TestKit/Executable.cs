using System.Diagnostics;

namespace FastDraft.TestKit;

/// <summary>What a process said and how it ended.</summary>
public sealed record Outcome(int ExitCode, string Out, string Error);

/// <summary>The built <c>fastdraft</c>, run as a person runs it: output piped, no colour, its own working folder.</summary>
public static class Executable
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(10);

    /// <summary>The folder of Pipeline.sln.</summary>
    public static string Repository { get; } = FindRepository();

    /// <summary>The executable of the same configuration as the running tests.</summary>
    public static string File { get; } = Path.Join(
        Repository, "artifacts", "bin", "FastDraft.Cli", Path.GetFileName(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory)), OperatingSystem.IsWindows() ? "fastdraft.exe" : "fastdraft");

    public static Task<Outcome> RunAsync(string folder, params string[] arguments) => RunAsync(folder, new Dictionary<string, string>(), arguments);

    /// <exception cref="TimeoutException">It ran longer than ten minutes; it has been killed.</exception>
    public static async Task<Outcome> RunAsync(string folder, IReadOnlyDictionary<string, string> environment, params string[] arguments)
    {
        using var process = Start(folder, environment, arguments);
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        using var limit = new CancellationTokenSource(Limit);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"fastdraft {string.Join(' ', arguments)} ran longer than {Limit}.");
        }

        return new Outcome(process.ExitCode, await output, await error);
    }

    public static Process Start(string folder, IReadOnlyDictionary<string, string> environment, params string[] arguments)
    {
        // As from a terminal: a shell that runs tests in the background has them, and all they start, ignore Ctrl-C.
        var start = new ProcessStartInfo("env") { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach (var argument in (string[])["--default-signal=INT", File, .. arguments])
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment.Remove("FASTDRAFT_DATA");
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }

    private static string FindRepository()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (System.IO.File.Exists(Path.Join(folder.FullName, "Pipeline.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException("Pipeline.sln is in no folder above the tests.");
    }
}
