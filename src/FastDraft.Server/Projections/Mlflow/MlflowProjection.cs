using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Registry;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Projections.Mlflow;

/// <summary>
/// Runs, stage runs, metrics and drafts in MLflow: a workflow is an experiment, a run a parent run, a stage run a child of it, a draft a
/// registered model. A run that was created and not remembered, because the process died between the two, is found again by its tag.
/// Metric points are read from the attempts' own rows in batches and the position is moved after each; a batch that is sent again adds nothing.
/// </summary>
internal sealed class MlflowProjection(ProjectionOptions options, PipelineStore store) : IProjection
{
    private const string RunTag = "fastdraft.runId";
    private const string StageRunTag = "fastdraft.stageRunId";
    private const string VersionTag = "fastdraft.version";
    private const long MaxShownBytes = 32 << 20;

    /// <summary>Files of outputs that people read.</summary>
    private static readonly string[] Shown = ["report.html", "report.json", "decision.json", "README.md"];

    private readonly MlflowClient mlflow = new(options.Mlflow!, options.MlflowToken, options.Timeout);

    /// <summary>Attempts whose points the server did not take: they go with the end of their stage run, which is tried and given up like any event.</summary>
    private readonly HashSet<Guid> hindered = [];

    public string Name => "mlflow";

    public void Dispose() => mlflow.Dispose();

    public async Task DeliverAsync(OutboxEventRow told, CancellationToken ct)
    {
        if (told.Kind is OutboxEventKind.DraftRegistered or OutboxEventKind.AliasMoved)
        {
            await DraftAsync(told.Kind, JsonSerializer.Deserialize<OutboxDraft>(told.DataJson!)!, ct);
            return;
        }

        var of = await ToldRun.ReadAsync(store, told, ct);
        var parent = await RunAsync(of.Run, told, ct);
        switch (told.Kind)
        {
            case OutboxEventKind.RunBegun:
                break;
            case OutboxEventKind.RunEnded:
                await mlflow.SetTagsAsync(parent.MlflowRunId, Texts(("fastdraft.state", of.Run.State.ToString()), ("fastdraft.incident", of.Run.Incident)), ct);
                await mlflow.UpdateRunAsync(parent.MlflowRunId, Status(of.Run.State == RunState.Succeeded, of.Run.State == RunState.Cancelled), told.At, ct);
                break;
            case OutboxEventKind.StageStarted:
                await StageRunAsync(of, parent, told.At, ct);
                await FollowAsync(of, ct);
                break;
            case OutboxEventKind.StageRetried:
                await DrainAsync(await StageRunAsync(of, parent, told.At, ct), of.StageRun!.Id, told.AttemptId, ct);
                break;
            case OutboxEventKind.StageCached or OutboxEventKind.StageEnded:
                await EndAsync(of, await StageRunAsync(of, parent, of.StageRun!.StartedAt ?? told.At, ct), told.At, ct);
                break;
            default:
                throw new DeliveryException(DeliveryFault.Refused, $"Event {told.Id} is of the kind '{told.Kind}', which there is not.");
        }
    }

    /// <summary>A batch of points of each attempt that has new ones.</summary>
    public async Task<bool> AdvanceAsync(CancellationToken ct)
    {
        await using var db = store.Open();
        var due = await (from a in db.MlflowAttempts.AsNoTracking()
                         join m in db.MlflowRuns.AsNoTracking() on new { a.Server, SubjectId = a.StageRunId } equals new { m.Server, m.SubjectId }
                         where a.Server == mlflow.Server && !a.IsDone
                         select new { Attempt = a, m.MlflowRunId }).ToListAsync(ct);
        var more = false;
        foreach (var one in due.Where(d => !hindered.Contains(d.Attempt.AttemptId)))
        {
            try
            {
                more |= await SendMetricsAsync(db, one.Attempt, one.MlflowRunId, ct);
            }
            catch (DeliveryException e) when (e.Fault != DeliveryFault.Away)
            {
                hindered.Add(one.Attempt.AttemptId);
            }
        }

        return more;
    }

