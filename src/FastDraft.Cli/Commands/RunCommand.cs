using System.CommandLine;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft run</c>: submits a workflow to an embedded host and follows it to its end.</summary>
internal static class RunCommand
{
    public static Command Build(Interrupts interrupts)
    {
        var file = new Argument<string?>("workflow") { Description = "Workflow file (Elsa 3 JSON), or the name of a published workflow", Arity = ArgumentArity.ZeroOrOne };
        var set = SharedOptions.NewSet();
        var resume = new Option<string?>("--resume") { Description = "Go on with a run that was interrupted (id, prefix or latest)" };
        var noCache = new Option<bool>("--no-cache") { Description = "Run every stage, reuse nothing" };
        var quiet = SharedOptions.NewQuiet();
        var command = new Command("run", "Run a workflow: from a target and text to an aligned, evaluated, exported draft") { file, set, resume, noCache, quiet, SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            var (workflow, resumed) = (parsed.GetValue(file), parsed.GetValue(resume));
            if (workflow is null == resumed is null)
            {
                throw new CliException(ExitCode.Config, "Give either a workflow or --resume RUN.", "fastdraft run workflows/quickstart.json");
            }

            if (resumed is not null && (parsed.GetValue(set)!.Length > 0 || parsed.GetValue(noCache)))
            {
                throw new CliException(ExitCode.Config, "--resume goes on with a run as it was begun; --set and --no-cache would be ignored.", "fastdraft run WORKFLOW --set ...");
            }

            // Everything that can be said against the run is said before anything is written.
            var options = EmbeddedPipeline.Options(SharedOptions.DataFolder(parsed));
            var definition = workflow is null ? null : await WorkflowCommand.LoadAsync(workflow, options, token);
            var inputs = definition is null ? null : EmbeddedPipeline.CheckedInputs(options, definition, EmbeddedPipeline.Inputs(definition, parsed.GetValue(set)!));
            await using var host = await PipelineHost.StartAsync(options, token);
            var run = resumed is null
                ? await host.SubmitAsync(definition!, inputs!, parsed.GetValue(noCache), ct: token)
                : await ResumeAsync(host, await EmbeddedPipeline.FindRunAsync(host.Queries, resumed, token), token);
            return await FollowAsync(host, run, SharedOptions.IsQuiet(parsed, quiet), SharedOptions.IsJson(parsed), interrupts);
        }));
        return command;
    }

    /// <summary>Shows a run of this process until it ends, is interrupted, or is cancelled; then its result.</summary>
    public static async Task<int> FollowAsync(PipelineHost host, Guid runId, bool quiet, bool json, Interrupts interrupts)
    {
        var run = (await host.Queries.GetRunAsync(runId, CancellationToken.None))!;
        var definition = WorkflowDefinition.Parse(run.DefinitionJson);
        if (!quiet && !Screen.IsInteractive)
        {
            await Console.Error.WriteLineAsync($"run {runId}  {RunReport.Title(run, definition)}");
        }

        var display = new RunDisplay(
            $"fastdraft  {Figures.Short(runId)}  {RunReport.Title(run, definition)}",
            $"Ctrl-C stops here; fastdraft run --resume {Figures.Short(runId)} goes on.",
            [.. definition.Root.SelfAndDescendants().Where(a => a.Type.StartsWith("FastDraft.", StringComparison.Ordinal) && a.Type != ActivityTypes.Gate).Select(a => a.Id)],
            TimeProvider.System);
        RunFinished? finished;
        try
        {
            var events = host.WatchAsync(runId, interrupts.First);
            finished = quiet ? await LastAsync(events) : await display.FollowAsync(events, interrupts.First);
        }
        catch (OperationCanceledException)
        {
            return await StopAsync(host, runId, interrupts);
        }

        return await RunReport.WriteAsync(host.Store, (await host.Queries.GetRunAsync(runId, CancellationToken.None))!, finished, quiet, json);
    }

    /// <summary>An unfinished run goes on where it stood; a failed one is tried anew, its finished stages are reused.</summary>
    private static async Task<Guid> ResumeAsync(PipelineHost host, RunView run, CancellationToken cancellationToken)
    {
        var id = run.State is RunState.Failed or RunState.Cancelled ? await host.RetryAsync(run.Id, cancellationToken) : run.Id;
        host.TakeUp(id);
        return id;
    }

    private static async Task<int> StopAsync(PipelineHost host, Guid runId, Interrupts interrupts)
    {
        await Console.Error.WriteLineAsync($"Stopping; what has finished is kept. Ctrl-C again cancels the run.\n  go on with: fastdraft run --resume {Figures.Short(runId)}");
        var second = interrupts.ListenToSecond();
        var stopped = host.DisposeAsync().AsTask();
        await Task.WhenAny(stopped, Task.Delay(Timeout.Infinite, second));
        if (!stopped.IsCompleted)
        {
            await host.Store.CancelAsync(runId, CancellationToken.None);
            await Console.Error.WriteLineAsync($"run {Figures.Short(runId)} is cancelled");
            await stopped;
            return ExitCode.Cancelled;
        }

        await stopped;
        return ExitCode.Interrupted;
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
}
