using System.Globalization;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Cli;

/// <summary>What a run came to: the answer, the figures by suite, where report and draft lie; or why it failed.</summary>
internal static class RunReport
{
    /// <summary><c>quickstart v1  target target-docs</c></summary>
    public static string Title(RunView run, WorkflowDefinition definition)
    {
        var target = System.Text.Json.Nodes.JsonNode.Parse(run.InputsJson)?["target"]?.GetValue<string>();
        return $"{definition.Name} v{definition.Version}" + (string.IsNullOrEmpty(target) ? string.Empty : $"  target {Path.GetFileName(Path.TrimEndingDirectorySeparator(target))}");
    }

    /// <returns>The exit code of the run.</returns>
    /// <exception cref="CliException">The run failed.</exception>
    public static async Task<int> WriteAsync(PipelineStore store, RunView run, RunFinished? finished, bool quiet, bool json)
    {
        var (report, reportFile) = run.State == RunState.Succeeded ? await ReportAsync(store, run) : (null, null);
        var (drafts, draftFolder) = run.State == RunState.Succeeded ? await DraftAsync(store, run) : ([], null);
        if (json)
        {
            Output.WriteJson(Json(run, report, reportFile, draftFolder));
        }
        else if (quiet)
        {
            Console.Out.WriteLine(run.Id);
        }
        else if (run.State == RunState.Succeeded)
        {
            WriteText(run, report, reportFile, drafts, draftFolder);
        }

        switch (run.State)
        {
            case RunState.Succeeded:
                return ExitCode.Ok;
            case RunState.Cancelled:
                await Console.Error.WriteLineAsync($"run {Figures.Short(run.Id)} was cancelled");
                return ExitCode.Cancelled;
            default:
                var failed = run.Stages.FirstOrDefault(s => s.State is StageRunState.Failed or StageRunState.Crashed);
                throw new CliException(
                    FailureCode(failed),
                    failed is null ? $"run {Figures.Short(run.Id)} failed: {run.Incident ?? finished?.Incident}" : $"stage '{failed.ActivityId}' {StateMark.Of(failed.State).Word}: {failed.Failure}",
                    failed?.Hint ?? $"fastdraft runs logs {Figures.Short(run.Id)}" + (failed is null ? string.Empty : " " + failed.ActivityId));
        }
    }

    /// <summary>A stage's own verdict decides the exit code; a crash is a failed run.</summary>
    private static int FailureCode(StageRunView? failed) =>
        failed is { Attempts: [.., { ExitCode: { } code }] } && code is ExitCode.Config or ExitCode.Data or ExitCode.Bug or ExitCode.Io ? code : ExitCode.RunFailed;

    private static object Json(RunView run, EvaluationReport? report, string? reportFile, string? draftFolder) => new
    {
        run.Id,
        run.WorkflowName,
        run.State,
        run.Incident,
        Stages = run.Stages.Select(s => new { s.ActivityId, s.Stage, s.State, s.CachedFromRunId, s.Failure, s.Hint, Outputs = s.Outputs.Select(o => new { o.Port, o.Kind, o.Digest }) }),
        Answer = report is null ? null : ReportPage.Answer(report),
        report?.Summary,
        Suites = report is null ? null : Best(report),
        Report = reportFile,
        Draft = draftFolder,
    };

    private static void WriteText(RunView run, EvaluationReport? report, string? reportFile, IReadOnlyList<string> drafts, string? draftFolder)
    {
        if (report is not null)
        {
            static string Number(double value, string format) => double.IsFinite(value) ? value.ToString(format, CultureInfo.InvariantCulture) : "-";
            Console.Out.WriteLine();
            Output.WriteText(ReportPage.Answer(report) + ".", "  ");
            Console.Out.WriteLine();
            Output.WriteTable(
                [
                    ["suite", "acceptance", "block efficiency", "MBSU", "predicted", "measured", "95 %"],
                    .. Best(report).Select(r => new[]
                    {
                        r.Suite == ReportPage.AllSuites ? "all" : r.Suite, Number(r.AcceptanceRate, "F3"), Number(r.BlockEfficiency, "F2"), Number(r.MemoryBoundSpeedup, "F2"),
                        Number(r.PredictedSpeedup, "F2"), Number(r.WallClockSpeedup, "F2"), $"{Number(r.WallClockSpeedupCi.Low, "F2")}-{Number(r.WallClockSpeedupCi.High, "F2")}",
                    }),
                ],
                indent: 2, numbers: 1);
            Console.Out.WriteLine();
        }

        Line("report", reportFile);
        Line("draft", draftFolder is null ? null : $"{draftFolder}  ({string.Join(", ", drafts)})");
        var exported = run.Stages.SelectMany(s => s.Outputs).LastOrDefault(o => o.Kind == ArtifactKind.Model);
        Line("lineage", exported is null ? null : $"fastdraft lineage {Figures.Short(exported.Digest)}");
        Line("run", $"fastdraft runs show {Figures.Short(run.Id)}");

        static void Line(string name, string? text)
        {
            if (text is not null)
            {
                Console.Out.WriteLine($"  {name,-8} {text}");
            }
        }
    }

    /// <summary>The rows of the answer: every suite and all of them at the summary's temperature and draft length.</summary>
    private static IEnumerable<ConditionResult> Best(EvaluationReport report)
    {
        var rows = report.Results.Where(r => r.Temperature == report.Summary.Temperature && r.DraftLength == report.Summary.DraftLength).ToList();
        return rows.OrderBy(r => r.Suite == ReportPage.AllSuites).ThenBy(r => r.Suite, StringComparer.Ordinal).Where(r => rows.Count > 2 || r.Suite != ReportPage.AllSuites);
    }

    private static async Task<(EvaluationReport? Report, string? File)> ReportAsync(PipelineStore store, RunView run)
    {
        if (run.Stages.SelectMany(s => s.Outputs).LastOrDefault(o => o.Kind == ArtifactKind.Evaluation) is not { } evaluation)
        {
            return (null, null);
        }

        var folder = await LayOutAsync(store, run, "evaluation", evaluation);
        return (EvaluationReport.Parse(await File.ReadAllTextAsync(Path.Join(folder, "report.json"))), Near(Path.Join(folder, "report.html")));
    }

    private static async Task<(IReadOnlyList<string> Formats, string? Folder)> DraftAsync(PipelineStore store, RunView run)
    {
        if (run.Stages.LastOrDefault(s => s.Stage == "ExportDraft" && s.Outputs.Count > 0) is not { } export)
        {
            return ([], null);
        }

        foreach (var output in export.Outputs)
        {
            await LayOutAsync(store, run, Path.Join("draft", output.Port), output);
        }

        return ([.. export.Outputs.Select(o => o.Port)], Near(Path.Join(store.DataFolder, "runs", Figures.Short(run.Id), "draft")));
    }

    /// <summary>An artifact's files where a person looks for them: links into the store, so they cost nothing and can be deleted.</summary>
    private static async Task<string> LayOutAsync(PipelineStore store, RunView run, string name, PortArtifactView artifact)
    {
        var folder = Path.Join(store.DataFolder, "runs", Figures.Short(run.Id), name);
        await store.Artifacts.MaterializeAsync(Digest.Parse(artifact.Digest), folder, CancellationToken.None);
        return folder;
    }

    /// <summary>A path as this person would type it.</summary>
    private static string Near(string path)
    {
        var relative = Path.GetRelativePath(Environment.CurrentDirectory, path);
        return relative.StartsWith("..", StringComparison.Ordinal) ? path : relative;
    }
}
