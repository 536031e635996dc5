using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Projections.Mlflow;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft runs list|show|logs|watch|cancel|retry|explain|compare</c></summary>
internal static class RunsCommand
{
    public static Command Build(Interrupts interrupts)
    {
        var command = new Command("runs", "Look at runs, cancel and retry them");
        var run = new Argument<string>("run") { Description = "Run id, unique prefix, or latest", DefaultValueFactory = _ => "latest" };
        var stage = new Argument<string?>("stage") { Description = "Activity id of a stage", Arity = ArgumentArity.ZeroOrOne };
        var attempt = new Option<int?>("--attempt") { Description = "Attempt number; the last one by default" };
        var follow = new Option<bool>("--follow", "-f") { Description = "Go on until the run ends" };
        var limit = new Option<int>("--limit") { Description = "Runs to list", DefaultValueFactory = _ => 20 };
        var other = new Argument<string>("other") { Description = "The run to compare with" };

        Add("list", "Newest runs first", [limit], async (store, parsed, token) =>
        {
            var runs = await store.Queries.ListRunsAsync(parsed.GetValue(limit), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(runs.Select(r => new { r.Id, r.WorkflowName, r.State, r.Incident, r.CreatedAt, r.EndedAt }));
            }
            else if (runs.Count == 0)
            {
                await Console.Error.WriteLineAsync("no runs yet; try: fastdraft run workflows/quickstart.json");
            }
            else
            {
                Output.WriteTable([["RUN", "WORKFLOW", "STATE", "STARTED", "TOOK"], .. runs.Select(r => new[]
                {
                    Figures.Short(r.Id), r.WorkflowName, StateMark.Of(r.State).Word, Figures.Time(r.CreatedAt), Took(r.CreatedAt, r.EndedAt),
                })]);
            }
        });
        Add("show", "A run's stages, attempts and artifacts", [run], async (store, parsed, token) =>
        {
            var view = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token);
            Show(view, await store.Queries.AbandonedAsync(view.Id, token), await MlflowLinks.OfRunAsync(store, view.Id, token), SharedOptions.IsJson(parsed));
        });
        Add("explain", "Why each stage ran or was reused", [run], async (store, parsed, token) =>
        {
            var view = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token);
            var reasons = view.Stages.Select(s => new { s.ActivityId, s.State, s.CachedFromRunId, Reasons = Explanation.Reasons(s), Otherwise = Explanation.Otherwise(s) }).ToList();
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(reasons.Select(r => new { r.ActivityId, r.State, r.CachedFromRunId, r.Reasons }));
                return;
            }

