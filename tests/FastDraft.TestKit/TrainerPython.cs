using System.Diagnostics;

namespace FastDraft.TestKit;

/// <summary>
/// The Python that trains in tests, FASTDRAFT_PYTHON. Facts skip loudly where it has no torch and safetensors; a run with
/// FASTDRAFT_REQUIRE_SERVERS=1 fails instead, unless the wheels it is made of (../shared) are absent, too.
/// </summary>
public static class TrainerPython
{
    private static readonly Lazy<string?> Problem = new(Probe);

    public const string Missing = "SKIPPED: FASTDRAFT_PYTHON names no Python with torch and safetensors (.ci/run makes one).";

    public static string Path => Environment.GetEnvironmentVariable("FASTDRAFT_PYTHON") is { Length: > 0 } configured ? configured : "python3";

    public static bool Present => Problem.Value is null
        || (Environment.GetEnvironmentVariable("FASTDRAFT_REQUIRE_SERVERS") == "1" && SharedAssets.Present
            ? throw new InvalidOperationException($"'{Path}' cannot train: {Problem.Value}")
            : false);

    private static string? Probe()
    {
        var start = new ProcessStartInfo(Path) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in (string[])["-c", "import torch, safetensors"])
        {
            start.ArgumentList.Add(argument);
        }

        try
        {
            using var process = Process.Start(start)!;
            var error = process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0 ? null : error.Trim().Split('\n')[^1];
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return e.Message;
        }
    }
}
