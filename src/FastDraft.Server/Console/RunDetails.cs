using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Gates;
using FastDraft.Server.Projections.Mlflow;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Server.ConsolePages;

/// <summary>What a run's page shows, read again as long as somebody looks. Nothing here is kept that the tables do not have.</summary>
public sealed class RunDetails(PipelineStore store, PipelineOptions options, GateStore gateStore, Guid runId)
{
    private readonly Dictionary<string, TimeSpan> expected = new(StringComparer.Ordinal);
    private readonly Dictionary<Guid, LogWindow> working = [];
    private string? evaluationDigest;
    private LogWindow? shown;

    /// <summary>Null: there is no such run.</summary>
    public RunView? Run { get; private set; }

    public WorkflowDefinition? Definition { get; private set; }

    public RunPicture? Picture { get; private set; }

    public IReadOnlyList<GateView> Gates { get; private set; } = [];

    public IReadOnlyDictionary<Guid, Uri> Mlflow { get; private set; } = new Dictionary<Guid, Uri>();

    public EvaluationReport? Report { get; private set; }

    public PortArtifactView? ReportArtifact { get; private set; }

    public DateTimeOffset Now { get; private set; }

    public bool IsOver => Run is not null && RunStateMachine.IsTerminal(Run.State);

    public StageRunView? Stage { get; private set; }

    public AttemptView? Attempt { get; private set; }

    public LogWindow? Log => shown;

    public Curves Curves { get; private set; } = new();

    /// <summary>How much longer the run will likely take; null where too little is known.</summary>
    public TimeSpan? Left { get; private set; }

    public string? Target => Run is null ? null : Name(Input("target"));

    /// <summary>Reads the run anew.</summary>
    public async Task ReadAsync(CancellationToken ct)
    {
        Now = options.Clock.GetUtcNow();
        Run = await store.Queries.GetRunAsync(runId, ct);
        if (Run is null)
        {
            return;
        }

        Definition ??= WorkflowDefinition.Parse(Run.DefinitionJson);
        Gates = await gateStore.OfRunAsync(runId, ct);
        Mlflow = await MlflowLinks.OfRunAsync(store, runId, ct);
        await ReadProgressAsync(ct);
        await ReadExpectedAsync(ct);
        Picture = RunPicture.Of(Run, Definition, Gates, Progress, expected, Now);
        Left = EstimateLeft();
        await ReadReportAsync(ct);
    }

    /// <summary>Turns to a stage of the run and one of its attempts, the last by default.</summary>
    /// <returns>Whether its log or curves have more than before.</returns>
    public async Task<bool> ShowAsync(string? node, int? attempt, CancellationToken ct)
    {
        Stage = Picture?.Nodes.FirstOrDefault(n => n.Id == node)?.Stage;

        // What was reused shows what was said when it was made.
        var source = Stage is { CachedFromRunId: { } from } ? (await store.Queries.GetRunAsync(from, ct))?.Stages.LastOrDefault(s => s.KeyDigest == Stage.KeyDigest && s.Attempts.Count > 0) ?? Stage : Stage;
        Attempt = source is null ? null : source.Attempts.FirstOrDefault(a => a.Number == attempt) ?? (source.Attempts.Count > 0 ? source.Attempts[^1] : null);
        if (Attempt is null)
        {
            (shown, Curves) = (null, new Curves());
            return true;
        }

        var isOther = shown?.Attempt != Attempt.Id;
        if (isOther)
        {
            shown = new LogWindow(store.Queries, source!.ActivityId, Attempt.Id);
            Curves = new Curves();
            Curves.Add(await store.Queries.CurvesAsync(Attempt.Id, Curves.NumPoints, ct));
        }

        return await FollowAsync(ct) || isOther;
    }

