using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Server;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft runs list|show|logs|watch|cancel|retry|explain</c></summary>
internal static class RunsCommand
{
    public static Command Build()
    {
        var command = new Command("runs", "Look at runs, cancel and retry them");
        var run = new Argument<string>("run") { Description = "Run id, unique prefix, or latest", DefaultValueFactory = _ => "latest" };
        var stage = new Argument<string?>("stage") { Description = "Activity id of a stage", Arity = ArgumentArity.ZeroOrOne };
        var attempt = new Option<int?>("--attempt") { Description = "Attempt number; the last one by default" };
        var limit = new Option<int>("--limit") { Description = "Runs to list", DefaultValueFactory = _ => 20 };

        Add("list", "Newest runs first", [limit], async (store, parsed, token) =>
        {
            var runs = await store.Queries.ListRunsAsync(parsed.GetValue(limit), token);
            if (CommonOptions.IsJson(parsed))
            {
                Output.WriteJson(runs.Select(r => new { r.Id, r.WorkflowName, r.State, r.Incident, r.CreatedAt, r.EndedAt }));
            }
            else
            {
                Output.WriteTable([["RUN", "WORKFLOW", "STATE", "STARTED", "TOOK"], .. runs.Select(r => new[]
                {
                    r.Id.ToString(), r.WorkflowName, r.State.ToString(), Time(r.CreatedAt), Took(r.CreatedAt, r.EndedAt),
                })]);
            }
        });
        Add("show", "A run's stages, attempts and artifacts", [run], async (store, parsed, token) =>
            Show(await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token), CommonOptions.IsJson(parsed)));
        Add("explain", "Why each stage ran or was reused", [run], async (store, parsed, token) =>
        {
            var view = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token);
            var reasons = view.Stages.Select(s => new { s.ActivityId, s.State, s.CachedFromRunId, Reasons = Reasons(s) }).ToList();
            if (CommonOptions.IsJson(parsed))
            {
                Output.WriteJson(reasons);
            }
            else
            {
                Output.WriteTable([["STAGE", "STATE", "BECAUSE"], .. reasons.Select(r => new[]
                {
                    r.ActivityId, r.State.ToString(), r.CachedFromRunId is { } from ? $"same inputs and settings as in run {from}" : string.Join("; ", r.Reasons),
                })]);
            }
        });
        Add("logs", "What a stage wrote", [run, stage, attempt], async (store, parsed, token) =>
        {
            var view = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token);
            var only = parsed.GetValue(stage);
            if (only is not null && view.Stages.All(s => s.ActivityId != only))
            {
                throw new CliException(ExitCode.Config, $"Run {view.Id} has no stage '{only}'.", string.Join(", ", view.Stages.Select(s => s.ActivityId)));
            }

            foreach (var s in view.Stages.Where(s => only is null || s.ActivityId == only))
            {
                foreach (var line in await store.Queries.LogsAsync(view.Id, s.ActivityId, parsed.GetValue(attempt), token))
                {
                    Console.Out.WriteLine(only is null ? $"{s.ActivityId}  {line}" : line);
                }
            }
        });
        Add("watch", "Follow a run from any process", [run], async (store, parsed, token) =>
        {
            var view = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token);
            await new RunDisplay($"fastdraft  {view.WorkflowName}  {view.Id}", [.. view.Stages.Select(s => s.ActivityId)], TimeProvider.System)
                .FollowAsync(store.WatchAsync(view.Id, token), token);
        });
        Add("cancel", "Ask a running host to stop a run", [run], async (store, parsed, token) =>
        {
            var view = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token);
            if (!await store.CancelAsync(view.Id, token))
            {
                throw new CliException(ExitCode.Config, $"Run {view.Id} has already ended: {view.State}.");
            }

            Console.Out.WriteLine(view.Id);
        });

        var retry = new Command("retry", "Run a workflow again with the same inputs; finished stages are reused") { run, CommonOptions.Data, CommonOptions.Format };
        retry.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            await using var host = await PipelineHost.StartAsync(EmbeddedPipeline.Options(CommonOptions.DataFolder(parsed)), token);
            var view = await EmbeddedPipeline.FindRunAsync(host.Queries, parsed.GetValue(run)!, token);
            var again = await host.RetryAsync(view.Id, token);
            var finished = await new RunDisplay($"fastdraft  {view.WorkflowName}  {again}", [.. view.Stages.Select(s => s.ActivityId)], TimeProvider.System)
                .FollowAsync(host.WatchAsync(again, token), token);
            Console.Out.WriteLine(again);
            return finished?.State == RunState.Succeeded ? ExitCode.Ok : ExitCode.RunFailed;
        }));
        command.Subcommands.Add(retry);
        return command;

        void Add(string name, string description, Symbol[] symbols, Func<PipelineStore, ParseResult, CancellationToken, Task> action)
        {
            var sub = new Command(name, description) { CommonOptions.Data, CommonOptions.Format };
            foreach (var symbol in symbols)
            {
                if (symbol is Argument argument)
                {
                    sub.Arguments.Add(argument);
                }
                else
                {
                    sub.Options.Add((Option)symbol);
                }
            }

            sub.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
            {
                await using var store = await PipelineStore.OpenAsync(CommonOptions.DataFolder(parsed), token);
                await action(store, parsed, token);
                return ExitCode.Ok;
            }));
            command.Subcommands.Add(sub);
        }
    }

    private static void Show(RunView run, bool json)
    {
        if (json)
        {
            Output.WriteJson(run);
            return;
        }

        Console.Out.WriteLine($"run {run.Id}  {run.WorkflowName}  {run.State}  {Time(run.CreatedAt)}  {Took(run.CreatedAt, run.EndedAt)}");
        Console.Out.WriteLine($"workflow {run.DefinitionDigest}\ninputs {run.InputsJson}" + (run.Incident is null ? string.Empty : $"\nincident {run.Incident}") + "\n");
        Output.WriteTable([["STAGE", "STATE", "TOOK", "ATTEMPTS", "NOTE"], .. run.Stages.Select(s => new[]
        {
            s.ActivityId, s.State.ToString(), s.StartedAt is { } started ? Took(started, s.EndedAt) : string.Empty, s.Attempts.Count.ToString(CultureInfo.InvariantCulture),
            s.CachedFromRunId is { } from ? $"from run {from}" : s.Failure ?? string.Empty,
        })]);
        Console.Out.WriteLine();
        var outputs = run.Stages.SelectMany(s => s.Outputs.Select(o => new[] { $"{s.ActivityId}.{o.Port}", o.Kind, o.Digest })).ToList();
        if (outputs.Count > 0)
        {
            Output.WriteTable([["ARTIFACT", "KIND", "DIGEST"], .. outputs]);
        }
    }

    private static List<string> Reasons(StageRunView stage) =>
        stage.MissReasonsJson is null ? [] : [.. JsonNode.Parse(stage.MissReasonsJson)!.AsArray().Select(n => n!.GetValue<string>())];

    private static string Time(DateTimeOffset at) => at.ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture);

    private static string Took(DateTimeOffset from, DateTimeOffset? to) =>
        to is { } end ? string.Create(CultureInfo.InvariantCulture, $"{(end - from).TotalSeconds:F1} s") : string.Empty;
}
