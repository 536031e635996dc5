using System.Globalization;
using System.Net;
using System.Text;
using FastDraft.Modeling.Evaluation;

namespace FastDraft.Stages.EvaluateDraft;

/// <summary>
/// report.html: one file, no script, nothing loaded from elsewhere. The heading answers the question; evidence and method follow.
/// Every text that comes from models, prompts or names is HTML-escaped.
/// </summary>
public static class ReportPage
{
    public const string AllSuites = "all";

    private static readonly string[] SeriesColors = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5"];

    private const string Style = """
        :root{color-scheme:light dark;--bg:#f7f8fa;--surface:#fff;--surface-2:#f1f3f6;--line:#dfe3e9;--line-strong:#c4cad3;--ink:#14181f;--ink-2:#4a5463;--ink-3:#67717f;--good:#147a4d;--bad:#c0262d;--good-soft:#e3f4ec;--warn-soft:#fdf1dc;--series-1:#0b5fd7;--series-2:#c2570c;--series-3:#147a4d;--series-4:#7a4fb5;--series-5:#67717f;--font:"Inter",system-ui,sans-serif;--mono:"JetBrains Mono",ui-monospace,monospace}
        @media(prefers-color-scheme:dark){:root{--bg:#0f1216;--surface:#171b21;--surface-2:#1e232b;--line:#2a313b;--line-strong:#3c4552;--ink:#e9edf3;--ink-2:#b3bcc9;--ink-3:#8d97a6;--good:#4cc38a;--bad:#ff7b7f;--good-soft:#13291f;--warn-soft:#32260f;--series-1:#6ea8ff;--series-2:#ffa057;--series-3:#4cc38a;--series-4:#c3a2f0;--series-5:#8d97a6}}
        *{box-sizing:border-box}html,body{margin:0}body{background:var(--bg);color:var(--ink);font:14px/1.5 var(--font);font-feature-settings:"tnum"}
        main{max-width:1080px;margin:0 auto;padding:28px 24px 60px}h1{font-size:26px;line-height:1.3;font-weight:650;letter-spacing:-.01em;margin:0}h2{font-size:13px;font-weight:600;margin:0}
        .lead{font-size:15px;color:var(--ink-2);max-width:76ch;margin:6px 0 18px}.lead b{color:var(--ink)}.muted{color:var(--ink-3)}.small{font-size:12.5px}code{font-family:var(--mono);font-size:12.5px;overflow-wrap:anywhere}
        .card{background:var(--surface);border:1px solid var(--line);border-radius:8px;margin-top:16px;min-width:0}.card>header{display:flex;align-items:center;gap:4px 12px;flex-wrap:wrap;padding:10px 14px;border-bottom:1px solid var(--line)}.right{margin-left:auto}.pad{padding:10px 14px 12px}.scroll{overflow-x:auto}
        .four{display:grid;grid-template-columns:repeat(4,1fr);gap:12px}.four .card{padding:12px 14px;margin:0}.four span{display:block;font-size:12.5px;color:var(--ink-3)}.four strong{display:block;font-size:26px;font-weight:640;letter-spacing:-.02em;line-height:1.25}
        .two{display:grid;grid-template-columns:1fr 1fr;gap:0 16px}.ok{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}.warn{background:var(--warn-soft);padding:10px 14px;border-radius:8px;margin-top:16px}
        .legend{display:flex;gap:4px 16px;font-size:12.5px;color:var(--ink-2);padding:0 14px 10px;flex-wrap:wrap}.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
        table{border-collapse:collapse;width:100%}th{font-weight:550;color:var(--ink-3);font-size:12.5px;text-align:left;white-space:nowrap}th,td{padding:7px 12px;border-bottom:1px solid var(--line)}tr:last-child td{border-bottom:0}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}tr.sum td{border-top:1px solid var(--line-strong);font-weight:550}
        .bar{height:8px;background:var(--surface-2);border-radius:4px;position:relative;min-width:120px}.bar i{position:absolute;inset:0 auto 0 0;background:var(--series-1);border-radius:4px}.bar em{position:absolute;top:-2px;bottom:-2px;border-left:2px solid var(--ink);border-right:2px solid var(--ink);opacity:.55}
        .text{font-family:var(--mono);font-size:12.5px;line-height:2;padding:12px 14px;white-space:pre-wrap;overflow-wrap:anywhere}.text b,b.key{font-weight:400;background:var(--good-soft);border-radius:3px;padding:2px 0}.text u,u.key{text-decoration:none;border-bottom:2px solid var(--series-2)}
        dl{display:grid;grid-template-columns:170px 1fr;gap:5px 12px;margin:0;padding:12px 14px;font-size:13px}dt{color:var(--ink-3)}dd{margin:0;min-width:0;overflow-wrap:anywhere}
        .scroll th:first-child,.scroll td:first-child{position:sticky;left:0;background:var(--surface)}@media(max-width:760px){h1{font-size:20px}.four{grid-template-columns:1fr 1fr}.two{grid-template-columns:minmax(0,1fr)}dl{grid-template-columns:1fr}}@media print{:root{color-scheme:light}body{background:none;-webkit-print-color-adjust:exact;print-color-adjust:exact}main{max-width:none;padding:0}.card{break-inside:avoid}.scroll{overflow:visible}table{font-size:12px}th,td{padding:5px 6px}}
        """;

