using System.Text.Json.Nodes;
using System.Xml.Linq;
using FastDraft.Modeling.Evaluation;
using FastDraft.Stages.EvaluateDraft;

namespace FastDraft.Stages.Tests.EvaluateDraft;

public sealed class ReportPageFacts
{
    [Fact]
    public void The_first_line_is_the_answer()
    {
        var report = Example();
        var html = ReportPage.Render(report);
        var body = XDocument.Parse(html).Root!.Element("body")!;

        Assert.Equal(
            "This draft makes target-28m 1.62 times faster (1.55 to 1.70) and writes exactly the same text on 48 of 48 prompts, at T = 0 with draft length 4",
            body.Descendants().First(e => !e.HasElements).Value);
    }

    [Fact]
    public void A_slower_or_unclear_result_says_so()
    {
        var report = Example();
        var slower = report with { Summary = report.Summary with { WallClockSpeedup = .8, WallClockSpeedupCi = new(.7, .9) } };
        var unclear = report with { Summary = report.Summary with { WallClockSpeedup = 1.05, WallClockSpeedupCi = new(.9, 1.2) } };

        Assert.StartsWith("This draft makes target-28m slower, 0.80 of its plain speed", ReportPage.Answer(slower), StringComparison.Ordinal);
        Assert.StartsWith("This draft makes no clear difference to target-28m, 1.05 times its plain speed", ReportPage.Answer(unclear), StringComparison.Ordinal);
    }

    [Fact]
    public void A_slow_draft_is_told_what_a_block_costs_and_what_acceptance_would_break_even()
    {
        var report = Example();
        var rejected = report with { Summary = report.Summary with { BlockEfficiency = 1.1, AcceptanceRate = .025 } };
        var costly = rejected with { Latency = rejected.Latency with { DraftSeconds = .02 } };

        Assert.Matches(@"A block costs 1\.6\d plain tokens .* and yields 1\.10\. To break even the acceptance rate would have to be 0\.\d{3}; it is 0\.025", ReportPage.Why(rejected));
        Assert.EndsWith("Even a draft that is always right would not break even: drafting costs most: a smaller draft model helps.", ReportPage.Why(costly), StringComparison.Ordinal);
        Assert.Contains("What limits it is acceptance", ReportPage.Why(report), StringComparison.Ordinal);
    }

    [Fact]
    public void The_page_is_well_formed_has_no_script_and_loads_nothing()
    {
        var html = ReportPage.Render(Example());
        var page = XDocument.Parse(html);

        Assert.DoesNotContain(page.Descendants(), e => e.Name.LocalName is "script" or "link" or "img" or "iframe");
        Assert.DoesNotContain(page.Descendants().Attributes(), a => a.Name.LocalName is "href" or "src" || a.Name.LocalName.StartsWith("on", StringComparison.Ordinal));
        Assert.DoesNotContain("://", html, StringComparison.Ordinal);
        Assert.DoesNotContain("url(", html, StringComparison.Ordinal);
        Assert.True(page.Descendants().Count(e => e.Name.LocalName == "svg") >= 4);
        Assert.Contains("prefers-color-scheme:dark", html, StringComparison.Ordinal);
    }

    [Fact]
    public void Text_from_prompts_and_models_is_escaped()
    {
        var report = Example() with { Sample = new("<script>alert(1)</script>", [new("a<b & \"c\"\u0001", true)]) };

        var html = ReportPage.Render(report);

        Assert.DoesNotContain("<script>", html, StringComparison.Ordinal);
        Assert.Contains("a&lt;b &amp; &quot;c&quot; ", html, StringComparison.Ordinal);
    }

    [Fact]
    public void The_json_begins_with_schema_and_summary_and_survives_a_round_trip()
    {
        var report = Example();
        var json = report.ToJson();
        var root = JsonNode.Parse(json)!.AsObject();

        Assert.Equal(["schema", "summary"], root.Take(2).Select(p => p.Key));
        Assert.Equal("fastdraft-report/2", root["schema"]!.GetValue<string>());
        Assert.Equal(1.55, root["summary"]!["wallClockSpeedupCi"]![0]!.GetValue<double>());
        Assert.Contains("conditionalAcceptance", json, StringComparison.Ordinal);
        Assert.Equal(json, EvaluationReport.Parse(json).ToJson());
    }

    [Fact]
    public void A_figure_that_could_not_be_measured_is_null_not_zero()
    {
        var report = Example();
        report = report with { Summary = report.Summary with { PredictedSpeedup = double.NaN } };

        Assert.Null(JsonNode.Parse(report.ToJson())!["summary"]!["predictedSpeedup"]);
    }

    internal static EvaluationReport Example()
    {
        var latency = new LatencyFacts(.00062, [.0061, .0063, .0066, .0068, .0070, .0073, .0077, .0082, .0088], .0004);
        string[] suites = ["stories", "prose", "code", ReportPage.AllSuites];
        var results = new List<ConditionResult>();
        foreach (var temperature in new[] { 0, .6 })
        {
            for (var gamma = 1; gamma <= 8; gamma++)
            {
                for (var i = 0; i < suites.Length; i++)
                {
                    var alpha = .5 + (.06 * (i == 3 ? 1 : i)) - (temperature * .05);
                    var tau = SpeedupModel.GeometricBlockEfficiency(alpha, gamma);
                    var predicted = SpeedupModel.Predicted(tau, gamma, latency.ToModel());
                    var measured = predicted - .02;
                    results.Add(new(
                        suites[i], temperature, gamma, gamma == 4, i == 3 ? 48 : 16, gamma == 4 ? 3 : 1, 1180, 1180 * gamma, 500, 1680,
                        alpha, SpeedupModel.AcceptanceRateOf(tau, gamma), new(.3, .4), [.. Enumerable.Range(0, gamma).Select(k => alpha - (.03 * k))],
                        tau, new(tau - .05, tau + .05), tau - 1, SpeedupModel.MemoryBound(tau, gamma, .052), predicted, measured,
                        new(measured - .07, measured + .08), 163, 163 * measured, .31, .72, .04));
                }
            }
        }

        return new(
            EvaluationReport.CurrentSchema,
            new(.36, 2.12, 1.8, 1.64, 1.62, new(1.55, 1.7), 0, 4, 48, 48),
            new(2026, 11, 23, 20, 0, 0, TimeSpan.Zero),
            new Dictionary<string, string> { ["fastdraft"] = "0.1.0", ["dotnet"] = "10.0" },
            new JsonObject { ["maxNewTokens"] = 128, ["repeats"] = 3 },
            new("target-28m", 27_800_000, 8, 512, 8192, [new("model.safetensors", "sha256:5c0a91aa00000000")]),
            new("draft", 1_450_000, 2, 128, 8192, [new("model.safetensors", "sha256:77c1f0aa00000000")]),
            .052,
            new("Linux", "Example CPU", 2, 2, "float32", "cpu"),
            new("sha256:00", 48, [new("stories", 16, 512), new("prose", 16, 512), new("code", 16, 512)]),
            latency,
            results,
            [new("stories", "stories:0", 0, 4, 40, 160, 60, 100)],
            [],
            new(1180, .0024, .0069, .0005),
            new("Once upon a time", [new(" there was", true), new(" a", false), new(" little girl", true), new(" named", false)]),
            []);
    }
}
