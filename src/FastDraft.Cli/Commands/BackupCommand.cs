using System.CommandLine;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Stages;
using FastDraft.Server;
using FastDraft.Server.Retention;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft backup FOLDER</c>: what it writes is a data folder.</summary>
internal static class BackupCommand
{
    public static Command Build()
    {
        var folder = new Argument<string>("folder") { Description = "Folder to write into; must not exist or be empty" };
        var command = new Command("backup", "Copy database and artifacts into a folder that is a data folder itself, while runs go on") { folder, SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            await using var store = await EmbeddedPipeline.OpenAsync(parsed, token);
            var report = await Backup.WriteAsync(store, parsed.GetValue(folder)!, token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(report);
                return ExitCode.Ok;
            }

            Console.Out.WriteLine($"{report.Folder}: {report.NumArtifacts} artifacts, {Figures.Bytes(report.SizeBytes)}{(report.HasDatabase ? ", and the database" : string.Empty)}");
            if (!report.HasDatabase)
            {
                await Console.Error.WriteLineAsync("The database is PostgreSQL and not in it: pg_dump belongs before this command, not after it.");
            }

            return ExitCode.Ok;
        }));
        return command;
    }
}