    /// <summary>The one sentence that answers whether this draft is worth serving.</summary>
    public static string Answer(EvaluationReport report)
    {
        var (s, target) = (report.Summary, report.Target.Name);
        var at = string.Create(CultureInfo.InvariantCulture, $"at T = {s.Temperature:0.##} with draft length {s.DraftLength}");
        var text = s.Temperature > 0 ? "" : s.IdenticalPrompts == s.NumPrompts
            ? $" and writes exactly the same text on {s.IdenticalPrompts} of {s.NumPrompts} prompts"
            : $", but writes the same text on only {s.IdenticalPrompts} of {s.NumPrompts} prompts";
        if (!double.IsFinite(s.WallClockSpeedup))
        {
            return $"The speed-up of {target} could not be measured {at}";
        }

        var interval = $"({F(s.WallClockSpeedupCi.Low)} to {F(s.WallClockSpeedupCi.High)})";
        return s.WallClockSpeedupCi switch
        {
            { Low: > 1 } => $"This draft makes {target} {F(s.WallClockSpeedup)} times faster {interval}{text}, {at}",
            { High: < 1 } => $"This draft makes {target} slower, {F(s.WallClockSpeedup)} of its plain speed {interval}{text}, {at}",
            _ => $"This draft makes no clear difference to {target}, {F(s.WallClockSpeedup)} times its plain speed {interval}{text}, {at}",
        };
    }

    /// <summary>Why the speed-up is what it is, from the latency model: what a block costs, what it yields, and what would help most.</summary>
    public static string Why(EvaluationReport report)
    {
        var (s, latency) = (report.Summary, report.Latency.ToModel());
        var block = latency.RelativeBlockTime(s.DraftLength);
        var drafting = s.DraftLength * latency.DraftCost;
        var verifying = latency.TargetCost(s.DraftLength + 1);
        var cost = $"A block costs {F(block)} plain tokens ({F(verifying)} to verify {s.DraftLength + 1} tokens, {F(drafting)} to draft, {F(block - verifying - drafting)} beside) and yields {F(s.BlockEfficiency)}.";
        if (s.BlockEfficiency < block)
        {
            var needed = (block - 1) / s.DraftLength;
            var most = verifying >= drafting ? "verification costs most: a larger target or a shorter draft length" : "drafting costs most: a smaller draft model";
            return cost + (needed <= 1
                ? $" To break even the acceptance rate would have to be {P(needed)}; it is {P(s.AcceptanceRate)}: more training or alignment of the draft helps."
                : $" Even a draft that is always right would not break even: {most} helps.");
        }

        var (free, perfect) = (s.BlockEfficiency / (block - drafting), (s.DraftLength + 1) / block);
        return cost + (perfect >= free
            ? $" What limits it is acceptance: a draft of the same speed that is always right would reach {F(perfect)} times, one that costs no time {F(free)}."
            : $" What limits it is the draft's own time: a draft that costs no time would reach {F(free)} times, one of the same speed that is always right {F(perfect)}.");
    }