    private async Task EndAsync(ToldRun of, MlflowRunRow shown, long at, CancellationToken ct)
    {
        var stage = of.StageRun!;
        await FollowAsync(of, ct);
        await DrainAsync(shown, stage.Id, null, ct);
        await mlflow.LogInputsAsync(
            shown.MlflowRunId, [.. of.Inputs.Select(p => new MlflowDataset(p.Kind == "path" ? p.Port["setting:".Length..] : p.Kind, p.Digest, p.Kind == "path" ? "a path of the machine" : "the artifact store", p.Port[(p.Port.IndexOf(':', StringComparison.Ordinal) + 1)..]))], ct);
        var tags = Texts(
            ("fastdraft.state", stage.State.ToString()), ("fastdraft.outcome", stage.Outcome), ("fastdraft.failure", stage.Failure), ("fastdraft.hint", stage.Hint),
            ("fastdraft.attempts", of.Attempts.Count.ToString(CultureInfo.InvariantCulture)), ("fastdraft.cachedFromRun", stage.CachedFromRunId?.ToString()));
        foreach (var output in of.Outputs)
        {
            tags[$"fastdraft.output.{output.Port}"] = output.Digest;
        }

        await mlflow.SetTagsAsync(shown.MlflowRunId, tags, ct);

        // What was cached is shown where it was made.
        foreach (var output in of.Outputs.Where(_ => stage.State == StageRunState.Succeeded))
        {
            await ShowFilesAsync(shown, output, ct);
        }

        await mlflow.UpdateRunAsync(shown.MlflowRunId, Status(of.Succeeded, stage.State == StageRunState.Cancelled), at, ct);
    }

    /// <summary>The MLflow run of a run: remembered, found, or made.</summary>
    private async Task<MlflowRunRow> RunAsync(RunRow run, OutboxEventRow told, CancellationToken ct) =>
        await RememberedAsync(run.Id, ct) ?? await FindOrCreateAsync(
            run.Id, await mlflow.ExperimentAsync(run.WorkflowName, ct), RunTag, $"{run.WorkflowName} {run.Id.ToString("N")[^8..]}", told.Kind == OutboxEventKind.RunBegun ? told.At : run.CreatedAt,
            Texts(
                (RunTag, run.Id.ToString()), ("fastdraft.definitionDigest", run.DefinitionDigest), ("fastdraft.workflow", run.WorkflowName), ("fastdraft.inputs", run.InputsJson),
                ("fastdraft.parentRunId", run.ParentRunId?.ToString()), ("fastdraft.url", RunPage.Of(options.PublicUrl, run.Id)?.ToString()),
                ("mlflow.note.content", RunPage.Of(options.PublicUrl, run.Id) is { } page ? $"[Run {run.Id} in FastDraft]({page})" : $"fastdraft runs show {run.Id}"),
                ("mlflow.source.name", run.WorkflowName), ("mlflow.source.type", "PROJECT"), ("mlflow.user", "fastdraft")),
            ct);

    private async Task<MlflowRunRow> StageRunAsync(ToldRun of, MlflowRunRow parent, long startedAt, CancellationToken ct)
    {
        var stage = of.StageRun!;
        var logs = RunPage.Of(options.PublicUrl, of.Run.Id)?.ToString() ?? $"fastdraft runs logs {of.Run.Id} {stage.ActivityId}";
        var shown = await RememberedAsync(stage.Id, ct) ?? await FindOrCreateAsync(
            stage.Id, parent.ExperimentId, StageRunTag, stage.ActivityId, startedAt,
            Texts(
                (StageRunTag, stage.Id.ToString()), ("fastdraft.stageOfRunId", of.Run.Id.ToString()), ("mlflow.parentRunId", parent.MlflowRunId), ("fastdraft.stage", stage.Stage),
                ("fastdraft.stageVersion", stage.StageVersion.ToString(CultureInfo.InvariantCulture)), ("fastdraft.key", stage.KeyDigest), ("fastdraft.logs", logs),
                ("mlflow.source.name", $"{of.Run.WorkflowName}/{stage.ActivityId}"), ("mlflow.source.type", "JOB"), ("mlflow.user", "fastdraft")),
            ct);

        // Again with every event: a process may have died after it made the run and before it logged them.
        await mlflow.LogParamsAsync(shown.MlflowRunId, Settings(stage.SettingsJson), ct);
        return shown;
    }

