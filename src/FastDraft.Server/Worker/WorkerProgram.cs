using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Server.Worker;

/// <summary>What the host tells the worker. All folders are absolute.</summary>
public sealed record WorkerJob(
    string Stage, JsonObject Settings, IReadOnlyDictionary<string, string> Inputs, IReadOnlyDictionary<string, string> Outputs,
    string ScratchFolder, string ResumeFolder, string Accelerator);

/// <summary>The child process of one attempt: a job file in, JSON lines on stdout, an exit code out.</summary>
public static partial class WorkerProgram
{
    private const int SigKill = 9;

    public static async Task<int> RunAsync(string[] args, IReadOnlyList<IStage> stages)
    {
        using var output = new StreamWriter(Console.OpenStandardOutput()) { AutoFlush = true };
        Console.SetOut(Console.Error);
        var events = new LineEvents(output);
        if (!OperatingSystem.IsWindows())
        {
            // Its own session, so that the host can kill the whole process group.
            _ = SetSid();
        }

        _ = Task.Run(DieWithParent);
        using var cancel = new CancellationTokenSource();
        using var onTerm = PosixSignalRegistration.Create(PosixSignal.SIGTERM, c =>
        {
            c.Cancel = true;
            cancel.Cancel();
        });
        try
        {
            var job = JsonSerializer.Deserialize<WorkerJob>(await File.ReadAllTextAsync(args[0]))!;
            var stage = stages.FirstOrDefault(s => s.Descriptor.Name == job.Stage)
                ?? throw new StageFailureException(FailureKind.Config, $"This worker has no stage '{job.Stage}'.");
            var context = new StageContext(job.Settings, job.Inputs, job.Outputs, job.ScratchFolder, job.ResumeFolder, job.Accelerator, events);
            await stage.ExecuteAsync(context, cancel.Token);
            if (context.Outcome is { } outcome)
            {
                events.Outcome(outcome);
            }

            return ExitCode.Ok;
        }
        catch (StageFailureException e)
        {
            events.Failure(e.Kind, e.Message, e.Hint);
            return ExitCode.Of(e.Kind);
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            return ExitCode.Cancelled;
        }
        catch (Exception e)
        {
            events.Log(e.ToString(), StageLogLevel.Error);
            events.Failure(FailureKind.Bug, $"{e.GetType().Name}: {e.Message}", null);
            return ExitCode.Bug;
        }
    }

    /// <summary>The host holds our stdin open; its end is the host's end, however it died.</summary>
    private static async Task DieWithParent()
    {
        await using var input = Console.OpenStandardInput();
        var buffer = new byte[1];
        while (await input.ReadAsync(buffer) > 0)
        {
        }

        if (!OperatingSystem.IsWindows())
        {
            _ = Kill(-Environment.ProcessId, SigKill);
        }

        Environment.FailFast("The host is gone.");
    }

    [LibraryImport("libc", EntryPoint = "setsid")]
    private static partial int SetSid();

    [LibraryImport("libc", EntryPoint = "kill")]
    internal static partial int Kill(int process, int signal);

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

        public void Outcome(string name) => Write(new JsonObject { ["type"] = "outcome", ["name"] = name });

        public void Failure(FailureKind kind, string message, string? hint) =>
            Write(new JsonObject { ["type"] = "failure", ["kind"] = kind.ToString(), ["message"] = message, ["hint"] = hint });

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