    public static string Render(EvaluationReport report)
    {
        var s = report.Summary;
        var pooled = report.Results.Where(r => r.Suite == AllSuites && r.Temperature == s.Temperature).OrderBy(r => r.DraftLength).ToList();
        var best = pooled.Find(r => r.DraftLength == s.DraftLength);
        var page = new StringBuilder();
        page.Append("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/><title>")
            .Append(E(Answer(report))).Append("</title><style>").Append(Style).Append("</style></head><body><main>\n<h1>").Append(E(Answer(report))).Append("</h1>\n");
        page.Append(CultureInfo.InvariantCulture, $"""<p class="lead">On {s.NumPrompts} held-out prompts it writes {Rate(best?.SpeculativeTokensPerSecond)} instead of {Rate(best?.PlainTokensPerSecond)} tokens a second. {E(Why(report))}</p><p class="muted small">{report.CreatedAt:d MMM yyyy}, {E(report.Machine.Processor)}, {report.Machine.NumThreads} threads, {E(report.Machine.Precision)}</p>""");
        Tiles(page, report);
        foreach (var warning in report.Warnings)
        {
            page.Append("<p class=\"warn\">").Append(E(warning)).Append("</p>");
        }

        foreach (var temperature in report.Results.Select(r => r.Temperature).Distinct().Order())
        {
            SuiteTable(page, report, temperature);
        }

        page.Append("<div class=\"two\">");
        SweepPlot(page, pooled);
        AcceptancePlot(page, report);
        page.Append("</div>");
        SweepTable(page, pooled);
        Gap(page, report, best);
        page.Append("<div class=\"two\">");
        Latency(page, report);
        Diversity(page, report);
        page.Append("</div>");
        Blocks(page, report);
        Sample(page, report);
        Divergences(page, report);
        Definitions(page);
        Provenance(page, report);
        return page.Append("</main></body></html>\n").ToString();
    }

    private static void Tiles(StringBuilder page, EvaluationReport report)
    {
        var s = report.Summary;
        var same = s.IdenticalPrompts == s.NumPrompts;
        page.Append(CultureInfo.InvariantCulture, $"""<div class="four"><div class="card"><span>Measured speed-up</span><strong>{F(s.WallClockSpeedup)}</strong><span>{F(s.WallClockSpeedupCi.Low)} to {F(s.WallClockSpeedupCi.High)}, 95 %</span></div><div class="card"><span>Block efficiency</span><strong>{F(s.BlockEfficiency)}</strong><span>tokens per target call</span></div><div class="card"><span>Acceptance rate</span><strong>{P(s.AcceptanceRate)}</strong><span>accepted / drafted</span></div>""");
        page.Append(s.Temperature > 0
            ? """<div class="card"><span>Same text as the target</span><strong>-</strong><span>compared at T = 0 only</span></div></div>"""
            : $"""<div class="card"><span>Same text as the target</span><strong class="{(same ? "ok" : "bad")}">{s.IdenticalPrompts} of {s.NumPrompts}</strong><span>{(same ? "no divergence, every draft length" : "divergences are listed below")}</span></div></div>""");
    }

