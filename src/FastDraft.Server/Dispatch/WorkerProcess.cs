using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Server.Worker;

namespace FastDraft.Server.Dispatch;

internal sealed record WorkerResult(int ExitCode, string? Failure, string? Hint, long? PeakRssBytes, IReadOnlyList<(string Name, long Step, double Value)> Metrics)
{
    /// <summary>The outcome the stage chose; null is its first.</summary>
    public string? Outcome { get; init; }
}

/// <summary>Starts one child process, keeps its lines, and ends its whole process group when told to.</summary>
internal static class WorkerProcess
{
    private const int SigTerm = 15;
    private const int SigKill = 9;

    private static readonly string[] AllowedPrefixes = ["DOTNET_", "OMP_", "MKL_", "CUDA_", "NVIDIA_", "FASTDRAFT_", "MALLOC_", "LC_"];
    private static readonly string[] AllowedNames = ["PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "TZ"];

    public static async Task<WorkerResult> RunAsync(PipelineOptions options, string jobFile, string logPath, CancellationToken stop)
    {
        var start = new ProcessStartInfo(options.WorkerFile)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        foreach (var argument in options.WorkerArguments.Append(jobFile))
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

        // glibc gives large blocks back to the kernel and gets them back zeroed, at every optimizer step: measured, training is
        // up to three times slower that way. Read by malloc before the program starts, so it cannot be set by the worker.
        start.Environment.TryAdd("MALLOC_MMAP_THRESHOLD_", "4294967296");
        start.Environment.TryAdd("MALLOC_TRIM_THRESHOLD_", "8589934592");

        using var process = new Process { StartInfo = start };
        try
        {
            process.Start();
        }
        catch (Win32Exception e)
        {
            return new WorkerResult(Core.Stages.ExitCode.Config, $"The worker '{options.WorkerFile}' cannot be started: {e.Message}", null, null, []);
        }

        await using var log = new StreamWriter(new FileStream(logPath, FileMode.Append, FileAccess.Write, FileShare.ReadWrite)) { AutoFlush = true };
        using var gate = new SemaphoreSlim(1);
        var metrics = new List<(string, long, double)>();
        JsonObject? failure = null;
        string? outcome = null;
        async Task PumpAsync(StreamReader reader, bool isProtocol)
        {
            while (await reader.ReadLineAsync(CancellationToken.None) is { } line)
            {
                var json = isProtocol ? ParseLine(line) : null;
                if (json is not null && (string?)json["type"] == "metric")
                {
                    metrics.Add(((string)json["name"]!, (long)json["step"]!, (double)json["value"]!));
                }

                failure = (string?)json?["type"] == "failure" ? json : failure;
                outcome = (string?)json?["type"] == "outcome" ? (string?)json["name"] : outcome;
                json ??= new JsonObject
                {
                    ["type"] = "log", ["level"] = "Information", ["message"] = line, ["at"] = options.Clock.GetUtcNow().ToUnixTimeMilliseconds(),
                };
                await gate.WaitAsync(CancellationToken.None);
                await log.WriteLineAsync(json.ToJsonString());
                gate.Release();
            }
        }

        var pumps = Task.WhenAll(PumpAsync(process.StandardOutput, true), PumpAsync(process.StandardError, false));
        var exited = process.WaitForExitAsync(CancellationToken.None);
        long? peak = null;
        while (!exited.IsCompleted && !stop.IsCancellationRequested)
        {
            peak = PeakRss(process.Id) ?? peak;
            await Task.WhenAny(exited, Task.Delay(TimeSpan.FromMilliseconds(500), stop));
        }

        if (!exited.IsCompleted)
        {
            _ = WorkerProgram.Kill(process.Id, SigTerm);
            await Task.WhenAny(exited, Task.Delay(TimeSpan.FromSeconds(5), CancellationToken.None));
        }

        // Also after a normal end: a grandchild must not outlive its attempt.
        _ = WorkerProgram.Kill(-process.Id, SigKill);
        if (!process.HasExited)
        {
            process.Kill(entireProcessTree: true);
        }

        await exited;
        await Task.WhenAny(pumps, Task.Delay(TimeSpan.FromSeconds(5), CancellationToken.None));
        return new WorkerResult(process.ExitCode, (string?)failure?["message"], (string?)failure?["hint"], peak, [.. metrics]) { Outcome = outcome };
    }

    private static JsonObject? ParseLine(string line)
    {
        try
        {
            return JsonNode.Parse(line) as JsonObject;
        }
        catch (System.Text.Json.JsonException)
        {
            return null;
        }
    }

    private static long? PeakRss(int process)
    {
        try
        {
            var line = File.ReadLines($"/proc/{process}/status").FirstOrDefault(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
            return line is null ? null : long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], System.Globalization.CultureInfo.InvariantCulture) * 1024;
        }
        catch (IOException)
        {
            return null;
        }
    }
}