            Output.WriteTable([["STAGE", "STATE", "BECAUSE"], .. reasons.Select(r => new[]
            {
                r.ActivityId, StateMark.Of(r.State).Word,
                r.CachedFromRunId is null && r.Reasons.Count > 0 ? string.Join("; ", r.Reasons) : r.Otherwise,
            })]);
        });
        Add("logs", "What a stage wrote", [run, stage, attempt, follow], (store, parsed, token) =>
            LogsAsync(store, parsed.GetValue(run)!, parsed.GetValue(stage), parsed.GetValue(attempt), parsed.GetValue(follow), SharedOptions.IsJson(parsed), token));
        Add("watch", "Follow a run from any process", [run], async (store, parsed, token) =>
        {
            var view = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token);
            var definition = WorkflowDefinition.Parse(view.DefinitionJson);
            await new RunDisplay(
                $"fastdraft  {Figures.Short(view.Id)}  {RunReport.Title(view, definition)}", "Ctrl-C stops watching; the run goes on.", [.. view.Stages.Select(s => s.ActivityId).Distinct()], TimeProvider.System)
                .FollowAsync(store.WatchAsync(view.Id, token), token);
        });
        Add("cancel", "Ask a running host to stop a run", [run], async (store, parsed, token) =>
        {
            var view = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token);
            if (!await store.CancelAsync(view.Id, token))
            {
                throw new CliException(ExitCode.Config, $"Run {Figures.Short(view.Id)} has already ended: {StateMark.Of(view.State).Word}.", "fastdraft runs list");
            }

            await Console.Error.WriteLineAsync("asked to cancel; the process that runs it stops its stages within ten seconds");
            Console.Out.WriteLine(view.Id);
        });
        Add("compare", "Two runs side by side: inputs, settings, figures, artifacts", [other, run], async (store, parsed, token) =>
        {
            var before = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(other)!, token);
            var after = await EmbeddedPipeline.FindRunAsync(store.Queries, parsed.GetValue(run)!, token);
            var rows = await RunComparison.RowsAsync(store.Queries, before, after, token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(new { Before = before.Id, After = after.Id, Rows = rows });
            }
            else if (rows.Count == 0)
            {
                await Console.Error.WriteLineAsync("no differences");
            }
            else
            {
                Output.WriteTable([["WHAT", "NAME", Figures.Short(before.Id), Figures.Short(after.Id)], .. rows.Select(r => new[] { r.What, r.Name, r.Before ?? "-", r.After ?? "-" })]);
            }
        });

        var quiet = SharedOptions.NewQuiet();
        var set = new Option<string[]>("--set") { Description = "Another setting of a stage: stage.setting=value; may be given several times", DefaultValueFactory = _ => [] };
        var noCache = new Option<bool>("--no-cache") { Description = "Run every stage, reuse nothing" };
        var retry = new Command("retry", "Run a workflow again with the same inputs; finished stages are reused") { run, set, noCache, quiet, SharedOptions.Data, SharedOptions.Format };
        retry.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            await using var host = await PipelineHost.StartAsync(EmbeddedPipeline.Options(SharedOptions.DataFolder(parsed)), token);
            var view = await EmbeddedPipeline.FindRunAsync(host.Queries, parsed.GetValue(run)!, token);
            return await RunCommand.FollowAsync(host, await host.RetryAsync(view.Id, new RunRetry(Edits(parsed.GetValue(set)!), parsed.GetValue(noCache)), token), SharedOptions.IsQuiet(parsed, quiet), SharedOptions.IsJson(parsed), interrupts);
        }));
        command.Subcommands.Add(retry);
        return command;

        void Add(string name, string description, Symbol[] symbols, Func<PipelineStore, ParseResult, CancellationToken, Task> action)
        {
            var sub = new Command(name, description) { SharedOptions.Data, SharedOptions.Format };
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
                await using var store = await EmbeddedPipeline.OpenAsync(parsed, token);
                await action(store, parsed, token);
                return ExitCode.Ok;
            }));
            command.Subcommands.Add(sub);
        }
    }

    /// <summary>By stage: settings and their values as text, which the stage's declaration makes what they are.</summary>
    private static Dictionary<string, JsonObject> Edits(IReadOnlyList<string> assignments)
    {
        var edits = new Dictionary<string, JsonObject>(StringComparer.Ordinal);
        foreach (var assignment in assignments)
        {
            var at = assignment.IndexOf('=', StringComparison.Ordinal);
            var dot = at < 0 ? -1 : assignment.LastIndexOf('.', at);
            if (dot <= 0 || dot + 1 == at)
            {
                throw new CliException(ExitCode.Config, $"--set '{assignment}' is not stage.setting=value.", "--set pretrain.learningRate=0.001");
            }

            if (!edits.TryGetValue(assignment[..dot], out var settings))
            {
                edits[assignment[..dot]] = settings = [];
            }

            settings[assignment[(dot + 1)..at]] = assignment[(at + 1)..];
        }

        return edits;
    }

    private static async Task LogsAsync(PipelineStore store, string run, string? only, int? attempt, bool follow, bool json, CancellationToken token)
    {
        var view = await EmbeddedPipeline.FindRunAsync(store.Queries, run, token);
        var known = WorkflowDefinition.Parse(view.DefinitionJson).Root.SelfAndDescendants().Select(a => a.Id).ToList();
        if (only is not null && !known.Contains(only))
        {
            throw new CliException(
                ExitCode.Config, $"Run {Figures.Short(view.Id)} has no stage '{only}'.",
                Spelling.Nearest(only, known) is { } near ? $"did you mean '{near}'?" : string.Join(", ", view.Stages.Select(s => s.ActivityId)));
        }

        var log = new LogText(withStage: only is null);
        if (follow)
        {
            await foreach (var e in store.WatchAsync(view.Id, token))
            {
                if (only is null || e is not (StageLog or StageProgress or StageMetric or StageChanged) || LogText.StageOf(e) == only)
                {
                    log.Write(e);
                }
            }

            log.Flush();
            return;
        }

        foreach (var s in view.Stages.Where(s => only is null || s.ActivityId == only))
        {
            foreach (var line in await store.Queries.LogsAsync(view.Id, s.ActivityId, attempt, token))
            {
                if (json)
                {
                    Console.Out.WriteLine(line);
                }
                else if (PipelineStore.ParseLine(s.ActivityId, line) is { } e)
                {
                    log.Write(e);
                }
            }

            log.Flush();
            if (!json && s.Failure is not null)
            {
                log.Write(new StageChanged(s.EndedAt ?? view.CreatedAt, s.ActivityId, s.Stage, s.State, s.Attempts.Count, null, s.Failure, s.Hint));
            }
        }
    }

    private static void Show(RunView run, IReadOnlyList<string> abandoned, IReadOnlyDictionary<Guid, Uri> mlflow, bool json)
    {
        if (json)
        {
            Output.WriteJson(AsJson(run, abandoned, mlflow));
            return;
        }

        var definition = WorkflowDefinition.Parse(run.DefinitionJson);
        Console.Out.WriteLine($"run       {run.Id}  {StateMark.Of(run.State).Word}");
        Console.Out.WriteLine($"workflow  {RunReport.Title(run, definition)}  {Figures.Short(run.DefinitionDigest)}");
        Console.Out.WriteLine($"began     {Figures.Time(run.CreatedAt)}" + (run.EndedAt is null ? string.Empty : $", took {Took(run.CreatedAt, run.EndedAt)}"));
        if (mlflow.TryGetValue(run.Id, out var shown))
        {
            Console.Out.WriteLine($"mlflow    {shown}");
        }

        foreach (var (name, value) in JsonNode.Parse(run.InputsJson)!.AsObject().Where(p => p.Value is not null))
        {
            Output.WriteText(value!.ToJsonString(Output.Json).Trim('"'), $"  {name} = ");
        }

        if (run.Incident is not null)
        {
            Output.WriteText(run.Incident, "incident: ");
        }

        Console.Out.WriteLine();
        Output.WriteTable([["STAGE", "STATE", "TOOK", "ATTEMPTS", "PEAK MEMORY", "NOTE"], .. run.Stages.Select(s => new[]
        {
            s.ActivityId, $"{StateMark.Of(s.State).Shape} {StateMark.Of(s.State).Word}", s.StartedAt is { } started && s.CachedFromRunId is null ? Took(started, s.EndedAt) : "-",
            s.Attempts.Count.ToString(CultureInfo.InvariantCulture), s.Attempts.Max(a => a.PeakRssBytes) is { } peak ? Figures.Bytes(peak) : "-",
            s.CachedFromRunId is { } from ? $"from run {Figures.Short(from)}" : s.Failure ?? string.Empty,
        })]);
        var outputs = run.Stages.SelectMany(s => s.Outputs.Select(o => new[] { $"{s.ActivityId}.{o.Port}", o.Kind, Figures.Short(o.Digest) })).ToList();
        if (outputs.Count > 0)
        {
            Console.Out.WriteLine();
            Output.WriteTable([["ARTIFACT", "KIND", "DIGEST"], .. outputs]);
        }

        Console.Out.WriteLine();
        foreach (var failed in run.Stages.Where(s => s.Failure is not null))
        {
            Output.WriteText(failed.Failure!, failed.ActivityId + ": ");
            if (failed.Hint is not null)
            {
                Output.WriteText(failed.Hint, "  try: ");
            }
        }

        foreach (var stage in abandoned)
        {
            Output.WriteText("nothing works on it: its host has been silent for longer than its lease.", stage + ": ");
            Output.WriteText($"fastdraft run --resume {Figures.Short(run.Id)}, or fastdraft runs cancel {Figures.Short(run.Id)}", "  try: ");
        }

        Console.Out.WriteLine($"why each stage ran: fastdraft runs explain {Figures.Short(run.Id)}");
    }

    /// <summary>The run as it is, and beside the ids of run and stage runs where MLflow shows them.</summary>
    private static JsonNode AsJson(RunView run, IReadOnlyList<string> abandoned, IReadOnlyDictionary<Guid, Uri> mlflow)
    {
        var json = JsonSerializer.SerializeToNode(run, Output.Json)!;
        json["mlflow"] = mlflow.TryGetValue(run.Id, out var shown) ? shown.ToString() : null;
        foreach (var (stage, node) in run.Stages.Zip(json["stages"]!.AsArray()))
        {
            node!["mlflow"] = mlflow.TryGetValue(stage.Id, out var child) ? child.ToString() : null;
            node["isAbandoned"] = abandoned.Contains(stage.ActivityId);
        }

        return json;
    }

    private static string Took(DateTimeOffset from, DateTimeOffset? to) => to is { } end
        ? Figures.Took(from, end)
        : string.Empty;
}