    private static void SuiteTable(StringBuilder page, EvaluationReport report, double temperature)
    {
        var rows = report.Results.Where(r => r.Temperature == temperature && r.Best).OrderBy(r => r.Suite == AllSuites).ThenBy(r => r.Suite, StringComparer.Ordinal).ToList();
        if (rows.Count == 0)
        {
            return;
        }

        var low = Math.Min(1, Math.Floor(rows.Min(r => Finite(r.WallClockSpeedupCi.Low, 1)) * 5) / 5);
        var high = Math.Max(low + 1, Math.Ceiling(rows.Max(r => Finite(r.WallClockSpeedupCi.High, 1)) * 5) / 5);
        double Percent(double v) => Math.Clamp((v - low) / (high - low), 0, 1) * 100;
        page.Append(CultureInfo.InvariantCulture, $"""<section class="card"><header><h2>By prompt suite, T = {temperature:0.##}</h2><span class="muted small right">gamma {rows[0].DraftLength} (best measured), {(rows[0].NumRepeats == 1 ? "one repeat" : $"median of {rows[0].NumRepeats} repeats")}, paired bootstrap over prompts</span></header><div class="scroll"><table><tr><th>Suite</th><th class="n">Prompts</th><th class="n">Overlap</th><th class="n">Acceptance</th><th class="n">Block eff.</th><th class="n">EAL</th><th class="n">MBSU</th><th class="n">Predicted</th><th class="n">Measured</th><th style="width:170px">95 % interval, {low:F1} to {high:F1}</th></tr>""");
        foreach (var r in rows)
        {
            var measured = Finite(r.WallClockSpeedup, low);
            page.Append(CultureInfo.InvariantCulture, $"""<tr{(r.Suite == AllSuites ? " class=\"sum\"" : "")}><td>{E(r.Suite == AllSuites ? "all suites" : r.Suite)}</td><td class="n">{r.NumPrompts}</td><td class="n">{P(r.AnalyticAcceptance)}</td><td class="n">{P(r.AcceptanceRate)}</td><td class="n">{F(r.BlockEfficiency)}</td><td class="n">{F(r.ExpectedAcceptedLength)}</td><td class="n">{F(r.MemoryBoundSpeedup)}</td><td class="n">{F(r.PredictedSpeedup)}</td><td class="n"><b>{F(r.WallClockSpeedup)}</b></td><td><div class="bar" title="{F(r.WallClockSpeedupCi.Low)} to {F(r.WallClockSpeedupCi.High)}"><i style="width:{Percent(measured):F1}%"></i><em style="left:{Percent(Finite(r.WallClockSpeedupCi.Low, low)):F1}%;width:{Math.Max(.5, Percent(Finite(r.WallClockSpeedupCi.High, low)) - Percent(Finite(r.WallClockSpeedupCi.Low, low))):F1}%"></em></div></td></tr>""");
        }

        page.Append("</table></div></section>");
    }

    private static void SweepPlot(StringBuilder page, IReadOnlyList<ConditionResult> pooled)
    {
        var best = pooled.FirstOrDefault(r => r.Best);
        var measured = new PlotSeries("measured", "--series-1", [.. pooled.Select(r => ((double)r.DraftLength, r.WallClockSpeedup))], [.. pooled.Select(r => (r.WallClockSpeedupCi.Low, r.WallClockSpeedupCi.High))], Line: false);
        var predicted = new PlotSeries("predicted", "--series-2", [.. pooled.Select(r => ((double)r.DraftLength, r.PredictedSpeedup))], Dashed: true);
        var memory = new PlotSeries("memory-bound", "--series-5", [.. pooled.Select(r => ((double)r.DraftLength, r.MemoryBoundSpeedup))], Dashed: true);
        var top = best is null ? double.NaN : Math.Max(Finite(best.WallClockSpeedupCi.High, best.WallClockSpeedup), best.PredictedSpeedup);
        (double, double, string)? label = best is null || !double.IsFinite(top) ? null : (best.DraftLength, top, $"best: {best.DraftLength}");
        page.Append("<section class=\"card\"><header><h2>Speed-up by draft length</h2><span class=\"muted small right\">all suites</span></header><div class=\"pad\">")
            .Append(SvgPlots.Lines("Speed-up by draft length, measured against predicted", "draft length (gamma)", [memory, predicted, measured], 1, label))
            .Append("</div>");
        Legend(page, [("--series-1", "measured, with 95 % interval"), ("--series-2", "predicted from measured latencies"), ("--series-5", "memory-bound (MBSU)")]);
        page.Append("</section>");
    }

