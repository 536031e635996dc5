using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Persistence;

namespace FastDraft.Server;

/// <summary>Why a stage ran, or was reused, or did not run.</summary>
public static class Explanation
{
    /// <summary>What differs from the last run of the stage; empty where nothing does or there was none.</summary>
    public static IReadOnlyList<string> Reasons(StageRunView stage) =>
        stage.MissReasonsJson is null ? [] : [.. JsonNode.Parse(stage.MissReasonsJson)!.AsArray().Select(n => n!.GetValue<string>())];

    /// <summary>One sentence for a stage without reasons.</summary>
    public static string Otherwise(StageRunView stage) =>
        stage.CachedFromRunId is { } from ? $"same inputs and settings as in run {Figures.Short(from)}"
        : stage.State is StageRunState.Pending or StageRunState.Cancelled or StageRunState.Skipped ? "it did not run"
        : "nothing changed: reuse was switched off, or the earlier outputs are gone";
}