    /// <summary>What the shown attempt said and measured since.</summary>
    /// <returns>Whether there was anything.</returns>
    public async Task<bool> FollowAsync(CancellationToken ct)
    {
        if (shown is null || Attempt is null)
        {
            return false;
        }

        var hasLines = await shown.ReadAsync(Attempt.EndedAt is not null, ct);
        var points = await store.Queries.MetricsAsync(Attempt.Id, Curves.Last, ct: ct);
        Curves.Add(points);
        return hasLines || points.Count > 0;
    }

    public StageProgress? ProgressOf(StageRunView stage) => Progress.GetValueOrDefault(stage.Id) ?? (Stage?.Id == stage.Id ? shown?.Progress : null);

    /// <summary>What was given to the run, or is given by its workflow, as <c>name</c> and JSON.</summary>
    public IEnumerable<KeyValuePair<string, JsonNode?>> Inputs()
    {
        var given = JsonNode.Parse(Run!.InputsJson)!.AsObject();
        return Definition!.Inputs.Select(i => KeyValuePair.Create(i.Name, given[i.Name] ?? i.Default)).Concat(given.Where(g => Definition.Inputs.All(i => i.Name != g.Key)));
    }

    private Dictionary<Guid, StageProgress> Progress { get; set; } = [];

    private string? Input(string name) => Inputs().FirstOrDefault(i => i.Key == name).Value is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;

    private static string? Name(string? path) => string.IsNullOrEmpty(path) ? null : Path.GetFileName(Path.TrimEndingDirectorySeparator(path));

    private async Task ReadProgressAsync(CancellationToken ct)
    {
        var running = Run!.Stages.Where(s => s.State == StageRunState.Running && s.Attempts.Count > 0).ToList();
        Progress = [];
        foreach (var stage in running)
        {
            var attempt = stage.Attempts[^1];
            if (!working.TryGetValue(attempt.Id, out var window))
            {
                working[attempt.Id] = window = new LogWindow(store.Queries, stage.ActivityId, attempt.Id);
            }

            await window.ReadAsync(false, ct);
            if (window.Progress is { } progress)
            {
                Progress[stage.Id] = progress;
            }
        }
    }

    private async Task ReadExpectedAsync(CancellationToken ct)
    {
        if (IsOver || expected.Count > 0)
        {
            return;
        }

        foreach (var activity in Definition!.Root.SelfAndDescendants().Where(a => a.Core is null && a.Children.Count == 0))
        {
            if (await store.Queries.LastWorkedAsync(activity.Type[(activity.Type.LastIndexOf('.') + 1)..], activity.Id, ct) is { } worked)
            {
                expected[activity.Id] = worked.Took;
            }
        }
    }

    // Of stages that wait for one another the sum, of those beside one another too: an upper estimate for a host that does one at a time.
    private TimeSpan? EstimateLeft()
    {
        if (IsOver || Picture!.Nodes.Any(n => n.Look == StateLook.Waiting))
        {
            return null;
        }

        var left = TimeSpan.Zero;
        foreach (var node in Picture.Nodes.Where(n => n.Stage is null ? n.Look.Name == "queued" : !RunStateMachine.IsTerminal(n.Stage.State)))
        {
            if (node is { Stage: { State: StageRunState.Running, StartedAt: { } began }, Fraction: > 0.02 })
            {
                left += (Now - began) * ((1 - node.Fraction.Value) / node.Fraction.Value);
            }
            else if (expected.TryGetValue(node.Stage?.ActivityId ?? node.Id, out var took))
            {
                left += took;
            }
            else if (Definition!.Activity(node.Id)?.Core is null)
            {
                return null;
            }
        }

        return left > TimeSpan.Zero ? left : null;
    }

    private async Task ReadReportAsync(CancellationToken ct)
    {
        ReportArtifact = Run!.Stages.SelectMany(s => s.Outputs).LastOrDefault(o => o.Kind == ArtifactKind.Evaluation);
        if (ReportArtifact is null || ReportArtifact.Digest == evaluationDigest)
        {
            return;
        }

        evaluationDigest = ReportArtifact.Digest;
        Report = await Reports.ReadAsync(store, ReportArtifact.Digest, ct);
    }
}