    private static void AcceptancePlot(StringBuilder page, EvaluationReport report)
    {
        var s = report.Summary;
        var longest = report.Results.Where(r => r.Temperature == s.Temperature).Select(r => r.DraftLength).DefaultIfEmpty(0).Max();
        var rows = report.Results.Where(r => r.Temperature == s.Temperature && r.DraftLength == longest && r.Suite != AllSuites).OrderBy(r => r.Suite, StringComparer.Ordinal).ToList();
        var series = rows.Select((r, i) => new PlotSeries(r.Suite, SeriesColors[i % SeriesColors.Length], [.. r.ConditionalAcceptance.Select((a, k) => (k + 1.0, a))])).ToList();
        page.Append(CultureInfo.InvariantCulture, $"""<section class="card"><header><h2>Acceptance by position in the block</h2><span class="muted small right">given all before it were accepted, gamma {longest}</span></header><div class="pad">""")
            .Append(SvgPlots.Lines("Conditional acceptance by position in the block", "position in the block", series, fromZero: true)).Append("</div>");
        Legend(page, series.Select(x => (x.Color, x.Name)));
        page.Append("</section>");
    }

    private static void SweepTable(StringBuilder page, IReadOnlyList<ConditionResult> pooled)
    {
        page.Append("<section class=\"card\"><header><h2>Draft length sweep</h2><span class=\"muted small right\">all suites pooled, T as in the answer</span></header><div class=\"scroll\"><table><tr><th class=\"n\">Gamma</th><th class=\"n\">Blocks</th><th class=\"n\">Overlap</th><th class=\"n\">Acceptance</th><th class=\"n\">Block eff. (95 %)</th><th class=\"n\">MBSU</th><th class=\"n\">Predicted</th><th class=\"n\">Measured (95 %)</th><th class=\"n\">Plain tok/s</th><th class=\"n\">Spec. tok/s</th></tr>");
        foreach (var r in pooled)
        {
            page.Append(CultureInfo.InvariantCulture, $"""<tr><td class="n">{r.DraftLength}{(r.Best ? " (best)" : "")}</td><td class="n">{r.NumBlocks:N0}</td><td class="n">{P(r.AnalyticAcceptance)}</td><td class="n">{P(r.AcceptanceRate)}</td><td class="n">{F(r.BlockEfficiency)} <span class="muted">{F(r.BlockEfficiencyCi.Low)}-{F(r.BlockEfficiencyCi.High)}</span></td><td class="n">{F(r.MemoryBoundSpeedup)}</td><td class="n">{F(r.PredictedSpeedup)}</td><td class="n"><b>{F(r.WallClockSpeedup)}</b> <span class="muted">{F(r.WallClockSpeedupCi.Low)}-{F(r.WallClockSpeedupCi.High)}</span></td><td class="n">{Rate(r.PlainTokensPerSecond)}</td><td class="n">{Rate(r.SpeculativeTokensPerSecond)}</td></tr>""");
        }

        page.Append("</table></div></section>");
    }

