using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Tokenization;

namespace FastDraft.Cli;

/// <summary>An error for the person at the terminal: what happened, and what to try. Becomes one message on stderr and an exit code.</summary>
internal sealed class CliException(int exitCode, string message, string? attempt = null) : Exception(message)
{
    public int ExitCode { get; } = exitCode;

    public string? Try { get; } = attempt;
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
            return Print(e.ExitCode, e.Message, e.Try);
        }
        catch (StageFailureException e)
        {
            return Print(ExitCode.Of(e.Kind), e.Message, e.Hint);
        }
        catch (CheckpointException e)
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
            return Print(ExitCode.Io, e.Message, null);
        }
        catch (UnauthorizedAccessException e)
        {
            return Print(ExitCode.Denied, e.Message, null);
        }
    }

    private static int Print(int exitCode, string message, string? attempt)
    {
        Console.Error.WriteLine("error: " + message);
        if (attempt is not null)
        {
            Console.Error.WriteLine("  try: " + attempt);
        }

        return exitCode;
    }
}
