using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json;

namespace FastDraft.Stages.PyTorch;

/// <summary>What a Python says of itself; null versions are modules that it cannot import, with the reason in their problem.</summary>
public sealed record PythonReport(
    string Python, string? Torch, string? TorchProblem, string? Safetensors, string? SafetensorsProblem, string? Numpy, string? NumpyProblem,
    int Cuda, int Hpu, bool Compile, bool Habana, string? HabanaProblem);

/// <summary>The Python that trains: FASTDRAFT_PYTHON, else python3. Its environment is an allow-list, its arguments are a list.</summary>
public static class PythonInstallation
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private static readonly string[] AllowedNames =
    [
        "PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "TZ", "XDG_CACHE_HOME", "FASTDRAFT_ATTEMPT", "TRACEPARENT", "PYTHONPATH", "VIRTUAL_ENV", "GC_KERNEL_PATH", "RDMAV_FORK_SAFE",
    ];

    private static readonly string[] AllowedPrefixes =
        ["OMP_", "MKL_", "CUDA_", "NVIDIA_", "MALLOC_", "LC_", "NCCL_", "GLOO_", "HCCL_", "HABANA_", "PT_", "TORCH_", "TORCHINDUCTOR_", "TRITON_", "FI_"];

    public static string Executable => Environment.GetEnvironmentVariable("FASTDRAFT_PYTHON") is { Length: > 0 } configured ? configured : "python3";

    /// <summary>The folder of the trainer, beside this program.</summary>
    public static string TrainerFolder { get; } = Path.Join(AppContext.BaseDirectory, "trainer-pytorch");

    /// <summary>What the trainer's Python can do here.</summary>
    /// <exception cref="Win32Exception">There is no such program.</exception>
    /// <exception cref="InvalidOperationException">It does not answer, or not with what was asked.</exception>
    public static async Task<PythonReport> DescribeAsync(CancellationToken cancellationToken)
    {
        using var process = new Process { StartInfo = StartInfo("--describe") };
        process.Start();
        process.StandardInput.Close();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Patience);
        try
        {
            var (output, error) = (process.StandardOutput.ReadToEndAsync(limit.Token), process.StandardError.ReadToEndAsync(limit.Token));
            await process.WaitForExitAsync(limit.Token);
            return process.ExitCode == 0 && (await output).Split('\n').LastOrDefault(l => l.StartsWith('{')) is { } line
                ? JsonSerializer.Deserialize<PythonReport>(line, JsonSerializerOptions.Web)!
                : throw new InvalidOperationException($"'{Executable}' ended with exit code {process.ExitCode}: {(await error).Trim().Split('\n')[^1]}");
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new InvalidOperationException($"'{Executable}' did not answer in {Patience.TotalSeconds:F0} s.");
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }

    internal static ProcessStartInfo StartInfo(params string[] arguments)
    {
        var start = new ProcessStartInfo(Executable)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        foreach (var argument in (string[])[TrainerFolder, .. arguments])
        {
            start.ArgumentList.Add(argument);
        }

        foreach (var name in start.Environment.Keys.ToList())
        {
            if (!AllowedNames.Contains(name) && !AllowedPrefixes.Any(p => name.StartsWith(p, StringComparison.Ordinal)))
            {
                start.Environment.Remove(name);
            }
        }

        // The trainer may lie in a folder that is not its to write.
        start.Environment["PYTHONDONTWRITEBYTECODE"] = "1";
        return start;
    }
}