    /// <summary>The prediction is made of single calls; here each of its parts stands beside what it was in the measured blocks.</summary>
    private static void Gap(StringBuilder page, EvaluationReport report, ConditionResult? best)
    {
        var (s, latency, blocks) = (report.Summary, report.Latency, report.BlockTimes);
        if (best is null || !(best.PlainTokensPerSecond > 0) || !(best.SpeculativeTokensPerSecond > 0) || s.DraftLength >= latency.TargetSeconds.Count)
        {
            return;
        }

        (string Name, double Predicted, double Measured)[] parts =
        [
            ("one plain token", latency.TargetSeconds[0], 1 / best.PlainTokensPerSecond),
            ($"draft of {s.DraftLength} tokens", s.DraftLength * latency.DraftSeconds, blocks.DraftSeconds),
            ($"target call on up to {s.DraftLength + 1} tokens", latency.TargetSeconds[s.DraftLength], blocks.TargetSeconds),
            ("beside these calls, slow moments too", latency.OverheadSeconds, (best.BlockEfficiency / best.SpeculativeTokensPerSecond) - blocks.DraftSeconds - blocks.TargetSeconds),
            ("whole block", latency.TargetSeconds[s.DraftLength] + (s.DraftLength * latency.DraftSeconds) + latency.OverheadSeconds, best.BlockEfficiency / best.SpeculativeTokensPerSecond),
        ];
        var ratio = s.WallClockSpeedup / s.PredictedSpeedup;
        var widest = parts[..^1].MaxBy(p => Math.Abs(p.Measured - p.Predicted));
        page.Append("<section class=\"card\"><header><h2>Predicted and measured</h2><span class=\"muted small right\">").Append(E(
            double.IsFinite(ratio)
                ? string.Create(CultureInfo.InvariantCulture, $"measured is {ratio:P0} of predicted; {(Math.Abs(ratio - 1) < .05 ? "the parts agree" : $"the widest part: {widest.Name}")}")
                : "no prediction")).Append("</span></header><div class=\"scroll\"><table><tr><th>Part</th><th class=\"n\">Single calls</th><th class=\"n\">In the run</th><th class=\"n\">Ratio</th></tr>");
        foreach (var (name, predicted, measured) in parts)
        {
            page.Append(CultureInfo.InvariantCulture, $"""<tr><td>{E(name)}</td><td class="n">{Ms(predicted)}</td><td class="n">{Ms(measured)}</td><td class="n">{(predicted > 1e-6 ? F(measured / predicted) : "-")}</td></tr>""");
        }

        page.Append(CultureInfo.InvariantCulture, $"""<tr class="sum"><td>speed-up</td><td class="n">{F(s.PredictedSpeedup)}</td><td class="n">{F(s.WallClockSpeedup)}</td><td class="n">{F(ratio)}</td></tr></table></div></section>""");
    }

    private static void Latency(StringBuilder page, EvaluationReport report)
    {
        var latency = report.Latency.ToModel();
        var points = latency.TargetSeconds.Select((t, i) => (i + 1.0, t * 1000)).ToList();
        page.Append("<section class=\"card\"><header><h2>Time of one target call by tokens verified</h2><span class=\"muted small right\">median, ms</span></header><div class=\"pad\">")
            .Append(SvgPlots.Lines("Milliseconds of one target call by number of tokens", "tokens in the call (m)", [new PlotSeries("t_target(m)", "--series-1", points)], fromZero: true)).Append("</div>");
        page.Append(CultureInfo.InvariantCulture, $"""<div class="legend"><span>t_target(1) {Ms(latency.TargetSeconds[0])}</span><span>t_draft(1) {Ms(latency.DraftSeconds)}</span><span>c_lat {P(latency.DraftCost)}</span><span>c (parameters) {P(report.CostRatio)}</span><span>overhead per block {Ms(latency.OverheadSeconds)}</span></div></section>""");
    }

    private static void Diversity(StringBuilder page, EvaluationReport report)
    {
        page.Append("<section class=\"card\"><header><h2>Is the text healthy?</h2><span class=\"muted small right\">a loop would inflate acceptance</span></header><div class=\"scroll\"><table><tr><th>Suite</th><th class=\"n\">T</th><th class=\"n\">Distinct-1</th><th class=\"n\">Distinct-2</th><th class=\"n\">Repeated 4-grams</th></tr>");
        foreach (var r in report.Results.Where(r => r.Best && r.Suite != AllSuites).OrderBy(r => r.Temperature).ThenBy(r => r.Suite, StringComparer.Ordinal))
        {
            page.Append(CultureInfo.InvariantCulture, $"""<tr><td>{E(r.Suite)}</td><td class="n">{r.Temperature:0.##}</td><td class="n">{P(r.DistinctOne)}</td><td class="n">{P(r.DistinctTwo)}</td><td class="n">{P(r.Repetition)}</td></tr>""");
        }

        page.Append("</table></div></section>");
    }

