using System.CommandLine;
using FastDraft.Core.Stages;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft help exit-codes</c></summary>
internal static class HelpCommand
{
    private static readonly (int Code, string Meaning)[] ExitCodes =
    [
        (ExitCode.Ok, "ok"),
        (ExitCode.RunFailed, "the run failed; doctor: a check failed"),
        (ExitCode.PlanHasChanges, "the plan has changes (plan --detailed-exitcode)"),
        (ExitCode.Config, "wrong usage, setting or workflow"),
        (ExitCode.Data, "bad data"),
        (ExitCode.Unavailable, "server unreachable"),
        (ExitCode.Bug, "a fault of this program"),
        (ExitCode.Io, "disk or file operation"),
        (ExitCode.Temporary, "temporary; try again"),
        (ExitCode.Denied, "denied"),
        (ExitCode.Interrupted, "interrupted; the run can go on"),
        (ExitCode.Cancelled, "cancelled"),
    ];

    public static Command Build()
    {
        var topic = new Argument<string>("topic") { Description = "exit-codes" };
        topic.AcceptOnlyFromAmong("exit-codes");
        var command = new Command("help", "Longer explanations") { topic };
        command.SetAction(_ =>
        {
            foreach (var (code, meaning) in ExitCodes)
            {
                Console.Out.WriteLine($"{code,5}  {meaning}");
            }
        });
        return command;
    }
}
