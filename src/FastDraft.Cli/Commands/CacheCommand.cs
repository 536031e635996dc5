using System.CommandLine;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Stages;
using FastDraft.Server;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft cache list|evict</c>: results that later runs may use again.</summary>
internal static class CacheCommand
{
    public static Command Build()
    {
        var command = new Command("cache", "Stage results that later runs may use again");
        var stage = new Argument<string?>("stage") { Description = "Stage, such as PretrainDraft; all when absent", Arity = ArgumentArity.ZeroOrOne };
        var run = new Option<string?>("--run") { Description = "Only what this run made (id, prefix or latest)" };
        var all = new Option<bool>("--all") { Description = "Evict everything; needed when neither stage nor run is given" };

        var list = new Command("list", "What could be used again, newest first") { stage, run, SharedOptions.Data, SharedOptions.Format };
        list.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            await using var store = await EmbeddedPipeline.OpenAsync(parsed, token);
            var of = parsed.GetValue(run) is { } reference ? (await EmbeddedPipeline.FindRunAsync(store.Queries, reference, token)).Id : (Guid?)null;
            var results = await store.Queries.ReusableAsync(parsed.GetValue(stage), of, token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(results);
            }
            else
            {
                Output.WriteTable([["KEY", "STAGE", "ACTIVITY", "RUN", "MADE"], .. results.Select(r => new[] { Figures.Short(r.KeyDigest), r.Stage, r.ActivityId, Figures.Short(r.RunId), r.EndedAt is { } at ? Figures.Time(at) : string.Empty })]);
            }

            return ExitCode.Ok;
        }));

        var evict = new Command("evict", "Make later runs compute again; artifacts and lineage stay") { stage, run, all, SharedOptions.Data };
        evict.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            var (name, reference) = (parsed.GetValue(stage), parsed.GetValue(run));
            if (name is null && reference is null && !parsed.GetValue(all))
            {
                throw new CliException(ExitCode.Config, "Nothing says what to evict.", "a stage, --run RUN, or --all");
            }

            await using var store = await EmbeddedPipeline.OpenAsync(parsed, token);
            var of = reference is null ? (Guid?)null : (await EmbeddedPipeline.FindRunAsync(store.Queries, reference, token)).Id;
            Console.Out.WriteLine(await store.Queries.EvictAsync(name, of, token));
            return ExitCode.Ok;
        }));
        command.Subcommands.Add(list);
        command.Subcommands.Add(evict);
        return command;
    }
}
