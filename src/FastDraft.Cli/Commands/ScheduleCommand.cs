using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Server;
using FastDraft.Server.Definitions;
using FastDraft.Server.Scheduling;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft schedule list|create|pause|resume|backfill|next|delete</c>. Runs are started by a host that serves this data folder.</summary>
internal static class ScheduleCommand
{
    public static Command Build()
    {
        var command = new Command("schedule", "Runs that start by themselves: list, create, pause, resume, backfill, delete");
        var name = new Argument<string>("name") { Description = "The schedule's name" };

        var list = new Command("list", "Every schedule, when it runs next and how its last run ended") { SharedOptions.Data, SharedOptions.Format };
        list.SetAction((parsed, token) => WithStore(parsed, async store => Write(parsed, await Schedules(store).ListAsync(token))));
        command.Subcommands.Add(list);
        command.Subcommands.Add(Create(name));

        foreach (var (verb, description, act, said) in new (string, string, Func<ScheduleStore, string, CancellationToken, Task>, string)[]
        {
            ("pause", "Start no runs until it is resumed", (s, n, token) => s.PauseAsync(n, token), "is paused"),
            ("resume", "Go on from now; what came due in the pause is left to a backfill", (s, n, token) => s.ResumeAsync(n, token), "goes on"),
            ("delete", "Delete a schedule; its runs stay", (s, n, token) => s.DeleteAsync(n, token), "is deleted"),
        })
        {
            var sub = new Command(verb, description) { name, SharedOptions.Data };
            sub.SetAction((parsed, token) => WithStore(parsed, async store =>
            {
                await act(Schedules(store), parsed.GetValue(name)!, token);
                Console.Out.WriteLine($"schedule {parsed.GetValue(name)} {said}");
            }));
            command.Subcommands.Add(sub);
        }

        var count = new Option<int>("--count", "-n") { Description = "How many", DefaultValueFactory = _ => 10 };
        var next = new Command("next", "The next nominal times, in UTC and in the schedule's own zone") { name, count, SharedOptions.Data, SharedOptions.Format };
        next.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var schedule = await Schedules(store).GetAsync(parsed.GetValue(name)!, token);
            var times = await Schedules(store).NextAsync(schedule.Name, Math.Max(1, parsed.GetValue(count)), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(times);
                return;
            }

            var zone = ScheduleTimes.Zone(schedule.TimeZone);
            Output.WriteTable([["UTC", schedule.TimeZone], .. times.Select(t => new[] { Time(t), TimeZoneInfo.ConvertTime(t, zone).ToString("ddd yyyy-MM-dd HH:mm:ss zzz", CultureInfo.InvariantCulture) })]);
        }));
        command.Subcommands.Add(next);

        var from = new Argument<string>("from") { Description = "First nominal time, such as 2026-03-01 or 2026-03-01T06:00:00+01:00 (UTC without an offset)" };
        var to = new Argument<string>("to") { Description = "Last nominal time" };
        var backfill = new Command("backfill", "Start a run for every nominal time of a past range that has none") { name, from, to, SharedOptions.Data, SharedOptions.Format };
        backfill.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var options = EmbeddedPipeline.Options(store.DataFolder);
            var definitions = new DefinitionStore(store, options);
            var scheduler = new Scheduler(store, options, definitions);
            var started = await scheduler.BackfillAsync(parsed.GetValue(name)!, Instant(parsed.GetValue(from)!), Instant(parsed.GetValue(to)!), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(started.Select(s => new { s.Nominal, s.RunId }));
                return;
            }

            Output.WriteTable([["NOMINAL TIME", "RUN"], .. started.Select(s => new[] { Time(s.Nominal), s.RunId.ToString() })]);
            await Console.Error.WriteLineAsync(started.Count == 0 ? "every nominal time of the range has its run" : $"{started.Count} runs wait for a host: fastdraft serve, or fastdraft run --resume RUN");
        }));
        command.Subcommands.Add(backfill);
        return command;
    }

    private static Command Create(Argument<string> name)
    {
        var workflow = new Argument<string>("workflow") { Description = "A workflow file, kept as it is now; or the id of a published workflow, whose newest version is run" };
        var cron = new Option<string?>("--cron") { Description = "Minute hour day month weekday; seconds may stand first" };
        var every = new Option<string?>("--every") { Description = "Interval: days.hours:minutes:seconds" };
        var at = new Option<string?>("--at") { Description = "One date and time, with its offset" };
        var zone = new Option<string>("--zone") { Description = "IANA time zone of the cron expression", DefaultValueFactory = _ => "UTC" };
        var misfire = new Option<string>("--misfire") { Description = "What becomes of times missed while no host ran: " + string.Join(", ", MisfirePolicies.Names), DefaultValueFactory = _ => MisfirePolicy.RunOnce.Name() };
        misfire.AcceptOnlyFromAmong([.. MisfirePolicies.Names]);
        var set = SharedOptions.NewSet();
        var command = new Command("create", "Run a workflow by the clock") { name, workflow, cron, every, at, zone, misfire, set, SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var times = new[] { (ScheduleKind.Cron, parsed.GetValue(cron)), (ScheduleKind.Interval, parsed.GetValue(every)), (ScheduleKind.Once, parsed.GetValue(at)) }.Where(t => t.Item2 is not null).ToList();
            var (kind, expression) = times.Count == 1 ? times[0] : throw new CliException(ExitCode.Config, "Give one of --cron, --every and --at.", "--cron '0 3 * * *' --zone Europe/Berlin");
            var options = EmbeddedPipeline.Options(store.DataFolder);
            var (definition, definitionId) = await WorkflowAsync(store, parsed.GetValue(workflow)!, token);
            var schedule = await Schedules(store).CreateAsync(
                new NewSchedule(
                    parsed.GetValue(name)!, definitionId is null ? definition : null, definitionId, kind, expression!, parsed.GetValue(zone)!, MisfirePolicies.Parse(parsed.GetValue(misfire)!)!.Value,
                    EmbeddedPipeline.CheckedInputs(options, definition, EmbeddedPipeline.Inputs(definition, parsed.GetValue(set)!))),
                token);
            Write(parsed, [schedule]);
        }));
        return command;
    }

    private static async Task<(WorkflowDefinition Definition, string? Id)> WorkflowAsync(PipelineStore store, string workflow, CancellationToken token)
    {
        if (File.Exists(workflow) || workflow.EndsWith(".json", StringComparison.OrdinalIgnoreCase))
        {
            return (WorkflowCommand.Load(workflow), null);
        }

        var definitions = new DefinitionStore(store, EmbeddedPipeline.Options(store.DataFolder));
        var stored = await definitions.FindPublishedAsync(workflow, token)
            ?? throw new CliException(ExitCode.Config, $"'{workflow}' is neither a file nor a published workflow.", "fastdraft schedule create NAME workflows/scheduled-retraining.json --cron '0 3 * * *'");
        return (stored.Parse(), workflow);
    }

    private static void Write(ParseResult parsed, IReadOnlyList<ScheduleView> schedules)
    {
        if (SharedOptions.IsJson(parsed))
        {
            Output.WriteJson(schedules);
            return;
        }

        Output.WriteTable([["NAME", "WORKFLOW", "WHEN", "ZONE", "MISSED", "NEXT", "LAST", "LAST RUN", "RUNS", "STATE"], .. schedules.Select(s => new[]
        {
            s.Name, s.Workflow, s.Kind == ScheduleKind.Interval ? "every " + s.Expression : s.Expression, s.TimeZone,
            s.NumMissed == 0 ? s.Misfire : string.Create(CultureInfo.InvariantCulture, $"{s.Misfire} ({s.NumMissed})"),
            s.Next is { } next ? Time(next) : "", s.LastNominal is { } last ? Time(last) : "", s.LastRunId is { } run ? $"{run} {s.LastRunState}" : "",
            s.NumRuns.ToString(CultureInfo.InvariantCulture), s.Problem ?? (s.Paused ? "paused" : "active"),
        })]);
    }

    private static DateTimeOffset Instant(string text) => DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var instant)
        ? instant
        : throw new CliException(ExitCode.Config, $"'{text}' is no date and time.", "2026-03-01T06:00:00+01:00");

    private static ScheduleStore Schedules(PipelineStore store) => new(store, TimeProvider.System);

    private static Task<int> WithStore(ParseResult parsed, Func<PipelineStore, Task> action) => CliErrors.GuardAsync(async () =>
    {
        await using var store = await PipelineStore.OpenAsync(SharedOptions.DataFolder(parsed), PipelineSettings.FromEnvironment());
        await action(store);
        return ExitCode.Ok;
    });

    private static string Time(DateTimeOffset at) => at.ToUniversalTime().ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
