using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Registry;

namespace FastDraft.Server;

public enum PlanVerdict
{
    Hit,
    Miss,

    /// <summary>An upstream stage misses, so its outputs are not known yet.</summary>
    Unknown,
}

/// <param name="ActivityId">The activity.</param>
/// <param name="Stage">What it does.</param>
/// <param name="Settings">With what settings, defaults included.</param>
/// <param name="Verdict">Whether it would run.</param>
/// <param name="HitRunId">The run whose result it would take.</param>
/// <param name="Reasons">Why it would run.</param>
public sealed record PlannedStage(string ActivityId, StageDescriptor Stage, JsonObject Settings, PlanVerdict Verdict, Guid? HitRunId, IReadOnlyList<string> Reasons);

/// <summary>Says what a run would do, without doing it.</summary>
public static class Planner
{
    public static async Task<IReadOnlyList<PlannedStage>> PlanAsync(
        PipelineStore store, PipelineOptions options, WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs, CancellationToken ct = default)
    {
        using var keys = new KeyBuilder(store, options.ExpandPath);
        var known = new Dictionary<(string Instance, string Port), Digest>();
        var answered = new HashSet<string>(StringComparer.Ordinal);
        var plan = new List<PlannedStage>();
        await using var db = store.Open();
        var walk = new WorkflowWalk(definition, options.Stages, inputs);
        while (walk.TryNext(out var start))
        {
            var outcome = start.Stage.Outcomes[0];
            var unknown = start.Inputs.Where(i => !answered.Contains(i.Value.ActivityInstanceId)).ToList();
            if (unknown.Count > 0)
            {
                plan.Add(new PlannedStage(
                    start.ActivityId, start.Stage, start.Settings, PlanVerdict.Unknown, null, [.. unknown.Select(i => $"input `{i.Key}` waits for `{i.Value.ActivityId}`")]));
            }
            else
            {
                // A lookup may have found nothing for an optional input.
                var digests = start.Inputs.Where(i => known.ContainsKey((i.Value.ActivityInstanceId, i.Value.Port)))
                    .ToDictionary(i => i.Key, i => known[(i.Value.ActivityInstanceId, i.Value.Port)]);
                var (key, _) = await keys.BuildAsync(start.Stage, start.Settings, digests, ct);
                var result = start.Stage.IsLookup
                    ? await Lookups.AnswerAsync(db, definition.DefinitionId, start.Stage.Name, start.Settings, key, ct)
                    : await keys.FindAsync(db, key.ComputeDigest(), [], ct) is { } hit ? LookupResult.Of(hit.Row, hit.Outputs) : null;
                plan.Add(new PlannedStage(
                    start.ActivityId, start.Stage, start.Settings, result is null ? PlanVerdict.Miss : PlanVerdict.Hit, result?.FromRunId,
                    result is null ? await KeyBuilder.ExplainAsync(db, key, null, start.ActivityId, ct) : []));
                if (result is not null)
                {
                    answered.Add(start.ActivityInstanceId);
                    outcome = result.Outcome;
                    foreach (var (port, _, digest) in result.Outputs)
                    {
                        known[(start.ActivityInstanceId, port)] = Digest.Parse(digest);
                    }
                }
            }

            walk.Succeed(start, outcome);
        }

        return plan;
    }
}
