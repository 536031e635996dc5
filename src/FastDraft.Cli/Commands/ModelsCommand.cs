using System.CommandLine;
using System.Globalization;
using FastDraft.Core.Stages;
using FastDraft.Server;
using FastDraft.Server.Registry;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft models list|show|history|promote|alias|rollback</c>: named drafts, and which of their versions is champion.</summary>
internal static class ModelsCommand
{
    public static Command Build()
    {
        var command = new Command("models", "List drafts and their history, promote one by hand, go back to the one before");
        var name = new Argument<string>("name") { Description = "The draft's name" };
        var reason = new Option<string>("--reason") { Description = "Why; kept for ever", Required = true };
        var by = new Option<string>("--by") { Description = "Who decides", DefaultValueFactory = _ => Environment.UserName };

        var forTarget = new Option<string?>("--target") { Description = "Only drafts for this target: its folder, or its digest" };
        var list = new Command("list", "Every version of every draft, or of those for one target, the newest first") { forTarget, SharedOptions.Data, SharedOptions.Format };
        list.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var wanted = parsed.GetValue(forTarget);
            var digest = wanted is not null && Directory.Exists(wanted)
                ? await DraftRegistry.TargetDigestAsync(store, EmbeddedPipeline.Options(store.DataFolder), wanted, token)
                : wanted;
            Write(parsed, await DraftRegistry.ListAsync(store, null, digest, token));
        }));
        command.Subcommands.Add(list);

        var show = new Command("show", "The versions of one draft, with what each was measured at") { name, SharedOptions.Data, SharedOptions.Format };
        show.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var given = parsed.GetValue(name)!;
            var drafts = await DraftRegistry.ListAsync(store, given, null, token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(drafts);
                return;
            }

            foreach (var draft in drafts)
            {
                Console.Out.WriteLine($"{draft.Name} version {draft.Version}" + (draft.Aliases.Count > 0 ? $"  {string.Join(", ", draft.Aliases)}" : ""));
                Output.WriteTable(
                [
                    ["  model", draft.ModelDigest], ["  evaluation", draft.EvaluationDigest], ["  target", draft.TargetDigest], ["  run", draft.RunId.ToString()], ["  since", Time(draft.CreatedAt)],
                    .. draft.Decision is { } decision ? new[] { new[] { "  decision", decision } } : [],
                ]);
            }
        }));
        command.Subcommands.Add(show);

        var history = new Command("history", "Every decision about a draft, the newest first: who, when and why") { name, SharedOptions.Data, SharedOptions.Format };
        history.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var moves = await DraftRegistry.HistoryAsync(store, parsed.GetValue(name)!, token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(moves);
            }
            else
            {
                Output.WriteTable([["AT", "ALIAS", "VERSION", "WHO", "RUN", "WHY"], .. moves.Select(m => new[]
                {
                    Time(m.At), m.Alias, m.FromVersion is { } from ? $"{Number(from)} -> {Number(m.ToVersion)}" : Number(m.ToVersion), m.Who, m.RunId?.ToString() ?? "", m.Why,
                })]);
            }
        }));
        command.Subcommands.Add(history);

        var version = new Argument<int>("version") { Description = "The version to make champion" };
        var promote = new Command("promote", "Make a version champion, whatever its evaluation says") { name, version, reason, by, SharedOptions.Data, SharedOptions.Format };
        promote.SetAction((parsed, token) => WithStore(parsed, async store => WriteAlias(parsed, await DraftRegistry.PromoteAsync(
            store, parsed.GetValue(name)!, parsed.GetValue(version), parsed.GetValue(by)!, parsed.GetValue(reason)!, TimeProvider.System.GetUtcNow(), token))));
        command.Subcommands.Add(promote);

        var alias = new Argument<string>("alias") { Description = "champion or challenger" };
        alias.AcceptOnlyFromAmong(DraftRegistry.Champion, DraftRegistry.Challenger);
        var point = new Command("alias", "Point an alias at a version") { name, alias, version, reason, by, SharedOptions.Data, SharedOptions.Format };
        point.SetAction((parsed, token) => WithStore(parsed, async store => WriteAlias(parsed, await DraftRegistry.AliasAsync(
            store, parsed.GetValue(name)!, parsed.GetValue(version), parsed.GetValue(alias)!, parsed.GetValue(by)!, parsed.GetValue(reason)!, TimeProvider.System.GetUtcNow(), token))));
        command.Subcommands.Add(point);

        var target = new Option<string?>("--target") { Description = "Digest of the target, where the name has drafts for several" };
        var rollback = new Command("rollback", "Make the champion before the present one champion again") { name, reason, by, target, SharedOptions.Data, SharedOptions.Format };
        rollback.SetAction((parsed, token) => WithStore(parsed, async store => WriteAlias(parsed, await DraftRegistry.RollbackAsync(
            store, parsed.GetValue(name)!, parsed.GetValue(target), parsed.GetValue(by)!, parsed.GetValue(reason)!, TimeProvider.System.GetUtcNow(), token))));
        command.Subcommands.Add(rollback);
        return command;
    }

    private static void Write(ParseResult parsed, IReadOnlyList<DraftView> drafts)
    {
        if (SharedOptions.IsJson(parsed))
        {
            Output.WriteJson(drafts);
            return;
        }

        Output.WriteTable([["NAME", "VERSION", "IS", "MODEL", "TARGET", "RUN", "SINCE"], .. drafts.Select(d => new[]
        {
            d.Name, Number(d.Version), string.Join(", ", d.Aliases), d.ModelDigest[..19], d.TargetDigest[..19], d.RunId.ToString(), Time(d.CreatedAt),
        })]);
    }

    private static void WriteAlias(ParseResult parsed, DraftView draft)
    {
        if (SharedOptions.IsJson(parsed))
        {
            Output.WriteJson(draft);
        }
        else
        {
            Console.Out.WriteLine($"{draft.Name} version {draft.Version} is the {draft.Aliases[0]}: {draft.ModelDigest}");
        }
    }

    private static Task<int> WithStore(ParseResult parsed, Func<PipelineStore, Task> action) => CliErrors.GuardAsync(async () =>
    {
        await using var store = await EmbeddedPipeline.OpenAsync(parsed, CancellationToken.None);
        await action(store);
        return ExitCode.Ok;
    });

    private static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);

    private static string Time(DateTimeOffset at) => at.ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
