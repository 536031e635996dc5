using System.CommandLine;
using System.Reflection;
using FastDraft.Cli;
using FastDraft.Core.Stages;
using FastDraft.TestKit;

namespace FastDraft.Conventions.Tests;

/// <summary>The command line is a contract: what scripts rely on changes only together with the list in command-line.txt.</summary>
public sealed class CommandLineFacts
{
    [Fact]
    public void The_command_line_is_the_listed_one()
    {
        using var interrupts = new Interrupts();
        var actual = string.Join('\n', Describe(CommandLine.Build(interrupts), "fastdraft")) + "\n";
        var file = Path.Join(Executable.Repository, "tests", "FastDraft.Conventions.Tests", "command-line.txt");
        if (Environment.GetEnvironmentVariable("FASTDRAFT_UPDATE") == "1")
        {
            File.WriteAllText(file, actual);
        }

        Assert.True(File.ReadAllText(file) == actual, "The command line changed. If that is meant, run this fact with FASTDRAFT_UPDATE=1 and commit command-line.txt.");
    }

    [Fact]
    public void Every_command_option_and_argument_says_what_it_is()
    {
        using var interrupts = new Interrupts();
        var silent = All(CommandLine.Build(interrupts)).SelectMany(c => c.Options.Concat<Symbol>(c.Arguments).Append(c).Select(s => (Command: c.Name, Symbol: s)))
            .Where(s => string.IsNullOrWhiteSpace(s.Symbol.Description)).Select(s => $"{s.Command} {s.Symbol.Name}");
        Assert.Empty(silent);
    }

    [Fact]
    public async Task Help_lists_exactly_the_exit_codes_that_there_are()
    {
        var help = await Executable.RunAsync(Path.GetTempPath(), "help", "exit-codes");
        var listed = help.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => int.Parse(l.Trim().Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture));
        var constants = typeof(ExitCode).GetFields(BindingFlags.Public | BindingFlags.Static).Where(f => f.IsLiteral).Select(f => (int)f.GetRawConstantValue()!);
        Assert.Equal(constants.Order(), listed.Order());
    }

    private static IEnumerable<Command> All(Command command) => command.Subcommands.SelectMany(All).Prepend(command);

    private static IEnumerable<string> Describe(Command command, string path)
    {
        var arguments = command.Arguments.Select(a => a.Arity.MinimumNumberOfValues == 0 ? $"[{a.Name}]" : $"<{a.Name}>");
        var options = command.Options.Where(o => o.Name is not ("--help" or "--version")).Select(o => o.Name + string.Concat(o.Aliases.Order(StringComparer.Ordinal).Select(a => "|" + a))).Order(StringComparer.Ordinal);
        return command.Subcommands.OrderBy(c => c.Name, StringComparer.Ordinal).SelectMany(c => Describe(c, $"{path} {c.Name}"))
            .Prepend(string.Join(' ', [path, .. arguments, .. options]));
    }
}
