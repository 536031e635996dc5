using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft run</c>: submits a workflow to an embedded host and follows it to its end.</summary>
internal static class RunCommand
{
    public static Command Build()
    {
        var file = new Argument<string?>("workflow") { Description = "Workflow definition (Elsa 3 JSON)", Arity = ArgumentArity.ZeroOrOne };
        var set = new Option<string[]>("--set") { Description = "Workflow input: name=value", DefaultValueFactory = _ => [] };
        var resume = new Option<string?>("--resume") { Description = "Go on with a run that was interrupted (id, prefix or latest)" };
        var noCache = new Option<bool>("--no-cache") { Description = "Run every stage, reuse nothing" };
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Print only the run's id" };
        var command = new Command("run", "Run a workflow: from a target and text to an aligned, evaluated, exported draft") { file, set, resume, noCache, quiet, CommonOptions.Data, CommonOptions.Format };
        command.SetAction((parsed, cancellationToken) => CliErrors.GuardAsync(() => RunAsync(
            parsed.GetValue(file), parsed.GetValue(set)!, parsed.GetValue(resume), parsed.GetValue(noCache), parsed.GetValue(quiet),
            CommonOptions.IsJson(parsed), CommonOptions.DataFolder(parsed), cancellationToken)));
        return command;
    }

    private static async Task<int> RunAsync(
        string? file, string[] set, string? resume, bool noCache, bool quiet, bool json, string dataFolder, CancellationToken cancellationToken)
    {
        if (file is null == resume is null)
        {
            throw new CliException(ExitCode.Config, "Give either a workflow or --resume RUN.", "fastdraft run workflows/quickstart.json");
        }

        var definition = file is null ? null : WorkflowCommand.Load(file);
        var inputs = definition is null ? null : EmbeddedPipeline.Inputs(definition, set);
        await using var host = await PipelineHost.StartAsync(EmbeddedPipeline.Options(dataFolder), cancellationToken);
        Guid runId;
        if (definition is not null)
        {
            runId = await host.SubmitAsync(definition, inputs!, noCache, cancellationToken);
        }
        else
        {
            var run = await EmbeddedPipeline.FindRunAsync(host.Queries, resume!, cancellationToken);
            definition = WorkflowDefinition.Parse(run.DefinitionJson);

            // An unfinished run goes on where it stood; a failed one is tried anew, its finished stages are reused.
            runId = run.State is RunState.Failed or RunState.Cancelled ? await host.RetryAsync(run.Id, cancellationToken) : run.Id;
            host.TakeUp(runId);
        }

        if (!quiet)
        {
            await Console.Error.WriteLineAsync($"run {runId}  {definition.Name}");
        }

        using var interrupt = new CancellationTokenSource();
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(interrupt.Token, cancellationToken);
        var display = new RunDisplay($"fastdraft  {definition.Name}  {runId}", Activities(definition), TimeProvider.System);
        RunFinished? finished;
        try
        {
            finished = quiet ? await LastAsync(host.WatchAsync(runId, linked.Token)) : await display.FollowAsync(host.WatchAsync(runId, linked.Token), linked.Token);
        }
        catch (OperationCanceledException)
        {
            await Console.Error.WriteLineAsync($"interrupted; go on with: fastdraft run --resume {runId}");
            return ExitCode.Interrupted;
        }

        var view = (await host.Queries.GetRunAsync(runId, CancellationToken.None))!;
        return await ReportAsync(host.Store, view, finished, quiet, json);
    }

    private static async Task<RunFinished?> LastAsync(IAsyncEnumerable<RunEvent> events)
    {
        RunFinished? last = null;
        await foreach (var e in events)
        {
            last = e as RunFinished ?? last;
        }

        return last;
    }

    private static List<string> Activities(WorkflowDefinition definition) =>
        [.. JsonNode.Parse(definition.ToJson())!["root"]!["activities"]!.AsArray()
            .Where(a => a!["type"]!.GetValue<string>().StartsWith("FastDraft.", StringComparison.Ordinal)).Select(a => a!["id"]!.GetValue<string>())];

