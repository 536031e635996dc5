using System.CommandLine;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft help exit-codes</c></summary>
internal static class HelpCommand
{
    private const string ExitCodes = """
          0  ok
          1  the run failed
          2  the plan has changes (plan --detailed-exitcode)
         64  wrong usage, setting or workflow
         65  bad data
         69  server unreachable
         70  a fault of this program
         74  disk or file operation
         75  temporary; try again
         77  denied
        130  interrupted
        143  cancelled
        """;

    public static Command Build()
    {
        var topic = new Argument<string>("topic") { Description = "exit-codes" };
        topic.AcceptOnlyFromAmong("exit-codes");
        var command = new Command("help", "Longer explanations") { topic };
        command.SetAction(_ => Console.Out.WriteLine(ExitCodes));
        return command;
    }
}
