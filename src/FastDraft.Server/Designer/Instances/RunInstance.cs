using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;

namespace FastDraft.Server.Designer.Instances;

/// <summary>One run with its rows, and what the designer wants to know of it. Nothing is kept: each answer is a reading of the rows.</summary>
internal sealed class RunInstance(
    RunRow run, IReadOnlyList<JournalRow> journal, IReadOnlyList<StageRunRow> stages, IReadOnlyList<AttemptRow> attempts, IReadOnlyList<StageRunPortRow> ports,
    IReadOnlyList<WaitRow> waits, Func<AttemptRow, AttemptTail> tail)
{
    private readonly Lazy<WorkflowDefinition?> definition = new(() => Try(() => WorkflowDefinition.Parse(run.DefinitionJson)));
    private readonly Lazy<WorkflowState?> state = new(() => Try(() => WorkflowState.FromJson(run.StateJson)));

    public RunRow Run => run;

    public DateTimeOffset UpdatedAt
    {
        get
        {
            var times = journal.Select(j => j.At).Append(run.CreatedAt).Append(run.EndedAt ?? 0)
                .Concat(stages.SelectMany(s => (long[])[s.CreatedAt, s.StartedAt ?? 0, s.EndedAt ?? 0]))
                .Concat(attempts.SelectMany(a => (long[])[a.StartedAt, a.EndedAt ?? (RunStateMachine.IsTerminal(run.State) ? 0 : tail(a).WrittenAt)]));
            return Time(times.Max());
        }
    }

    public string? WhyUnreadable() => definition.Value is null ? "its workflow cannot be read" : null;

    public Instance ToInstance()
    {
        var incidents = Incidents();
        var summary = new InstanceSummary(
            run.Id.ToString(), DefinitionId, InstanceReader.VersionIdOf(run.Id), run.DefinitionVersion, InstanceStatuses.Of(run.State), SubStatus, run.CorrelationId, run.WorkflowName,
            incidents.Count, Time(run.CreatedAt), UpdatedAt, run.EndedAt is { } end ? Time(end) : null);
        var input = Object(run.InputsJson);
        foreach (var (name, value) in state.Value?.Inputs ?? [])
        {
            input[name] = value?.DeepClone();
        }

        var output = new JsonObject();
        foreach (var (name, value) in state.Value?.Outputs ?? [])
        {
            output[name] = value?.DeepClone();
        }

        return new Instance(summary, new InstanceState(
            summary.Id, summary.DefinitionId, run.DefinitionVersion, run.CorrelationId, summary.Status, summary.SubStatus,
            [.. waits.Select(w => new Bookmark(w.Id.ToString(), w.Kind.ToString(), w.ActivityId, w.ActivityInstanceId, Time(w.CreatedAt)))],
            incidents, input, output, summary.CreatedAt, summary.UpdatedAt, summary.FinishedAt));
    }

    public InstanceSubStatus SubStatus =>
        InstanceStatuses.Of(run.State, onlyWaits: waits.Count > 0 && !stages.Any(s => !RunStateMachine.IsTerminal(s.State)));

    /// <summary>What failed, where and why, and what to try.</summary>
    public IReadOnlyList<Incident> Incidents()
    {
        var found = journal.Where(j => j.Event == "Faulted").Select(j => new Incident(
            j.ActivityId, j.NodeId, ExecutionId(j.ActivityInstanceId), j.ActivityType, Explain(j), new ExceptionState(FailureOf(j), j.Text ?? ""), Time(j.At))).ToList();
        return found.Count == 0 && run.State == RunState.Failed
            ? [new Incident("Workflow1", "Workflow1", "", ActivityTypes.Workflow, run.Incident ?? "The run failed.", new ExceptionState("Failed", run.Incident ?? ""), Time(run.EndedAt ?? run.CreatedAt))]
            : found;
    }

    public IReadOnlyList<JournalRecord> Journal() =>
    [
        .. journal.Where(j => j.Sequence > 0).Select(j =>
        {
            var data = Object(j.DataJson);
            return new JournalRecord(
                j.Id.ToString(System.Globalization.CultureInfo.InvariantCulture), ExecutionId(j.ActivityInstanceId), j.ParentInstanceId is { } parent ? ExecutionId(parent) : null,
                j.ActivityId, j.ActivityType, NameOf(j.ActivityId), j.NodeId, Time(j.At), j.Sequence, j.Event, j.Event == "Faulted" ? Explain(j) : j.Text,
                data["inputs"]?.DeepClone() as JsonObject, data.Count > 0 ? data : null);
        }),
    ];

    /// <summary>One record for each time an activity ran, in the order in which they started.</summary>
    public IReadOnlyList<ActivityExecution> Executions() =>
        [.. journal.Where(j => j.ActivityInstanceId.Length > 0).GroupBy(j => j.ActivityInstanceId).Select(g => Execution(g.OrderBy(j => j.Sequence).ToList()))];

    public IReadOnlyList<ActivityStats> Stats(IReadOnlyList<string> nodeIds)
    {
        var wanted = nodeIds.ToHashSet(StringComparer.Ordinal);
        return
        [
            .. Executions().Where(e => wanted.Contains(e.ActivityNodeId)).GroupBy(e => (e.ActivityId, e.ActivityNodeId)).Select(g => new ActivityStats(
                g.Key.ActivityId, g.Key.ActivityNodeId, g.Count(), g.Count(e => e.Status == ActivityExecutionStatus.Completed), g.Count(e => e.Status == ActivityExecutionStatus.Running),
                g.Any(e => e.HasBookmarks), g.Any(e => e.Status == ActivityExecutionStatus.Faulted))),
        ];
    }

    public IReadOnlyList<(string Id, string Name, JsonNode? Value)> Variables() =>
        [.. (definition.Value?.Variables ?? []).DistinctBy(v => v.Id).Select(v => (v.Id, v.Name, state.Value?.Variables.GetValueOrDefault(v.Id)?.DeepClone()))];

    /// <summary>One line for a person who waits.</summary>
    public string Describe()
    {
        var now = DateTimeOffset.FromUnixTimeMilliseconds(run.EndedAt ?? run.CreatedAt) - Time(run.CreatedAt);
        if (run.State == RunState.Failed)
        {
            return "Failed: " + (Incidents() is [var incident, ..] ? incident.Message : run.Incident);
        }

        if (RunStateMachine.IsTerminal(run.State))
        {
            return $"{run.State} in {now:hh\\:mm\\:ss}";
        }

        var busy = stages.Where(s => !RunStateMachine.IsTerminal(s.State)).Select(s =>
            $"{NameOf(s.ActivityId)} {(attempts.LastOrDefault(a => a.StageRunId == s.Id && a.EndedAt is null) is { } attempt && tail(attempt).Text is { } text ? text : s.State.ToString().ToLowerInvariant())}");
        var waiting = waits.Select(w => w.Kind switch
        {
            WaitKind.Gate => $"{NameOf(w.ActivityId)} waits for a decision",
            WaitKind.Event => $"{NameOf(w.ActivityId)} waits for the event {w.EventName}",
            WaitKind.Child => $"{NameOf(w.ActivityId)} waits for a child run",
            _ => w.DueAt is { } due ? FormattableString.Invariant($"{NameOf(w.ActivityId)} waits until {Time(due):HH:mm:ss} UTC") : $"{NameOf(w.ActivityId)} waits",
        });
        return string.Join(" \u00b7 ", busy.Concat(waiting).Prepend(run.State == RunState.Cancelling ? "Cancelling" : "Running"));
    }

    private string DefinitionId => run.DefinitionId.Length > 0 ? run.DefinitionId : definition.Value?.DefinitionId ?? run.WorkflowName;

    private string ExecutionId(string activityInstanceId) => InstanceReader.ExecutionIdOf(run.Id, activityInstanceId);

    /// <summary>What the designer shows of an activity; the id that it gives one from the toolbox is seen by nobody.</summary>
    private string NameOf(string activityId) => definition.Value?.Activity(activityId)?.Name ?? activityId;

    private ActivityExecution Execution(IReadOnlyList<JournalRow> records)
    {
        var (first, last) = (records[0], records[^1]);
        var stage = stages.FirstOrDefault(s => s.ActivityInstanceId == first.ActivityInstanceId);
        var status = last.Event switch
        {
            "Completed" => ActivityExecutionStatus.Completed,
            "Faulted" => ActivityExecutionStatus.Faulted,
            "Canceled" => ActivityExecutionStatus.Canceled,
            _ => RunStateMachine.IsTerminal(run.State) && run.State != RunState.Succeeded ? ActivityExecutionStatus.Canceled : ActivityExecutionStatus.Running,
        };
        var inputs = new JsonObject();
        var outputs = new JsonObject();
        foreach (var record in records)
        {
            var data = Object(record.DataJson);
            Copy(data["inputs"], inputs);
            Copy(data["outputs"], outputs);
        }

        if (stage is not null)
        {
            Copy(Object(stage.SettingsJson), inputs);
            foreach (var port in ports.Where(p => p.StageRunId == stage.Id && !p.External))
            {
                (port.IsOutput ? outputs : inputs)[Pascal(port.Port)] = port.Digest;
            }
        }

        var ended = status == ActivityExecutionStatus.Running ? null : (long?)last.At;
        return new ActivityExecution(
            ExecutionId(first.ActivityInstanceId), run.Id.ToString(), first.ActivityId, first.NodeId, first.ActivityType, NameOf(first.ActivityId), inputs,
            stage is null ? [] : About(stage), outputs, status == ActivityExecutionStatus.Faulted ? new ExceptionState(FailureOf(last), Explain(last)) : null,
            Time(first.At), ended is { } at ? Time(at) : null, waits.Any(w => w.ActivityInstanceId == first.ActivityInstanceId), status);
    }

    private JsonObject About(StageRunRow stage)
    {
        var about = new JsonObject { ["State"] = stage.State.ToString() };
        if (stage.CachedFromRunId is { } cached)
        {
            about["ReusedFromRun"] = cached.ToString();
        }

        var tries = attempts.Where(a => a.StageRunId == stage.Id).ToList();
        if (tries.Count > 0)
        {
            about["Attempts"] = tries.Count;
            if (tries[^1].EndedAt is null && tail(tries[^1]).Text is { } progress)
            {
                about["Progress"] = progress;
            }

            if (tries.Max(a => a.PeakRssBytes) is { } bytes)
            {
                about["PeakMemoryBytes"] = bytes;
            }
        }

        return about;
    }

    private string FailureOf(JournalRow faulted) =>
        stages.FirstOrDefault(s => s.ActivityInstanceId == faulted.ActivityInstanceId) is { } stage ? $"{stage.Stage} {stage.State}" : "Faulted";

    private string Explain(JournalRow faulted)
    {
        var stage = stages.FirstOrDefault(s => s.ActivityInstanceId == faulted.ActivityInstanceId);
        var why = stage?.Failure ?? faulted.Text ?? run.Incident ?? "It failed.";
        var (id, name) = ($"'{faulted.ActivityId}'", $"'{NameOf(faulted.ActivityId)}'");
        var what = why.Contains(id, StringComparison.Ordinal) ? why.Replace(id, name, StringComparison.Ordinal) : $"{name} failed: {why}";
        return stage?.Hint is { } hint ? $"{what.TrimEnd('.')}. Try: {hint}" : what;
    }

    private static void Copy(JsonNode? from, JsonObject to)
    {
        foreach (var (name, value) in from as JsonObject ?? [])
        {
            to[Pascal(name)] = value?.DeepClone();
        }
    }

    private static JsonObject Object(string? json) => json is null ? [] : Try(() => JsonNode.Parse(json) as JsonObject) ?? [];

    private static string Pascal(string name) => name.Length == 0 ? name : char.ToUpperInvariant(name[0]) + name[1..];

    private static DateTimeOffset Time(long milliseconds) => DateTimeOffset.FromUnixTimeMilliseconds(milliseconds);

    // A damaged row still has a place in the list, with what can be read of it.
    private static T? Try<T>(Func<T?> read)
        where T : class
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is JsonException or WorkflowFormatException or FormatException)
        {
            return null;
        }
    }
}
