using System.CommandLine;
using System.CommandLine.Parsing;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Export;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Tokenization;
using FastDraft.Persistence;

namespace FastDraft.Cli;

/// <summary>One mistake, for the person at the terminal: what happened where and why, and what to try.</summary>
internal sealed record CliError(string Message, string? Try);

/// <summary>What stops a command: its mistakes, all of them at once, and the exit code.</summary>
internal sealed class CliException(int exitCode, IReadOnlyList<CliError> errors) : Exception(errors[0].Message)
{
    public CliException(int exitCode, string message, string? attempt = null)
        : this(exitCode, [new CliError(message, attempt)])
    {
    }

    public int ExitCode { get; } = exitCode;

    public IReadOnlyList<CliError> Errors { get; } = errors;
}

internal static class CliErrors
{
    /// <summary>Runs a command and maps what it throws to one message and an exit code of <c>fastdraft help exit-codes</c>.</summary>
    public static async Task<int> GuardAsync(Func<Task<int>> command)
    {
        try
        {
            return await command();
        }
        catch (CliException e)
        {
            foreach (var error in e.Errors)
            {
                Print(e.ExitCode, error.Message, error.Try);
            }

            return e.ExitCode;
        }
        catch (StageFailureException e)
        {
            return Print(ExitCode.Of(e.Kind), e.Message, e.Hint);
        }
        catch (CheckpointException e)
        {
            return Print(ExitCode.Data, e.Message, e.Hint);
        }
        catch (ExportException e)
        {
            return Print(ExitCode.Data, e.Message, e.Hint);
        }
        catch (TokenizerException e)
        {
            return Print(ExitCode.Data, e.Message, null);
        }
        catch (OperationCanceledException)
        {
            return ExitCode.Interrupted;
        }
        catch (IOException e)
        {
            return Print(ExitCode.Io, e.Message, "check the path, the disk and its free space: fastdraft doctor");
        }
        catch (UnauthorizedAccessException e)
        {
            return Print(ExitCode.Denied, e.Message, "a path that this user may read and write, such as --data FOLDER");
        }
        catch (Exception e) when (PipelineDatabase.ErrorOf(e) is { } error)
        {
            return error.IsTransient
                ? Print(ExitCode.Unavailable, $"The database does not answer: {error.Message}", "start it, or another FASTDRAFT_DATABASE; fastdraft doctor says which it is")
                : Print(ExitCode.Io, $"The database: {error.Message}", "fastdraft doctor");
        }
        catch (Exception e) when (Environment.GetEnvironmentVariable("FASTDRAFT_TRACE") is null or "")
        {
            return Print(ExitCode.Bug, $"A fault of this program: {e.GetType().Name}: {e.Message}", "the same command with FASTDRAFT_TRACE=1 shows where, for a report");
        }
    }

    /// <summary>Prints what is wrong with a command line, as few mistakes as explain it, with the nearest name that there is.</summary>
    public static int OfArguments(ParseResult parsed)
    {
        var command = parsed.CommandResult.Command;
        var path = string.Join(' ', Ancestry(parsed.CommandResult).Reverse());
        var visible = command.Subcommands.Select(c => c.Name).ToList();
        if (parsed.UnmatchedTokens is [var stranger, ..])
        {
            var (what, known) = stranger.StartsWith('-') ? ($"{path} has no option '{stranger}'.", command.Options.Concat(parsed.RootCommandResult.Command.Options).SelectMany(o => o.Aliases.Append(o.Name)))
                : visible.Count > 0 ? ($"{path} has no command '{stranger}'.", visible)
                : ($"{path}: '{stranger}' is one argument too many.", Enumerable.Empty<string>());
            return Print(ExitCode.Config, what, Spelling.Nearest(stranger, known) is { } near ? $"did you mean '{near}'? {path} --help" : $"{path} --help");
        }

        if (visible.Count > 0)
        {
            return Print(ExitCode.Config, $"{path} needs one of the commands {string.Join(", ", visible)}.", $"{path} --help");
        }

        // Messages of the parser stand on lines of their own, one value a line.
        foreach (var message in parsed.Errors.Select(e => e.Message.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)))
        {
            Print(ExitCode.Config, $"{message[0]}{(message.Length > 1 ? " " : string.Empty)}{string.Join(", ", message[1..])}", null);
        }

        Output.WriteError($"{path} --help", "  try: ");
        return ExitCode.Config;
    }

    private static IEnumerable<string> Ancestry(CommandResult? result)
    {
        for (; result is not null; result = result.Parent as CommandResult)
        {
            yield return result.Command is RootCommand ? "fastdraft" : result.Command.Name;
        }
    }

    private static int Print(int exitCode, string message, string? attempt)
    {
        Output.WriteError("error: " + message);
        if (attempt is not null)
        {
            Output.WriteError(attempt, "  try: ");
        }

        return exitCode;
    }
}
