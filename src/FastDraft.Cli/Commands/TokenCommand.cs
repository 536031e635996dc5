using System.CommandLine;
using System.Globalization;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Stages;
using FastDraft.Persistence.Security;
using FastDraft.Server;
using FastDraft.Server.Security;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft token create|list|revoke</c>: who may use the service, and as what.</summary>
internal static class TokenCommand
{
    private const int MaxDays = 3650;

    public static Command Build()
    {
        var command = new Command("token", "Say who may use the service");
        var name = new Argument<string>("name") { Description = "Who uses it: a person or a program; the audit names them so" };
        var role = new Option<string>("--role") { Description = "viewer (looks), operator (runs, workflows, gates) or admin (deletes, too)", DefaultValueFactory = _ => "operator" };
        role.AcceptOnlyFromAmong([.. Enum.GetNames<Role>().Select(r => r.ToLowerInvariant())]);
        var days = new Option<int>("--days") { Description = "Days until it ends", DefaultValueFactory = _ => 90 };
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Print only the token" };
        var create = new Command("create", "Make a token; it is shown once") { name, role, days, quiet, SharedOptions.Data, SharedOptions.Format };
        create.SetAction((parsed, cancellationToken) => CliErrors.GuardAsync(async () =>
        {
            if (parsed.GetValue(days) is < 1 or > MaxDays)
            {
                throw new CliException(ExitCode.Config, $"--days {parsed.GetValue(days)}: from 1 to {MaxDays}.", "--days 90");
            }

            // Also before anything ran: whoever deploys a service makes its tokens first.
            var isQuiet = SharedOptions.IsQuiet(parsed, quiet);
            await using var store = await PipelineStore.OpenAsync(SharedOptions.DataFolder(parsed), PipelineSettings.FromEnvironment(), cancellationToken);
            var (token, secret) = await new CredentialStore(store, TimeProvider.System).CreateTokenAsync(
                parsed.GetValue(name)!, Enum.Parse<Role>(parsed.GetValue(role)!, ignoreCase: true), TimeSpan.FromDays(parsed.GetValue(days)), cancellationToken);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(new { token.Id, token.Name, token.Role, token.ExpiresAt, Token = secret });
                return ExitCode.Ok;
            }

            Console.Out.WriteLine(secret);
            if (!isQuiet)
            {
                await Console.Error.WriteLineAsync($"'{token.Name}' acts with it as {Word(token.Role)} until {Figures.Time(token.ExpiresAt!.Value)}. It is not shown again; fastdraft token revoke {token.Name} ends it at once.");
            }

            return ExitCode.Ok;
        }));
        command.Subcommands.Add(create);

        var list = new Command("list", "Tokens, the newest first; no secrets") { SharedOptions.Data, SharedOptions.Format };
        list.SetAction((parsed, cancellationToken) => WithCredentials(parsed, async credentials =>
        {
            var tokens = await credentials.ListAsync(cancellationToken);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(tokens);
            }
            else
            {
                Output.WriteTable([["NAME", "ROLE", "STATE", "MADE", "ENDS", "LAST USED"], .. tokens.Select(t => new[]
                {
                    t.Name, Word(t.Role), t.State, Figures.Time(t.CreatedAt), Time(t.ExpiresAt), Time(t.LastUsedAt),
                })]);
            }
        }, cancellationToken));
        command.Subcommands.Add(list);

        var reference = new Argument<string>("token") { Description = "Its name, or its id" };
        var revoke = new Command("revoke", "End a token, and every session that was begun with it, at once") { reference, SharedOptions.Data };
        revoke.SetAction((parsed, cancellationToken) => WithCredentials(parsed, async credentials =>
            Console.Out.WriteLine($"'{(await credentials.RevokeAsync(parsed.GetValue(reference)!, cancellationToken)).Name}' is revoked"), cancellationToken));
        command.Subcommands.Add(revoke);
        return command;
    }

    private static Task<int> WithCredentials(ParseResult parsed, Func<CredentialStore, Task> action, CancellationToken cancellationToken) => CliErrors.GuardAsync(async () =>
    {
        await using var store = await EmbeddedPipeline.OpenAsync(parsed, cancellationToken);
        await action(new CredentialStore(store, TimeProvider.System));
        return ExitCode.Ok;
    });

    private static string Word(Role role) => role.ToString().ToLower(CultureInfo.InvariantCulture);

    private static string Time(DateTimeOffset? at) => at is { } time ? Figures.Time(time) : "-";
}
