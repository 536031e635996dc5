using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Persistence;

namespace FastDraft.Server;

/// <summary>One difference between two runs; the figures of the evaluation are listed also where they are equal.</summary>
public sealed record ComparisonRow(string What, string Name, string? Before, string? After);

public static class RunComparison
{
    // Text as a person typed it: it is shown, never put into a page as it is.
    private static readonly JsonSerializerOptions Text = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static async Task<IReadOnlyList<ComparisonRow>> RowsAsync(PipelineQueries queries, RunView before, RunView after, CancellationToken cancellationToken)
    {
        var stages = before.Stages.Concat(after.Stages).Select(s => s.ActivityId).Distinct().ToList();
        List<ComparisonRow> rows =
        [
            .. Different("workflow", Definition(before), Definition(after)),
            .. Different("input", Values(before.InputsJson, string.Empty), Values(after.InputsJson, string.Empty)),
        ];
        foreach (var stage in stages)
        {
            var (a, b) = (before.Stages.LastOrDefault(s => s.ActivityId == stage), after.Stages.LastOrDefault(s => s.ActivityId == stage));
            rows.AddRange(Different("setting", Values(a?.SettingsJson, stage + "."), Values(b?.SettingsJson, stage + ".")));
            rows.AddRange(Different("artifact", Artifacts(a), Artifacts(b)));
        }

        var (first, second) = (await FiguresAsync(queries, before, cancellationToken), await FiguresAsync(queries, after, cancellationToken));
        rows.AddRange(Different("figure", first, second, name => name.Contains(".eval_", StringComparison.Ordinal)));
        return rows;
    }

    private static Dictionary<string, string> Definition(RunView run) => new() { ["definition"] = Figures.Short(run.DefinitionDigest) };

    private static Dictionary<string, string> Values(string? json, string prefix) => json is null
        ? []
        : JsonNode.Parse(json)!.AsObject().Where(p => p.Value is not null).ToDictionary(p => prefix + p.Key, p => p.Value!.ToJsonString(Text));

    private static Dictionary<string, string> Artifacts(StageRunView? stage) => stage is null
        ? []
        : stage.Outputs.ToDictionary(o => $"{stage.ActivityId}.{o.Port}", o => Figures.Short(o.Digest));

    private static IEnumerable<ComparisonRow> Different(string what, Dictionary<string, string> before, Dictionary<string, string> after, Func<string, bool>? always = null) =>
        from name in before.Keys.Union(after.Keys)
        let a = before.GetValueOrDefault(name)
        let b = after.GetValueOrDefault(name)
        where a != b || always?.Invoke(name) == true
        select new ComparisonRow(what, name, a, b);

    /// <summary>The last value of each metric; a cached stage's are those of the run that made it.</summary>
    private static async Task<Dictionary<string, string>> FiguresAsync(PipelineQueries queries, RunView run, CancellationToken cancellationToken)
    {
        var figures = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var source in run.Stages.GroupBy(s => s.CachedFromRunId ?? run.Id))
        {
            var mine = source.Select(s => s.ActivityId).ToHashSet(StringComparer.Ordinal);
            foreach (var metric in await queries.LastMetricsAsync(source.Key, cancellationToken))
            {
                if (mine.Contains(metric.ActivityId))
                {
                    figures[$"{metric.ActivityId}.{metric.Name}"] = metric.Value.ToString("G5", CultureInfo.InvariantCulture);
                }
            }
        }

        return figures;
    }
}