    private static async Task<int> ReportAsync(PipelineStore store, RunView run, RunFinished? finished, bool quiet, bool json)
    {
        var evaluation = run.Stages.SelectMany(s => s.Outputs).LastOrDefault(o => o.Kind == ArtifactKind.Evaluation);
        var report = evaluation is null ? null : await ReadReportAsync(store, evaluation.Digest);
        if (json)
        {
            Output.WriteJson(new
            {
                run.Id,
                run.WorkflowName,
                run.State,
                run.Incident,
                Stages = run.Stages.Select(s => new { s.ActivityId, s.Stage, s.State, s.CachedFromRunId, s.Failure, s.Hint, Outputs = s.Outputs.Select(o => new { o.Port, o.Kind, o.Digest }) }),
                Summary = report?.Json["summary"],
            });
        }
        else if (quiet)
        {
            Console.Out.WriteLine(run.Id);
        }
        else if (run.State == RunState.Succeeded)
        {
            PrintSummary(run, report);
        }

        if (run.State == RunState.Succeeded)
        {
            return ExitCode.Ok;
        }

        if (run.State == RunState.Cancelled)
        {
            await Console.Error.WriteLineAsync($"run {run.Id} was cancelled");
            return ExitCode.Cancelled;
        }

        var failed = run.Stages.FirstOrDefault(s => s.State is StageRunState.Failed or StageRunState.Crashed);
        throw new CliException(
            FailureCode(failed),
            failed is null ? $"run {run.Id} failed: {run.Incident ?? finished?.Incident}" : $"stage '{failed.ActivityId}' {failed.State.ToString().ToLowerInvariant()}: {failed.Failure}",
            failed?.Hint ?? $"fastdraft runs logs {run.Id}" + (failed is null ? string.Empty : " " + failed.ActivityId));
    }

    /// <summary>A stage's own verdict decides the exit code; a crash is a failed run.</summary>
    private static int FailureCode(StageRunView? failed) =>
        failed is { Attempts: [.., { ExitCode: { } code }] } && code is ExitCode.Config or ExitCode.Data or ExitCode.Bug or ExitCode.Io ? code : ExitCode.RunFailed;

    private static async Task<Report?> ReadReportAsync(PipelineStore store, string digest)
    {
        var folder = Path.Join(store.DataFolder, "reports", Digest.Parse(digest).Hex);
        if (!File.Exists(Path.Join(folder, "report.json")))
        {
            await store.Artifacts.MaterializeAsync(Digest.Parse(digest), folder, CancellationToken.None);
        }

        return new Report(folder, JsonNode.Parse(await File.ReadAllTextAsync(Path.Join(folder, "report.json")))!.AsObject());
    }

    private static void PrintSummary(RunView run, Report? report)
    {
        if (report?.Json["summary"] is JsonObject summary)
        {
            double Value(string name) => summary[name]?.GetValue<double>() ?? double.NaN;
            Console.Out.WriteLine($"\n  {ReportPage.Answer(EvaluationReport.Parse(report.Json.ToJsonString()))}\n");
            Output.WriteTable(
            [
                ["  draft length", "acceptance rate", "block efficiency", "MBSU", "predicted", "measured"],
                [$"  {Number("draftLength", "F0")}", Number("acceptanceRate", "F3"), Number("blockEfficiency", "F2"), Number("memoryBoundSpeedup", "F2"), Number("predictedSpeedup", "F2"), Number("wallClockSpeedup", "F2")],
            ]);
            Console.Out.WriteLine($"\n  report   {Path.Join(report.Folder, "report.html")}");

            string Number(string name, string format) => Value(name).ToString(format, CultureInfo.InvariantCulture);
        }

        foreach (var output in run.Stages.SelectMany(s => s.Outputs.Select(o => (s.Stage, Output: o))).Where(o => o.Stage == "ExportDraft"))
        {
            Console.Out.WriteLine($"  {output.Output.Port,-8} {output.Output.Digest}");
        }

        var exported = run.Stages.LastOrDefault(s => s.Stage == "ExportDraft")?.Outputs.FirstOrDefault(o => o.Kind == ArtifactKind.Model);
        if (exported is not null)
        {
            Console.Out.WriteLine($"  get it   fastdraft artifacts get {exported.Digest[..19]} FOLDER");
            Console.Out.WriteLine($"  lineage  fastdraft lineage {exported.Digest[..19]}");
        }

        Console.Out.WriteLine($"  run      fastdraft runs show {run.Id}");
    }

    private sealed record Report(string Folder, JsonObject Json);
}
