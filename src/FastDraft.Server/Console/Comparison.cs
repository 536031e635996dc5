using FastDraft.Persistence;

namespace FastDraft.Server.ConsolePages;

/// <summary>An output of a stage in two runs. Null: that run has none.</summary>
public sealed record ComparedArtifact(string Stage, string Port, PortArtifactView? Before, PortArtifactView? After)
{
    public bool IsSame => Before?.Digest == After?.Digest;
}

/// <summary>A metric that both runs measured, as curves of each.</summary>
public sealed record ComparedCurve(string Stage, string Metric, IReadOnlyList<ChartLine> Lines);

/// <summary>Two runs side by side: what was given, what was measured, what was made.</summary>
public sealed record Comparison(IReadOnlyList<ComparisonRow> Configuration, IReadOnlyList<ComparisonRow> Figures, IReadOnlyList<ComparedArtifact> Artifacts, IReadOnlyList<ComparedCurve> Curves)
{
    // Two curves in one small drawing need no more.
    private const int NumPoints = 200;

    public static async Task<Comparison> OfAsync(PipelineQueries queries, RunView before, RunView after, CancellationToken ct)
    {
        var rows = await RunComparison.RowsAsync(queries, before, after, ct);
        var (first, second) = (before.Stages.Select(s => s.ActivityId).ToHashSet(StringComparer.Ordinal), after.Stages.Select(s => s.ActivityId).ToHashSet(StringComparer.Ordinal));
        var alone = first.Except(second).Select(s => new ComparisonRow("stage", s, "run", "not run")).Concat(second.Except(first).Select(s => new ComparisonRow("stage", s, "not run", "run")));

        // A stage that only one of them ran differs once, not in each of its settings.
        return new Comparison(
            [.. rows.Where(r => r.What is not ("figure" or "artifact") && (r.What != "setting" || (first.Contains(StageOf(r)) && second.Contains(StageOf(r))))), .. alone],
            [.. rows.Where(r => r.What == "figure").OrderBy(r => !r.Name.Contains(".eval_", StringComparison.Ordinal))], Outputs(before, after), await CurvesAsync(queries, before, after, ct));
    }

    private static string StageOf(ComparisonRow row) => row.Name[..row.Name.IndexOf('.', StringComparison.Ordinal)];

    private static List<ComparedArtifact> Outputs(RunView before, RunView after)
    {
        var (first, second) = (Of(before), Of(after));
        return [.. first.Keys.Union(second.Keys).Select(k => new ComparedArtifact(k.Stage, k.Port, first.GetValueOrDefault(k), second.GetValueOrDefault(k)))];

        static Dictionary<(string Stage, string Port), PortArtifactView> Of(RunView run)
        {
            var outputs = new Dictionary<(string, string), PortArtifactView>();
            foreach (var stage in run.Stages)
            {
                foreach (var output in stage.Outputs)
                {
                    outputs[(stage.ActivityId, output.Port)] = output;
                }
            }

            return outputs;
        }
    }

    private static async Task<IReadOnlyList<ComparedCurve>> CurvesAsync(PipelineQueries queries, RunView before, RunView after, CancellationToken ct)
    {
        var curves = new List<ComparedCurve>();
        foreach (var stage in before.Stages.Select(s => s.ActivityId).Intersect(after.Stages.Select(s => s.ActivityId)))
        {
            var (first, second) = (await OfAsync(queries, before, stage, ct), await OfAsync(queries, after, stage, ct));
            curves.AddRange(first.Names.Intersect(second.Names).Where(n => first[n].Count > 1 && second[n].Count > 1)
                .Select(n => new ComparedCurve(stage, n, [new ChartLine("before", first[n], 5), new ChartLine("after", second[n])])));
        }

        return [.. curves.OrderBy(c => ConsolePages.Curves.Rank(c.Metric))];
    }

    /// <summary>The curves of a stage's last attempt; where it was reused, of the run that made it.</summary>
    private static async Task<Curves> OfAsync(PipelineQueries queries, RunView run, string activity, CancellationToken ct)
    {
        var curves = new Curves();
        var stage = run.Stages.Last(s => s.ActivityId == activity);
        if (stage.CachedFromRunId is { } from && await queries.GetRunAsync(from, ct) is { } maker)
        {
            stage = maker.Stages.LastOrDefault(s => s.KeyDigest == stage.KeyDigest && s.Attempts.Count > 0) ?? stage;
        }

        if (stage.Attempts.Count > 0)
        {
            curves.Add(await queries.CurvesAsync(stage.Attempts[^1].Id, NumPoints, ct));
        }

        return curves;
    }
}
