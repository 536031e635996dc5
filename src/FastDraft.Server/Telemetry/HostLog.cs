using System.Text.Json;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server.Projections.OpenTelemetry;
using Microsoft.Extensions.Logging;

namespace FastDraft.Server.Telemetry;

/// <summary>What log lines inside it are about; the trace is the run's own.</summary>
internal sealed record LogScope(Guid Run, string? Stage = null, int? Attempt = null)
{
    public void WriteTo(Utf8JsonWriter json)
    {
        json.WriteString("run", Run);
        json.WriteString("trace_id", TraceIds.Trace(Run));
        if (Stage is not null)
        {
            json.WriteString("stage", Stage);
        }

        if (Attempt is { } attempt)
        {
            json.WriteNumber("attempt", attempt);
        }
    }
}

/// <summary>The lines of a host's log; texts of people and stages stand in them as they are in the tables.</summary>
internal static partial class HostLog
{
    public static IDisposable? About(this ILogger log, StageRunRow stage, AttemptRow attempt) => log.BeginScope(new LogScope(stage.RunId, stage.ActivityId, attempt.Number));

    public static void RunChanged(this ILogger log, RunRow run)
    {
        var level = run.State == RunState.Failed ? LogLevel.Warning : LogLevel.Information;
        if (log.IsEnabled(level))
        {
            using var _ = log.BeginScope(new LogScope(run.Id));
            var (id, why) = (Figures.Short(run.Id), run.Incident is { } incident ? ": " + incident : "");
            Changed(log, level, run.WorkflowName, id, run.State, why);
        }
    }

    public static void AttemptBegins(this ILogger log, StageRunRow stage, AttemptRow attempt, string accelerator)
    {
        if (log.IsEnabled(LogLevel.Information))
        {
            Begins(log, stage.ActivityId, Figures.Short(stage.RunId), attempt.Number, accelerator);
        }
    }

    public static void AttemptEnded(this ILogger log, StageRunRow stage, AttemptRow attempt, int? exitCode, string? failure)
    {
        var level = exitCode is 0 ? LogLevel.Information : LogLevel.Warning;
        if (log.IsEnabled(level))
        {
            var (run, how, why) = (Figures.Short(stage.RunId), exitCode is { } code ? $"exit code {code}" : "taken from it", failure is null ? "" : ": " + failure);
            Ended(log, level, stage.ActivityId, run, attempt.Number, how, why);
        }
    }

    [LoggerMessage(1001, LogLevel.Information, "{Stage} of {Run} begins, attempt {Number}, on {Accelerator}")]
    private static partial void Begins(ILogger log, string stage, string run, int number, string accelerator);

    [LoggerMessage(EventId = 1002, Message = "{Message}")]
    public static partial void Host(this ILogger log, LogLevel level, string message);

    [LoggerMessage(EventId = 1003, Message = "run {Workflow} {Run} is {State}{Why}")]
    private static partial void Changed(ILogger log, LogLevel level, string workflow, string run, RunState state, string why);

    [LoggerMessage(EventId = 1004, Message = "{Stage} of {Run} ended, attempt {Number}, {How}{Why}")]
    private static partial void Ended(ILogger log, LogLevel level, string stage, string run, int number, string how, string why);
}
