using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using FastDraft.Core.Stages;
using FastDraft.Server.Projections.OpenTelemetry;
using FastDraft.Server.Worker;

namespace FastDraft.Server.Dispatch;

/// <summary>How long a worker may live: its host says so again and again, and one that hears nothing ends itself.</summary>
internal interface IWorkerLife
{
    /// <summary>Marks the process and all that it starts, so that they can be found and ended.</summary>
    Guid Id { get; }

    /// <summary>The trace that the work is part of, as W3C writes it.</summary>
    string Trace { get; }

    /// <summary>Changes with every renewal.</summary>
    long Renewal { get; }

    /// <summary>From now on, without another renewal.</summary>
    TimeSpan Remaining { get; }
}

/// <param name="ExitCode">128 and more: the process was killed by a signal.</param>
/// <param name="OutOfMemory">The kernel killed a process for memory while this one ran, and this one died that way.</param>
internal sealed record WorkerResult(int ExitCode, string? Failure, string? Hint, long? PeakRssBytes, bool OutOfMemory = false)
{
    /// <summary>The outcome the stage chose; null is its first.</summary>
    public string? Outcome { get; init; }
}

/// <summary>
/// Starts one child process, keeps its lines, tells it how long it may live and ends everything it started. The child has no
/// secrets of its host: its environment is an allow-list.
/// </summary>
internal static class WorkerProcess
{
    private const int MaxLineBytes = 64 << 10;
    private const int KilledBySignal9 = 128 + 9;

    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);
    private static readonly string[] AllowedPrefixes = ["DOTNET_", "OMP_", "MKL_", "CUDA_", "NVIDIA_", "MALLOC_", "LC_", "NCCL_", "GLOO_", "HCCL_", "HABANA_", "PT_", "TORCH_", "TORCHINDUCTOR_", "TRITON_", "FI_"];
    private static readonly string[] AllowedNames = ["PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "TZ", "XDG_CACHE_HOME", "FASTDRAFT_LIBTORCH", "FASTDRAFT_OPENVINO", "FASTDRAFT_PYTHON", "PYTHONPATH", "VIRTUAL_ENV", "GC_KERNEL_PATH", "RDMAV_FORK_SAFE"];

    /// <param name="stop">Ends the process: SIGTERM, and SIGKILL for its whole tree after a grace.</param>
    public static async Task<WorkerResult> RunAsync(
        PipelineOptions options, string jobFile, IWorkerLife life, Action<string> onLine, Action<MetricPoint> onMetric, CancellationToken stop)
    {
        var attempt = life.Id.ToString("N");
        using var process = new Process { StartInfo = StartInfo(options, jobFile, attempt, life.Trace) };
        var kills = OutOfMemoryKills();
        try
        {
            process.Start();
        }
        catch (Win32Exception e)
        {
            return new WorkerResult(ExitCode.Config, $"The worker '{options.WorkerFile}' cannot be started: {e.Message}", null, null);
        }

        (string Message, string? Hint)? failure = null;
        string? outcome = null;
        long? peak = null;
        async Task PumpAsync(StreamReader reader, bool isProtocol)
        {
            await foreach (var text in new BoundedLines(reader.BaseStream, MaxLineBytes).ReadAsync(CancellationToken.None))
            {
                var line = WorkerLine.Read(text, isProtocol, options.Clock.GetUtcNow().ToUnixTimeMilliseconds());
                failure = line.Failure ?? failure;
                outcome = line.Outcome ?? outcome;

                // The worker's own last word is exact; what is looked up below is for one that is killed before it.
                peak = line.PeakRssBytes ?? peak;
                if (line.Metric is { } point)
                {
                    onMetric(point);
                }

                onLine(line.Json);
            }
        }

        var pumps = Task.WhenAll(PumpAsync(process.StandardOutput, true), PumpAsync(process.StandardError, false));
        var exited = process.WaitForExitAsync(CancellationToken.None);
        var told = 0L;
        while (!exited.IsCompleted && !stop.IsCancellationRequested)
        {
            if (life.Renewal is var renewal && renewal != told)
            {
                Tell(process, life.Remaining);
                told = renewal;
            }

            peak = PeakRss(process.Id) ?? peak;
            await Task.WhenAny(exited, Task.Delay(Look, stop));
        }

        if (!exited.IsCompleted)
        {
            ProcessTree.Terminate(process.Id);
            await Task.WhenAny(exited, Task.Delay(Grace, CancellationToken.None));
        }

        // Also after a normal end: a grandchild must not outlive its attempt.
        ProcessTree.Kill(process.Id, attempt);
        if (!process.HasExited)
        {
            process.Kill(entireProcessTree: true);
        }

        await exited;
        await Task.WhenAny(pumps, Task.Delay(Grace, CancellationToken.None));
        return new WorkerResult(
            process.ExitCode, failure?.Message, failure?.Hint, peak, process.ExitCode == KilledBySignal9 && !stop.IsCancellationRequested && OutOfMemoryKills() > kills)
        {
            Outcome = outcome,
        };
    }

    private static ProcessStartInfo StartInfo(PipelineOptions options, string jobFile, string attempt, string trace)
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

        start.Environment[ProcessTree.AttemptVariable] = attempt;
        start.Environment[TraceIds.Variable] = trace;

        // glibc gives large blocks back to the kernel and gets them back zeroed, at every optimizer step: measured, training is
        // up to three times slower that way. Read by malloc before the program starts, so it cannot be set by the worker.
        start.Environment.TryAdd("MALLOC_MMAP_THRESHOLD_", "4294967296");
        start.Environment.TryAdd("MALLOC_TRIM_THRESHOLD_", "8589934592");

        // A stage computes from its first second: loops are compiled optimized at once, and methods called thirty times without waiting
        // for a quiet tenth of a second; measured, decoding starts at half speed otherwise. A command or a service that mostly runs
        // other things' code once would pay for it: twice the time to list the runs.
        start.Environment.TryAdd("DOTNET_TC_QuickJitForLoops", "0");
        start.Environment.TryAdd("DOTNET_TC_CallCountingDelayMs", "0");
        return start;
    }

    /// <summary>The line that lets the worker live on: milliseconds from now. A worker that hears nothing in that time ends itself.</summary>
    private static void Tell(Process process, TimeSpan remaining)
    {
        try
        {
            process.StandardInput.WriteLine(((long)remaining.TotalMilliseconds).ToString(CultureInfo.InvariantCulture));
            process.StandardInput.Flush();
        }
        catch (IOException)
        {
            // It is ending.
        }
    }

    private static long? PeakRss(int process)
    {
        try
        {
            var line = File.ReadLines($"/proc/{process}/status").FirstOrDefault(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
            return line is null ? null : long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>How often the kernel has killed for want of memory since it started; 0 where it does not say.</summary>
    private static long OutOfMemoryKills()
    {
        try
        {
            var line = File.ReadLines("/proc/vmstat").FirstOrDefault(l => l.StartsWith("oom_kill ", StringComparison.Ordinal));
            return line is null ? 0 : long.Parse(line.Split(' ')[1], CultureInfo.InvariantCulture);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return 0;
        }
    }
}
