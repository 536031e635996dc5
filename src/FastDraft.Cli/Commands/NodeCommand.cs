using System.CommandLine;
using FastDraft.Core.Stages;
using FastDraft.Server;
using FastDraft.Server.Telemetry;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft node</c>: does stages that servers and other nodes put in line, until it is told to stop. It serves no pages.</summary>
internal static class NodeCommand
{
    public static Command Build()
    {
        var accelerators = SharedOptions.NewAccelerators();
        var command = new Command("node", "Do stages for the servers on the same database (FASTDRAFT_DATABASE); serves no pages") { accelerators, SharedOptions.Data };
        command.SetAction((parsed, cancellationToken) => CliErrors.GuardAsync(async () =>
        {
            var options = EmbeddedPipeline.Options(SharedOptions.DataFolder(parsed)) with { TakesUpUnfinishedRuns = true, Accelerators = SharedOptions.Accelerators(parsed, accelerators) };
            if (options.Settings.Database is null)
            {
                throw new CliException(
                    ExitCode.Config, "A node works for servers on the same PostgreSQL database, and FASTDRAFT_DATABASE names none.",
                    "FASTDRAFT_DATABASE='Host=db.example;Database=fastdraft;Username=fastdraft;Password=...', or fastdraft serve for one machine alone");
            }

            if (options.Accelerators.Count == 0)
            {
                throw new CliException(ExitCode.Config, "A node without an accelerator would do nothing.", "--accelerator cpu");
            }

            using var log = new ServiceLog(asJson: Console.IsErrorRedirected);
            await using var host = await PipelineHost.StartAsync(options with { Loggers = log.Loggers }, cancellationToken);
            Console.Out.WriteLine($"node for {string.Join(", ", options.Accelerators)}   data {options.DataFolder}");
            await ServeCommand.UntilToldAsync(cancellationToken);
            log.Say("stopping; what it was doing goes on elsewhere, or at the next start");
            return ExitCode.Ok;
        }));
        return command;
    }
}