    private async Task<MlflowRunRow?> RememberedAsync(Guid subject, CancellationToken ct)
    {
        await using var db = store.Open();
        return await db.MlflowRuns.AsNoTracking().SingleOrDefaultAsync(m => m.Server == mlflow.Server && m.SubjectId == subject, ct);
    }

    private async Task<MlflowRunRow> FindOrCreateAsync(Guid subject, string experiment, string tag, string name, long startedAt, Dictionary<string, string> tags, CancellationToken ct)
    {
        var run = await mlflow.FindRunAsync(experiment, tag, subject.ToString(), ct) ?? await mlflow.CreateRunAsync(experiment, name, startedAt, tags, ct);
        Failpoint.Reach(Failpoint.MlflowRunCreated);
        var row = new MlflowRunRow { Server = mlflow.Server, SubjectId = subject, ExperimentId = run.ExperimentId, MlflowRunId = run.Id };
        await using var db = store.Open();
        db.MlflowRuns.Add(row);
        await db.SaveChangesAsync(ct);
        return row;
    }

    /// <summary>Remembers the attempts of a stage run as such whose points are to be sent.</summary>
    private async Task FollowAsync(ToldRun of, CancellationToken ct)
    {
        await using var db = store.Open();
        var known = await db.MlflowAttempts.Where(a => a.Server == mlflow.Server && a.StageRunId == of.StageRun!.Id).Select(a => a.AttemptId).ToListAsync(ct);
        db.MlflowAttempts.AddRange(of.Attempts.Where(a => !known.Contains(a.Id)).Select(a => new MlflowAttemptRow { Server = mlflow.Server, AttemptId = a.Id, StageRunId = of.StageRun!.Id }));
        await db.SaveChangesAsync(ct);
    }

    /// <summary>Sends what is left of the points of attempts that have ended.</summary>
    /// <param name="attempt">Null: all of the stage run.</param>
    private async Task DrainAsync(MlflowRunRow shown, Guid stageRun, Guid? attempt, CancellationToken ct)
    {
        await using var db = store.Open();
        foreach (var open in await db.MlflowAttempts.AsNoTracking().Where(a => a.Server == mlflow.Server && a.StageRunId == stageRun && !a.IsDone && (attempt == null || a.AttemptId == attempt)).ToListAsync(ct))
        {
            while (await SendMetricsAsync(db, open, shown.MlflowRunId, ct))
            {
            }

            await db.MlflowAttempts.Where(a => a.Server == mlflow.Server && a.AttemptId == open.AttemptId).ExecuteUpdateAsync(u => u.SetProperty(a => a.IsDone, true), ct);
            hindered.Remove(open.AttemptId);
        }
    }

    /// <returns>True when there may be more.</returns>
    private async Task<bool> SendMetricsAsync(PipelineDbContext db, MlflowAttemptRow attempt, string run, CancellationToken ct)
    {
        var points = await db.Metrics.AsNoTracking().Where(m => m.AttemptId == attempt.AttemptId && m.Id > attempt.Position).OrderBy(m => m.Id).Take(MlflowClient.MaxMetrics).ToListAsync(ct);
        if (points.Count == 0)
        {
            return false;
        }

        await mlflow.LogMetricsAsync(run, points.Select(p => new MlflowMetric(p.Name, p.Value, p.At, p.Step)), ct);
        Failpoint.Reach(Failpoint.MetricsSent);
        attempt.Position = points[^1].Id;
        await db.MlflowAttempts.Where(a => a.Server == mlflow.Server && a.AttemptId == attempt.AttemptId).ExecuteUpdateAsync(u => u.SetProperty(a => a.Position, attempt.Position), ct);
        return points.Count == MlflowClient.MaxMetrics;
    }

    private async Task ShowFilesAsync(MlflowRunRow shown, StageRunPortRow output, CancellationToken ct)
    {
        MlflowRun? run = null;
        try
        {
            var manifest = await store.Artifacts.ManifestAsync(Digest.Parse(output.Digest), ct);
            foreach (var file in manifest.Files.Where(f => Shown.Contains(f.Path) && f.SizeBytes <= MaxShownBytes))
            {
                run ??= await mlflow.GetRunAsync(shown.MlflowRunId, ct);
                if (!await mlflow.UploadAsync(run, $"{output.Port}/{file.Path}", await store.Artifacts.ReadAsync(Digest.Parse(output.Digest), file.Path, ct), ct))
                {
                    return;
                }
            }
        }
        catch (StageFailureException e) when (e.Kind == FailureKind.Data)
        {
            // Collected or damaged since: the run is shown without it.
            await mlflow.SetTagsAsync(shown.MlflowRunId, Texts(($"fastdraft.notShown.{output.Port}", e.Message)), ct);
        }
    }

