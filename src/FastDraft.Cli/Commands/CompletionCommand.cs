using System.CommandLine;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft completion bash|zsh|fish</c>: scripts that ask the executable itself what could follow.</summary>
internal static class CompletionCommand
{
    private const string Bash = """
        _fastdraft() {
            local IFS=$'\n'
            COMPREPLY=($(compgen -W "$(fastdraft "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
        }
        complete -o default -F _fastdraft fastdraft
        """;

    private const string Zsh = """
        #compdef fastdraft
        _fastdraft() {
            local -a found
            found=("${(@f)$(fastdraft "[suggest:${CURSOR}]" "${BUFFER}" 2>/dev/null)}")
            compadd -a found
            _files
        }
        compdef _fastdraft fastdraft
        """;

    private const string Fish = """
        complete -c fastdraft -a '(set -l line (commandline -cp); fastdraft "[suggest:"(string length -- $line)"]" "$line" 2>/dev/null)'
        """;

    public static Command Build()
    {
        var shell = new Argument<string>("shell") { Description = "bash, zsh or fish" };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish");
        var command = new Command("completion", "Print a shell completion script") { shell };
        command.SetAction(parsed => Console.Out.WriteLine(parsed.GetValue(shell) switch { "bash" => Bash, "zsh" => Zsh, _ => Fish }));
        return command;
    }
}
