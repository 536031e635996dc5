using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Server.Projections.OpenTelemetry;
using FastDraft.Storage;

namespace FastDraft.Server.Worker;

/// <summary>What the host tells the worker. All folders are absolute.</summary>
public sealed record WorkerJob(
    string Stage, JsonObject Settings, IReadOnlyDictionary<string, string> Inputs, IReadOnlyDictionary<string, string> Outputs,
    string ScratchFolder, string ResumeFolder, string Accelerator);

/// <summary>
/// The child process of one attempt: a job file in, JSON lines on stdout, an exit code out. Stdin is its lease of life: each line
/// says for how many milliseconds it may go on. When the time is over (its host is stopped or cut off from the database) or the
/// stream ends (its host is gone, however it died), it kills itself and all it started.
/// </summary>
public static class WorkerProgram
{
    /// <summary>The file in a resume folder that its one writer has locked.</summary>
    internal const string ResumeLock = ".lock";

    private static readonly TimeSpan ResumeFolderWait = TimeSpan.FromSeconds(30);

    public static async Task<int> RunAsync(string[] args, IReadOnlyList<IStage> stages)
    {
        using var output = new StreamWriter(Console.OpenStandardOutput()) { AutoFlush = true };
        Console.SetOut(Console.Error);
        var events = new LineEvents(output);
        var startedAt = TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds();
        var exit = ExitCode.Bug;
        ProcessTree.LeadOwnSession();
        using var fence = new Timer(_ => ProcessTree.Kill(Environment.ProcessId, Environment.GetEnvironmentVariable(ProcessTree.AttemptVariable) ?? ""));
        using var input = new StreamReader(Console.OpenStandardInput());
        if (!LiveOn(await input.ReadLineAsync(), fence))
        {
            return ExitCode.Cancelled;
        }

        var listener = new Thread(() =>
        {
            while (LiveOn(input.ReadLine(), fence))
            {
            }
        })
        { IsBackground = true, Name = "lease" };
        listener.Start();
        using var cancel = new CancellationTokenSource();
        using var onTerm = PosixSignalRegistration.Create(PosixSignal.SIGTERM, c =>
        {
            c.Cancel = true;
            cancel.Cancel();
        });
        WorkerJob? job = null;
        try
        {
            job = JsonSerializer.Deserialize<WorkerJob>(await File.ReadAllTextAsync(args[0]))!;
            var stage = stages.FirstOrDefault(s => s.Descriptor.Name == job.Stage)
                ?? throw new StageFailureException(FailureKind.Config, $"This worker has no stage '{job.Stage}'.");
            using var resume = await OwnResumeFolderAsync(job.ResumeFolder, cancel.Token);
            var context = new StageContext(job.Settings, job.Inputs, job.Outputs, job.ScratchFolder, job.ResumeFolder, job.Accelerator, events);
            await stage.ExecuteAsync(context, cancel.Token);
            if (context.Outcome is { } outcome)
            {
                events.Outcome(outcome);
            }

            return exit = ExitCode.Ok;
        }
        catch (StageFailureException e)
        {
            return exit = events.Failure(e);
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            return exit = ExitCode.Cancelled;
        }
        catch (IOException e) when (DiskSpace.IsFull(e) && job is not null)
        {
            return exit = events.Failure(DiskSpace.Full(job.ScratchFolder, null, $"the stage, which has written {Written(job):N0} bytes,", e));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            events.Log(e.ToString(), StageLogLevel.Error);
            return exit = events.Failure(new StageFailureException(FailureKind.Resource, e.Message));
        }
        catch (OutOfMemoryException e)
        {
            return exit = events.Failure(new StageFailureException(FailureKind.Infrastructure, "Out of memory: " + e.Message, "a smaller batchSize, or more memory"));
        }
        catch (Exception e)
        {
            events.Log(e.ToString(), StageLogLevel.Error);
            return exit = events.Failure(new StageFailureException(FailureKind.Bug, $"{e.GetType().Name}: {e.Message}"));
        }
        finally
        {
            events.Memory();
            events.Span(startedAt, exit);
        }
    }

    /// <summary>Moves the fence to what the line allows; without one, or with nonsense, it falls at once.</summary>
    private static bool LiveOn(string? line, Timer fence)
    {
        var known = long.TryParse(line, NumberStyles.None, CultureInfo.InvariantCulture, out var milliseconds);
        fence.Change(known ? milliseconds : 0, Timeout.Infinite);
        return known;
    }

    /// <summary>Checkpoints have one writer: a worker that its dead host left behind may need a moment to die.</summary>
    private static async Task<FileLock> OwnResumeFolderAsync(string folder, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(ResumeFolderWait);
        try
        {
            return await FileLock.TakeAsync(Path.Combine(folder, ResumeLock), shared: false, limit.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new StageFailureException(FailureKind.Infrastructure, $"Another process has been writing to '{folder}' for {ResumeFolderWait.TotalSeconds:F0} s.");
        }
    }

    private static long Written(WorkerJob job) => job.Outputs.Values.Append(job.ResumeFolder).Where(Directory.Exists)
        .SelectMany(f => new DirectoryInfo(f).EnumerateFiles("*", SearchOption.AllDirectories)).Sum(f => f.Length);

    private sealed class LineEvents(StreamWriter output) : IStageEvents
    {
        private readonly Lock gate = new();

        public void Progress(long done, long? total, string unit) => Write(new JsonObject { ["type"] = "progress", ["done"] = done, ["total"] = total, ["unit"] = unit });

        public void Metric(string name, double value, long step)
        {
            if (double.IsFinite(value))
            {
                Write(new JsonObject { ["type"] = "metric", ["name"] = name, ["value"] = value, ["step"] = step });
            }
            else
            {
                Log($"Metric {name} at step {step} is not finite.", StageLogLevel.Warning);
            }
        }

        public void Log(string message, StageLogLevel level = StageLogLevel.Information) =>
            Write(new JsonObject { ["type"] = "log", ["level"] = level.ToString(), ["message"] = message });

        public void Memory()
        {
            using var self = Process.GetCurrentProcess();
            Write(new JsonObject { ["type"] = "memory", ["peakRssBytes"] = self.PeakWorkingSet64 });
        }

        /// <summary>How long this process worked, for the trace that its host named.</summary>
        public void Span(long startedAt, int exitCode)
        {
            if (Environment.GetEnvironmentVariable(TraceIds.Variable) is { Length: > 0 } parent)
            {
                Write(new JsonObject
                {
                    ["type"] = "span", ["parent"] = parent, ["id"] = ActivitySpanId.CreateRandom().ToHexString(), ["startedAt"] = startedAt, ["exitCode"] = exitCode, ["process"] = Environment.ProcessId,
                });
            }
        }

        public void Outcome(string name) => Write(new JsonObject { ["type"] = "outcome", ["name"] = name });

        /// <summary>The exit code that goes with it.</summary>
        public int Failure(StageFailureException e)
        {
            Write(new JsonObject { ["type"] = "failure", ["kind"] = e.Kind.ToString(), ["message"] = e.Message, ["hint"] = e.Hint });
            return ExitCode.Of(e.Kind);
        }

        private void Write(JsonObject line)
        {
            line["at"] = TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds();
            lock (gate)
            {
                output.WriteLine(line.ToJsonString());
            }
        }
    }
}
