using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Stages;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft plan</c>: what a run would do, why, and what it needs.</summary>
internal static class PlanCommand
{
    // Two runs of a stage that agree in these take time in proportion to their tokens.
    private static readonly string[] DecidesSpeed = ["parameters", "accelerator", "target"];

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
            await using var store = await PipelineStore.OpenAsync(options.DataFolder, options.Settings, cancellationToken);
            var plan = await Planner.PlanAsync(store, options, definition, inputs, cancellationToken);
            var needs = await NeedsAsync(store.Queries, plan, cancellationToken);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(plan.Zip(needs, (p, n) => new { p.ActivityId, Stage = p.Stage.Name, p.Verdict, p.HitRunId, p.Reasons, Needs = n }));
            }
            else
            {
                Write(plan, needs, options.DataFolder);
            }

            return parsed.GetValue(detailed) && plan.Any(p => p.Verdict != PlanVerdict.Hit) ? ExitCode.PlanHasChanges : ExitCode.Ok;
        }));
        return command;
    }

    /// <summary>For each stage what it needs; null for one that is reused.</summary>
    private static async Task<IReadOnlyList<Needs?>> NeedsAsync(PipelineQueries queries, IReadOnlyList<PlannedStage> plan, CancellationToken cancellationToken)
    {
        var estimate = new NeedsEstimate();
        var needs = new List<Needs?>();
        foreach (var planned in plan)
        {
            var (stage, settings) = (estimate.Of(planned.Stage, planned.Settings), planned.Settings);
            if (planned.Verdict == PlanVerdict.Hit)
            {
                needs.Add(null);
                continue;
            }

            var last = await queries.LastWorkedAsync(planned.Stage.Name, planned.ActivityId, cancellationToken);
            if (last is not null && JsonNode.Parse(last.SettingsJson)!.AsObject() is var before && DecidesSpeed.All(name => JsonNode.DeepEquals(before[name], JsonNode.Parse(settings[name]?.ToJsonString() ?? "null"))))
            {
                var part = stage.NumTokens is { } now && new NeedsEstimate().Of(planned.Stage, before).NumTokens is { } then ? (double)now / then : 1;
                needs.Add(new(stage.NumTokens, stage.NumSteps, stage.MemoryBytes ?? last.PeakRssBytes, stage.DiskBytes, last.Took.TotalSeconds * part, stage.NumCards));
            }
            else
            {
                needs.Add(new(stage.NumTokens, stage.NumSteps, stage.MemoryBytes, stage.DiskBytes, stage.Seconds, stage.NumCards, IsAssumed: stage.Seconds is not null));
            }
        }

        return needs;
    }

    private static void Write(IReadOnlyList<PlannedStage> plan, IReadOnlyList<Needs?> needs, string dataFolder)
    {
        Output.WriteTable([["STAGE", "VERDICT", "BECAUSE"], .. plan.Select(p => new[]
        {
            p.ActivityId,
            p.Verdict == PlanVerdict.Hit ? "reuse" : "run",
            p.HitRunId is { } run ? $"made by run {Figures.Short(run)}" : p.Verdict == PlanVerdict.Hit ? "known without running" : p.Reasons.Count > 0 ? string.Join("; ", p.Reasons) : "a stage before it runs",
        })]);
        var due = plan.Zip(needs).Where(s => s.Second is not null).Select(s => (s.First.ActivityId, Needs: s.Second!)).ToList();
        if (due.Count == 0)
        {
            return;
        }

        Console.Out.WriteLine();
        Output.WriteTable(
            [
                ["NEEDS", "TOKENS", "STEPS", "MEMORY", "DISK", "TIME"],
                .. due.Select(d => Row(d.ActivityId, d.Needs)),
                .. due.Count == 1 ? Array.Empty<string[]>() : [Row("in all", new(
                    due.Sum(d => d.Needs.Tokens), due.Sum(d => d.Needs.Steps), due.Max(d => d.Needs.MemoryBytes), due.Sum(d => d.Needs.DiskBytes), due.All(d => d.Needs.Seconds is null) ? null : due.Sum(d => d.Needs.Seconds)))],
            ],
            numbers: 1);
        Output.WriteText(string.Join(' ', [
            "About, and at most; a dash is not known before the stage has run here with this target.",
            .. Assumptions([.. due.Select(d => d.Needs)]),
            $"Here are {Figures.Bytes(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes)} of memory and {Figures.Bytes(DoctorCommand.FreeDisk(dataFolder))} of free disk.",
        ]));
    }

    /// <summary>What the figures of stages that train on cards rest on.</summary>
    private static IEnumerable<string> Assumptions(IReadOnlyList<Needs> due)
    {
        if (due.FirstOrDefault(n => n.Cards is not null)?.Cards is { } cards)
        {
            yield return $"Training is for {cards} card(s), its memory that of one card.";
        }

        if (due.Any(n => n.IsAssumed))
        {
            yield return $"Its time is not measured: it assumes {NeedsEstimate.AssumedGaudiFlops / 1e12:F0} TFLOP/s a card, a tenth of Gaudi 2's peak in bfloat16.";
        }
    }

    private static string[] Row(string name, Needs needs) =>
    [
        name,
        needs.Tokens is { } tokens and > 0 ? Figures.Count(tokens) : "-",
        needs.Steps is { } steps and > 0 ? steps.ToString("N0", CultureInfo.InvariantCulture) : "-",
        needs.MemoryBytes is { } memory ? Figures.Bytes(memory) : "-",
        needs.DiskBytes is { } disk and > 0 ? Figures.Bytes(disk) : "-",
        needs.Seconds is { } seconds ? Figures.Duration(TimeSpan.FromSeconds(Math.Max(1, seconds))) : "-",
    ];

    /// <summary>Null is not known. <paramref name="Seconds"/> is by what the stage took when it last ran here, unless assumed. Memory is that of a card where there are <paramref name="Cards"/>.</summary>
    private sealed record Needs(long? Tokens, long? Steps, long? MemoryBytes, long? DiskBytes, double? Seconds, int? Cards = null, bool IsAssumed = false);
}
