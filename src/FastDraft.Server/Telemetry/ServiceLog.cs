using System.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace FastDraft.Server.Telemetry;

/// <summary>
/// What a service or node tells its operator on stderr: a line for every run and attempt that begins or ends, and all trouble. Beside it the
/// tables keep what each attempt said; this is what a collector of logs or <c>journalctl</c> has.
/// </summary>
public sealed class ServiceLog : IDisposable
{
    private readonly ServiceProvider services;
    private readonly ILogger host;
    private readonly TraceToLog trouble;

    /// <param name="asJson">One JSON object a line, for a collector; otherwise text, for a terminal.</param>
    public ServiceLog(bool asJson)
    {
        services = new ServiceCollection()
            .AddLogging(logging =>
            {
                logging.SetMinimumLevel(LogLevel.Warning).AddFilter(nameof(FastDraft), LogLevel.Information);
                logging.AddConsole(console =>
                {
                    (console.FormatterName, console.LogToStandardErrorThreshold) = (LogLineFormatter.FormatterName, LogLevel.Trace);

                    // Whoever reads the log and stops reading must not hold the service.
                    console.QueueFullMode = ConsoleLoggerQueueFullMode.DropWrite;
                });
                logging.AddConsoleFormatter<LogLineFormatter, LogLineOptions>(lines => lines.AsJson = asJson);
            })
            .BuildServiceProvider();
        Loggers = services.GetRequiredService<ILoggerFactory>();
        host = Loggers.CreateLogger(nameof(FastDraft));
        Trace.Listeners.Add(trouble = new TraceToLog(host));
    }

    /// <summary>For <see cref="PipelineOptions.Loggers"/>.</summary>
    public ILoggerFactory Loggers { get; }

    public void Say(string message) => host.Host(LogLevel.Information, message);

    public void Warn(string message) => host.Host(LogLevel.Warning, message);

    /// <summary>Writes what is still on its way.</summary>
    public void Dispose()
    {
        Trace.Listeners.Remove(trouble);
        trouble.Dispose();
        services.Dispose();
    }

    /// <summary>The loops of a host, which nothing may end, tell their trouble to <see cref="Trace"/>; inside an attempt with its ids.</summary>
    private sealed class TraceToLog(ILogger log) : TraceListener
    {
        public override void TraceEvent(TraceEventCache? eventCache, string source, TraceEventType eventType, int id, string? message) =>
            log.Host(eventType == TraceEventType.Error ? LogLevel.Error : LogLevel.Warning, message ?? "");

        public override void Write(string? message)
        {
            // Only events are told.
        }

        public override void WriteLine(string? message)
        {
        }
    }
}