    private static void Blocks(StringBuilder page, EvaluationReport report)
    {
        var b = report.BlockTimes;
        (string Name, double Seconds, string Color)[] parts =
        [
            ($"draft, {report.Summary.DraftLength} tokens", b.DraftSeconds, "--series-2"),
            ($"target, up to {report.Summary.DraftLength + 1} tokens", b.TargetSeconds, "--series-1"),
            ("verify, sample, cache and rest", b.RestSeconds, "--series-5"),
        ];
        page.Append(CultureInfo.InvariantCulture, $"""<section class="card"><header><h2>Where the time goes in one block</h2><span class="muted small right">{b.NumBlocks:N0} blocks</span></header><div class="pad">""")
            .Append(SvgPlots.TimeBar(parts)).Append("</div>");
        Legend(page, parts.Select(p => (p.Color, $"{p.Name}, {Ms(p.Seconds)}")));
        page.Append("</section>");
    }

    private static void Sample(StringBuilder page, EvaluationReport report)
    {
        if (report.Sample is not { } sample)
        {
            return;
        }

        page.Append("<section class=\"card\"><header><h2>One answer, token by token</h2><span class=\"muted small right\"><b class=\"key\">drafted and accepted</b>, <u class=\"key\">written by the target</u></span></header><div class=\"text\"><span class=\"muted\">")
            .Append(E(sample.Prompt)).Append("</span>");
        foreach (var piece in sample.Pieces)
        {
            page.Append(piece.Drafted ? "<b>" : "<u>").Append(E(piece.Text)).Append(piece.Drafted ? "</b>" : "</u>");
        }

        page.Append("</div></section>");
    }

    private static void Divergences(StringBuilder page, EvaluationReport report)
    {
        if (report.Divergences.Count == 0)
        {
            return;
        }

        page.Append("<section class=\"card\"><header><h2>Divergence certificates</h2><span class=\"muted small right\">first differing token; a small margin is rounding, a wide one is a bug</span></header><div class=\"scroll\"><table><tr><th>Suite</th><th>Prompt</th><th class=\"n\">Gamma</th><th class=\"n\">Position</th><th class=\"n\">Plain token</th><th class=\"n\">With draft</th><th class=\"n\">Top-2 margin, nats</th></tr>");
        foreach (var d in report.Divergences)
        {
            page.Append(CultureInfo.InvariantCulture, $"""<tr><td>{E(d.Suite)}</td><td>{E(d.Prompt)}</td><td class="n">{d.DraftLength}</td><td class="n">{d.Position}</td><td class="n">{d.PlainToken}</td><td class="n">{d.SpeculativeToken}</td><td class="n">{d.TopTwoMargin:G3}</td></tr>""");
        }

        page.Append("</table></div></section>");
    }

    private static void Definitions(StringBuilder page)
    {
        page.Append("<section class=\"card\"><header><h2>What the figures mean</h2></header><dl>");
        Row(page, "Overlap", "Analytic acceptance: mean of the overlap sum min(p, q) of target and draft law over the drafted positions that verification reached. Free of sampling noise.");
        Row(page, "Acceptance rate", "Accepted / drafted tokens, summed over all blocks before dividing. It falls with gamma even when every position is accepted equally often.");
        Row(page, "Acceptance by position", "How often position i is accepted when all positions before it were.");
        Row(page, "Block efficiency", "Tokens emitted per target call after the prefill, the correction or bonus token included: 1 + gamma x acceptance rate, unless a block is cut by the end.");
        Row(page, "EAL", "Expected accepted length: sum over k of the product of the first k conditional acceptances.");
        Row(page, "MBSU", "Memory-bound speed-up: block efficiency / (1 + c gamma), c = draft parameters / target parameters.");
        Row(page, "Predicted", "Block efficiency / (v(gamma + 1) + gamma c_lat + o): v(m) = t_target(m) / t_target(1), c_lat = t_draft(1) / t_target(1), o = overhead, all measured on this machine.");
        Row(page, "Measured", "Wall-clock speed-up: decoded tokens per second with the draft / without it; same process, prompts and precision; the prefill is timed apart.");
        page.Append("</dl></section>");
    }

