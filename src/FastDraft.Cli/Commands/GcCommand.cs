using System.CommandLine;
using System.Globalization;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Stages;
using FastDraft.Server;
using FastDraft.Server.Retention;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft gc</c>: deletes the bytes that nobody needs; what they were stays known.</summary>
internal static class GcCommand
{
    public static Command Build()
    {
        var dryRun = new Option<bool>("--dry-run") { Description = "Say what would go, and why, and delete nothing" };
        var keepRuns = new Option<int?>("--keep-runs") { Description = $"Keep the artifacts of the last so many runs of each workflow ({PipelineSettings.KeepRunsVariable})" };
        var keepDays = new Option<double?>("--keep-days") { Description = $"Keep the artifacts of runs that are not older than so many days ({PipelineSettings.KeepDaysVariable})" };
        var grace = new Option<double>("--grace-hours") { Description = "Blobs that belong to no artifact go when they are older than this", DefaultValueFactory = _ => KeepRules.DefaultGrace.TotalHours };
        var command = new Command("gc", "Delete bytes that nobody needs: without a rule only what no artifact ever named") { dryRun, keepRuns, keepDays, grace, SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            var configured = PipelineSettings.FromEnvironment().Keep;
            var rules = new KeepRules(
                NotNegative("--keep-runs", parsed.GetValue(keepRuns)) is { } runs ? (int)runs : configured.LastRuns,
                NotNegative("--keep-days", parsed.GetValue(keepDays)) is { } days ? TimeSpan.FromDays(days) : configured.Newer);
            await using var store = await EmbeddedPipeline.OpenAsync(parsed, token);
            var report = await new Collector(store, TimeProvider.System).CollectAsync(rules, TimeSpan.FromHours(NotNegative("--grace-hours", parsed.GetValue(grace))!.Value), parsed.GetValue(dryRun), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(report);
                return ExitCode.Ok;
            }

            if (report.Items.Count > 0)
            {
                Output.WriteTable([["DIGEST", "KIND", "SIZE", "WHY"], .. report.Items.Select(i => new[] { Figures.Short(i.Digest), i.Kind ?? "-", Figures.Bytes(i.SizeBytes), i.Why })]);
            }

            var files = string.Create(CultureInfo.InvariantCulture, $"{report.NumBlobs} files, {Figures.Bytes(report.FreedBytes)}");
            Console.Out.WriteLine(report.IsDryRun ? $"would delete {files}; nothing was deleted" : $"deleted {files}, and {report.NumAbandoned} unfinished ones");
            return ExitCode.Ok;
        }));
        return command;
    }

    private static double? NotNegative(string option, double? value) => value is null || (value >= 0 && value <= 36_500)
        ? value
        : throw new CliException(ExitCode.Config, $"{option} {value.Value.ToString(CultureInfo.InvariantCulture)} is no such number.", option + " 30");
}
