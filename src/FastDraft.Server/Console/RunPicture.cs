using System.Globalization;
using System.Text.RegularExpressions;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Gates;

namespace FastDraft.Server.ConsolePages;

/// <summary>An activity of a workflow as a run's page draws it. <paramref name="Stage"/>: null where no stage run stands for it.</summary>
/// <param name="Detail">What is said beside the state's word.</param>
/// <param name="Fraction">How far it is, from 0 to 1, where that is known.</param>
public sealed record PictureNode(string Id, string Name, StateLook Look, string? Detail, double? Fraction, StageRunView? Stage);

/// <summary>A run's workflow with the state of its parts.</summary>
public sealed partial record RunPicture(IReadOnlyList<PictureNode> Nodes, IReadOnlyList<(string From, string To)> Edges, int NumDone, int NumStages)
{
    private static readonly StateLook NotReached = new("Not reached", "skipped");
    private static readonly StateLook Passed = new("Done", "succeeded");

    /// <summary>
    /// The parts of the outermost flowchart, or of what else the root is, in their order. A part with stages inside shows the one of them
    /// that says most: one that failed, else one that works.
    /// </summary>
    /// <param name="progress">How far the attempts are that work.</param>
    /// <param name="expected">How long a stage that has not begun will likely take, by activity.</param>
    public static RunPicture Of(
        RunView run, WorkflowDefinition definition, IReadOnlyList<GateView> gates, IReadOnlyDictionary<Guid, StageProgress> progress, IReadOnlyDictionary<string, TimeSpan> expected, DateTimeOffset now)
    {
        var parts = definition.Root.Children.Count > 0 ? definition.Root.Children : [definition.Root];
        var byActivity = run.Stages.ToLookup(s => s.ActivityId, StringComparer.Ordinal);
        var hasEnded = RunStateMachine.IsTerminal(run.State);
        var nodes = parts.Select(part =>
        {
            var stages = part.SelfAndDescendants().SelectMany(a => byActivity[a.Id]).ToList();
            var stage = stages.Count == 0 ? null : stages.MaxBy(s => (Weight(s.State), stages.IndexOf(s)));
            var name = stages.Count > 1 ? $"{Name(part)} ({stages.Count})" : Name(part);
            if (stage is not null)
            {
                var done = progress.GetValueOrDefault(stage.Id) is { Total: > 0 } p && stage.State == StageRunState.Running ? (double)p.Done / p.Total.Value : (double?)null;
                return new PictureNode(part.Id, name, StateLook.Of(stage.State), Detail(stage, done, expected, now), done, stage);
            }

            var gate = part.SelfAndDescendants().Select(a => gates.LastOrDefault(g => g.ActivityId == a.Id)).FirstOrDefault(g => g is not null);
            return gate is not null
                ? new PictureNode(part.Id, name, gate.Approved is null ? StateLook.Waiting : gate.Approved.Value ? Passed with { Word = "Approved" } : new StateLook("Rejected", "failed"), gate.DecidedBy is null ? "for a person" : $"by {gate.DecidedBy}", null, null)
                : hasEnded ? new PictureNode(part.Id, name, NotReached, null, null, null)
                : new PictureNode(part.Id, name, StateLook.Of(StageRunState.Pending), About(expected, part.Id), null, null);
        }).ToList();

        // What is no stage leaves no trace of its own here; where it led to shows that it was passed.
        var reached = nodes.Where(n => n.Look != NotReached && n.Stage is not null).Select(n => n.Id).ToHashSet(StringComparer.Ordinal);
        var edges = definition.Root.Connections.Count > 0
            ? [.. definition.Root.Connections.Select(c => (c.Source, c.Target))]
            : parts.Zip(parts.Skip(1), (a, b) => (a.Id, b.Id)).ToList();
        var passed = nodes.Where(n => n.Stage is null && n.Look.Name is "skipped" or "queued").Where(n => edges.Any(e => e.Item1 == n.Id && reached.Contains(e.Item2))).Select(n => n.Id).ToHashSet(StringComparer.Ordinal);
        nodes = [.. nodes.Select(n => n.Stage is null && passed.Contains(n.Id) ? n with { Look = Passed, Detail = null } : n)];
        return new RunPicture(
            nodes, edges, nodes.Count(n => n.Stage?.State is StageRunState.Succeeded or StageRunState.Cached or StageRunState.Skipped),
            Math.Max(run.Stages.Select(s => s.ActivityId).Distinct().Count(), parts.Sum(p => p.SelfAndDescendants().Count(a => a.Core is null && a.Children.Count == 0))));
    }

    /// <summary>The stage that a person most likely came for: one that failed, else one that works, else the last.</summary>
    public string? Interesting => (Nodes.FirstOrDefault(n => n.Look.Name is "failed" or "crashed") ?? Nodes.FirstOrDefault(n => n.Stage?.State == StageRunState.Running)
        ?? Nodes.LastOrDefault(n => n.Stage is { Attempts.Count: > 0 }) ?? Nodes.LastOrDefault(n => n.Stage is not null))?.Id;

    private static int Weight(StageRunState state) => state switch
    {
        StageRunState.Failed => 5,
        StageRunState.Running or StageRunState.Cancelling or StageRunState.Crashed => 4,
        StageRunState.Queued or StageRunState.Pending => 3,
        StageRunState.Cancelled => 2,
        _ => 1,
    };

    private static string? Detail(StageRunView stage, double? done, IReadOnlyDictionary<string, TimeSpan> expected, DateTimeOffset now) => stage.State switch
    {
        StageRunState.Cached => stage.CachedFromRunId is { } from ? "from " + from.ToString("N")[..8] : null,
        StageRunState.Running => done is { } fraction ? fraction.ToString("0 %", CultureInfo.InvariantCulture) : stage.StartedAt is { } began ? Figures.Took(began, now) : null,
        StageRunState.Queued or StageRunState.Pending => About(expected, stage.ActivityId),
        _ => stage is { StartedAt: { } from, EndedAt: { } to } ? Figures.Took(from, to) : null,
    };

    private static string? About(IReadOnlyDictionary<string, TimeSpan> expected, string activity) => expected.TryGetValue(activity, out var span) ? "about " + Figures.Roughly(span) : null;

    // A name that is the id the designer gave, PretrainDraft1, says less than its type.
    private static string Name(WorkflowActivity activity) => activity.Name is { Length: > 0 } name && !GivenName().IsMatch(name) ? name
        : activity.Core?.DisplayName ?? activity.Type[(activity.Type.LastIndexOf('.') + 1)..];

    [GeneratedRegex("^[A-Z][A-Za-z]+[0-9]+$")]
    private static partial Regex GivenName();
}