    private static void Provenance(StringBuilder page, EvaluationReport report)
    {
        page.Append("<section class=\"card\"><header><h2>How it was measured</h2></header><dl>");
        Row(page, "Target", Describe(report.Target), report.Target.Weights);
        Row(page, "Draft", Describe(report.Draft), report.Draft.Weights);
        Row(page, "Prompts", $"{report.Prompts.NumPrompts} ({string.Join(", ", report.Prompts.Suites.Select(x => $"{x.Name} {x.NumPrompts}"))}), {report.Prompts.Digest}");
        Row(page, "Order", "Warm-up dropped; plain and speculative runs alternate prompt by prompt (ABAB); median of the repeats per prompt; 95 % percentile bootstrap over prompts, paired.");
        Row(page, "Machine", $"{report.Machine.Processor}, {report.Machine.NumProcessors} processors, {report.Machine.NumThreads} threads, {report.Machine.Accelerator}, {report.Machine.Precision}, batch 1, {report.Machine.OperatingSystem}");
        Row(page, "Versions", string.Join(", ", report.Versions.Select(v => $"{v.Key} {v.Value}")));
        page.Append("<dt>Settings</dt><dd><code>").Append(E(report.Settings.ToJsonString())).Append("</code></dd></dl></section>");
    }

    private static void Row(StringBuilder page, string name, string text, IReadOnlyList<WeightFile>? weights = null)
    {
        page.Append("<dt>").Append(E(name)).Append("</dt><dd>").Append(E(text));
        foreach (var weight in weights ?? [])
        {
            page.Append(" <code>").Append(E(weight.Digest.Length > 19 ? weight.Digest[..19] : weight.Digest)).Append("</code>");
        }

        page.Append("</dd>");
    }

    private static void Legend(StringBuilder page, IEnumerable<(string Color, string Text)> entries)
    {
        page.Append("<div class=\"legend\">");
        foreach (var (color, text) in entries)
        {
            page.Append("<span><i style=\"background:var(").Append(color).Append(")\"></i>").Append(E(text)).Append("</span>");
        }

        page.Append("</div>");
    }

    private static string Describe(ModelFacts m) => string.Create(
        CultureInfo.InvariantCulture, $"{m.Name}, {m.NumParameters / 1e6:0.##} M parameters, {m.NumLayers} layers, hidden size {m.HiddenSize}, vocabulary {m.VocabularySize:N0}");

    private static string E(string text) => WebUtility.HtmlEncode(new string([.. text.Select(c => char.IsControl(c) && c is not ('\n' or '\t') ? ' ' : c)]));

    private static double Finite(double value, double otherwise) => double.IsFinite(value) ? value : otherwise;

    private static string F(double value) => double.IsFinite(value) ? value.ToString("F2", CultureInfo.InvariantCulture) : "-";

    private static string P(double value) => double.IsFinite(value) ? value.ToString("F3", CultureInfo.InvariantCulture) : "-";

    private static string Rate(double? value) => value is { } v && double.IsFinite(v) ? v.ToString(v < 10 ? "F1" : "N0", CultureInfo.InvariantCulture) : "-";

    private static string Ms(double seconds) => (seconds * 1000).ToString("0.00", CultureInfo.InvariantCulture) + " ms";
}
