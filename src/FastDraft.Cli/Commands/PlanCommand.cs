using System.CommandLine;
using FastDraft.Core.Stages;
using FastDraft.Server;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft plan</c>: what a run would do, and why.</summary>
internal static class PlanCommand
{
    public static Command Build()
    {
        var file = new Argument<string>("workflow") { Description = "Workflow definition (Elsa 3 JSON)" };
        var set = new Option<string[]>("--set") { Description = "Workflow input: name=value", DefaultValueFactory = _ => [] };
        var detailed = new Option<bool>("--detailed-exitcode") { Description = "Exit 2 when something would run" };
        var command = new Command("plan", "Show for each stage whether it would run, and why") { file, set, detailed, CommonOptions.Data, CommonOptions.Format };
        command.SetAction((parsed, cancellationToken) => CliErrors.GuardAsync(async () =>
        {
            var definition = WorkflowCommand.Load(parsed.GetValue(file)!);
            var inputs = EmbeddedPipeline.Inputs(definition, parsed.GetValue(set)!);
            var data = CommonOptions.DataFolder(parsed);
            await using var store = await PipelineStore.OpenAsync(data, cancellationToken);
            var plan = await Planner.PlanAsync(store, EmbeddedPipeline.Options(data), definition, inputs, cancellationToken);
            if (CommonOptions.IsJson(parsed))
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
