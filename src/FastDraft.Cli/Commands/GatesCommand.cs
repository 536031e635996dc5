using System.CommandLine;
using System.Globalization;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Gates;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft gates list|approve|reject</c>: what runs wait for a person for.</summary>
internal static class GatesCommand
{
    public static Command Build()
    {
        var command = new Command("gates", "List, approve and reject what runs wait for");
        var decided = new Option<bool>("--decided") { Description = "What was decided, instead of what is open" };
        var limit = new Option<int>("--limit") { Description = "Gates to list", DefaultValueFactory = _ => 50 };
        var list = new Command("list", "Open gates, the oldest first") { decided, limit, SharedOptions.Data, SharedOptions.Format };
        list.SetAction((parsed, token) => WithGates(parsed, async gates =>
        {
            var found = await gates.ListAsync(parsed.GetValue(decided), parsed.GetValue(limit), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(found);
            }
            else if (parsed.GetValue(decided))
            {
                Output.WriteTable([["GATE", "WORKFLOW", "TITLE", "DECISION", "BY", "AT", "REASON"], .. found.Select(g => new[]
                {
                    g.Reference, g.Workflow, g.Title, g.Approved == true ? "approved" : "rejected", g.DecidedBy ?? "", Time(g.DecidedAt), g.Reason ?? "",
                })]);
            }
            else
            {
                Output.WriteTable([["GATE", "WORKFLOW", "TITLE", "OPENED"], .. found.Select(g => new[] { g.Reference, g.Workflow, g.Title, Time(g.OpenedAt) })]);
            }
        }));
        command.Subcommands.Add(list);
        command.Subcommands.Add(Decide("approve", "Let the run go on by the port Approved", true));
        command.Subcommands.Add(Decide("reject", "Let the run go on by the port Rejected", false));
        return command;
    }

    private static Command Decide(string name, string description, bool approved)
    {
        var gate = new Argument<string>("gate") { Description = "RUN (id, prefix or latest), or RUN/ACTIVITY where it has several gates" };
        var reason = new Option<string?>("--reason") { Description = "Why; kept with the decision" };
        var by = new Option<string>("--by") { Description = "Who decides", DefaultValueFactory = _ => Environment.UserName };
        var command = new Command(name, description) { gate, reason, by, SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, token) => WithGates(parsed, async gates =>
        {
            var found = await gates.FindAsync(parsed.GetValue(gate)!, token);
            var (decision, isNew) = await gates.DecideAsync(
                found.RunId, found.Reference[(found.Reference.IndexOf('/', StringComparison.Ordinal) + 1)..], approved, parsed.GetValue(by)!, parsed.GetValue(reason), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(decision);
            }
            else
            {
                var word = decision.Approved == true ? "approved" : "rejected";
                Console.Out.WriteLine($"{decision.Title}: {word} by {decision.DecidedBy}" + (isNew ? $"; run {decision.RunId} goes on" : $" already, {Time(decision.DecidedAt)}"));
            }
        }));
        return command;
    }

    private static Task<int> WithGates(ParseResult parsed, Func<GateStore, Task> action) => CliErrors.GuardAsync(async () =>
    {
        await using var store = await EmbeddedPipeline.OpenAsync(parsed, CancellationToken.None);
        try
        {
            await action(new GateStore(store, TimeProvider.System));
            return ExitCode.Ok;
        }
        catch (AmbiguousReferenceException e)
        {
            throw new CliException(ExitCode.Config, e.Message, string.Join(", ", e.Candidates));
        }
    });

    private static string Time(DateTimeOffset? at) => at?.ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture) ?? "";
}
