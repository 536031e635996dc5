using System.CommandLine;
using FastDraft.Core.Stages;
using FastDraft.Server;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft plan</c>: what a run would do, and why.</summary>
internal static class PlanCommand
{
    public static Command Build()
    {
        var file = new Argument<string>("workflow") { Description = "Workflow file (Elsa 3 JSON), or the name of a published workflow" };
        var set = SharedOptions.NewSet();
        var detailed = new Option<bool>("--detailed-exitcode") { Description = "Exit 2 when something would run" };
        var command = new Command("plan", "Show for each stage whether it would run, and why") { file, set, detailed, SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, cancellationToken) => CliErrors.GuardAsync(async () =>
        {
            var options = EmbeddedPipeline.Options(SharedOptions.DataFolder(parsed));
            var definition = await WorkflowCommand.LoadAsync(parsed.GetValue(file)!, options, cancellationToken);
            var inputs = EmbeddedPipeline.CheckedInputs(options, definition, EmbeddedPipeline.Inputs(definition, parsed.GetValue(set)!));
            await using var store = await PipelineStore.OpenAsync(options.DataFolder, cancellationToken);
            var plan = await Planner.PlanAsync(store, options, definition, inputs, cancellationToken);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(plan);
            }
            else
            {
                Output.WriteTable([["STAGE", "VERDICT", "BECAUSE"], .. plan.Select(p => new[]
                {
                    p.ActivityId,
                    p.Verdict switch { PlanVerdict.Hit => "reuse", PlanVerdict.Miss => "run", _ => "run" },
                    p.HitRunId is { } run ? $"made by run {run}" : p.Reasons.Count > 0 ? string.Join("; ", p.Reasons) : "a stage before it runs",
                })]);
            }

            return parsed.GetValue(detailed) && plan.Any(p => p.Verdict != PlanVerdict.Hit) ? ExitCode.PlanHasChanges : ExitCode.Ok;
        }));
        return command;
    }
}
