using System.Diagnostics;
using System.Security.Cryptography;

namespace FastDraft.TestKit;

/// <summary>
/// Virtual environments with real peers and servers, each built once from the wheels of the reference assets and kept under the temporary
/// folder. FASTDRAFT_PEERS names a folder that has some of them already, each under its own name.
/// </summary>
public static class WheelEnvironment
{
    /// <summary>Why there is none here; null where there can be one.</summary>
    public static string? Missing(string name) => Existing(name) is not null || (SharedAssets.Present && File.Exists(Requirements(name)))
        ? null
        : $"SKIPPED: the wheels of {name} (../shared/wheels) are not here.";

    /// <summary>The folder of the environment, built where it is not there yet.</summary>
    public static async Task<string> GetAsync(string name)
    {
        if (Existing(name) is { } existing)
        {
            return existing;
        }

        var key = Convert.ToHexStringLower(SHA256.HashData(await File.ReadAllBytesAsync(Requirements(name))))[..16];
        var environment = Path.Join(Path.GetTempPath(), $"fastdraft-{name}-venv-{key}");
        var ready = Path.Join(environment, "ready");
        await using var alone = await LockAsync(environment + ".lock");
        if (!File.Exists(ready))
        {
            var start = new ProcessStartInfo(SharedAssets.Path("wheels", "make-venv")) { RedirectStandardError = true };
            start.ArgumentList.Add(name);
            start.ArgumentList.Add(environment);
            using var making = Process.Start(start)!;
            var error = await making.StandardError.ReadToEndAsync();
            await making.WaitForExitAsync();
            if (making.ExitCode != 0)
            {
                throw new InvalidOperationException($"The environment of {name} could not be made: {error}");
            }

            await File.WriteAllTextAsync(ready, "");
        }

        return environment;
    }

    /// <summary>Runs a script in the environment's Python.</summary>
    /// <returns>The lines of its output.</returns>
    public static async Task<string[]> RunAsync(string name, string script, params string[] arguments)
    {
        var start = new ProcessStartInfo(Path.Join(await GetAsync(name), "bin", "python")) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in (string[])["-B", script, .. arguments])
        {
            start.ArgumentList.Add(argument);
        }

        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0
            ? output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            : throw new InvalidOperationException($"{Path.GetFileName(script)} ended with {process.ExitCode}:\n{await error}");
    }

    private static string? Existing(string name) =>
        Environment.GetEnvironmentVariable("FASTDRAFT_PEERS") is { Length: > 0 } folder && File.Exists(Path.Join(folder, name, "bin", "python")) ? Path.Join(folder, name) : null;

    private static string Requirements(string name) => SharedAssets.Path("wheels", $"requirements-{name}.txt");

    private static async Task<FileStream> LockAsync(string path)
    {
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException)
            {
                await Task.Delay(500);
            }
        }
    }
}
