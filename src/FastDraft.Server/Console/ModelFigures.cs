using System.Globalization;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Server.ConsolePages;

/// <summary>Figures of an evaluation as tables of drafts write them; a dash where there is none.</summary>
internal static class ModelFigures
{
    /// <summary>.314</summary>
    public static string Rate(double? value) => value is { } v && double.IsFinite(v) ? v.ToString(".000", CultureInfo.InvariantCulture) : "-";

    public static string Ratio(double? value) => value is { } v && double.IsFinite(v) ? v.ToString("F2", CultureInfo.InvariantCulture) : "-";

    /// <summary>1.61 (1.52 to 1.70)</summary>
    public static string Speedup(EvaluationReport? report) => report?.Summary is not { } s ? "-"
        : double.IsFinite(s.WallClockSpeedupCi.Low) ? $"{Ratio(s.WallClockSpeedup)} ({Ratio(s.WallClockSpeedupCi.Low)} to {Ratio(s.WallClockSpeedupCi.High)})" : Ratio(s.WallClockSpeedup);
}