    private async Task DraftAsync(string kind, OutboxDraft told, CancellationToken ct)
    {
        await using var db = store.Open();
        var draft = await db.Drafts.AsNoTracking().SingleOrDefaultAsync(d => d.Name == told.Name && d.Version == told.Version, ct)
            ?? throw new DeliveryException(DeliveryFault.Refused, $"Draft '{told.Name}' version {told.Version} is not in the tables.");
        var version = await VersionAsync(db, draft, ct);
        if (kind != OutboxEventKind.AliasMoved)
        {
            return;
        }

        // MLflow's aliases are of a name; ours of a name and a target. Where a name has drafts for several targets the target is in the alias too.
        var aliases = await db.DraftAliases.AsNoTracking().Where(a => a.Name == told.Name).ToListAsync(ct);
        var suffix = aliases.Select(a => a.TargetDigest).Distinct().Count() > 1 ? "-" + Digest.Parse(told.TargetDigest).Hex[..8] : null;
        await mlflow.SetAliasAsync(told.Name, told.Alias!, version, ct);
        if (suffix is not null)
        {
            await mlflow.SetAliasAsync(told.Name, told.Alias + suffix, version, ct);
        }

        if (aliases.All(a => a.TargetDigest != told.TargetDigest || a.Alias != DraftRegistry.Challenger))
        {
            await mlflow.DeleteAliasAsync(told.Name, DraftRegistry.Challenger + suffix, ct);
        }
    }

    /// <summary>The version of the registered model that is this draft: found by its tag, or made.</summary>
    private async Task<string> VersionAsync(PipelineDbContext db, DraftRow draft, CancellationToken ct)
    {
        var number = draft.Version.ToString(CultureInfo.InvariantCulture);
        await mlflow.RegisterModelAsync(draft.Name, $"Draft models named {draft.Name}, made by FastDraft.", ct);
        if (await mlflow.FindVersionAsync(draft.Name, VersionTag, number, ct) is { } found)
        {
            return found;
        }

        // The stage run that made the model, or else the run that registered it.
        var maker = await db.Artifacts.AsNoTracking().Where(a => a.Digest == draft.ModelDigest).Select(a => a.StageRunId).SingleOrDefaultAsync(ct);
        var shown = maker is { } stage ? await RememberedAsync(stage, ct) : null;
        if (shown is null)
        {
            var run = await db.Runs.AsNoTracking().SingleAsync(r => r.Id == draft.RunId, ct);
            shown = await RunAsync(run, new OutboxEventRow(), ct);
        }

        return await mlflow.CreateVersionAsync(
            draft.Name, shown.MlflowRunId, $"runs:/{shown.MlflowRunId}/model", $"Model {draft.ModelDigest} for target {draft.TargetDigest}.",
            Texts(
                (VersionTag, number), ("fastdraft.modelDigest", draft.ModelDigest), ("fastdraft.targetDigest", draft.TargetDigest), ("fastdraft.evaluationDigest", draft.EvaluationDigest),
                (RunTag, draft.RunId.ToString()), ("fastdraft.url", RunPage.Of(options.PublicUrl, draft.RunId)?.ToString())),
            ct);
    }

    private static string Status(bool succeeded, bool cancelled) => succeeded ? "FINISHED" : cancelled ? "KILLED" : "FAILED";

    private static Dictionary<string, string> Settings(string json) => JsonNode.Parse(json)!.AsObject().Where(p => p.Value is not null)
        .ToDictionary(p => p.Key, p => p.Value!.GetValueKind() == JsonValueKind.String ? p.Value.GetValue<string>() : p.Value.ToJsonString());

    private static Dictionary<string, string> Texts(params (string Name, string? Value)[] values) => values.Where(v => v.Value is not null).ToDictionary(v => v.Name, v => v.Value!);
}
