using System.Diagnostics;
using System.Text.Json;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Server.Registry;
using Microsoft.EntityFrameworkCore;
using Microsoft.Playwright;

namespace FastDraft.Browser.Tests;

/// <summary>What a person does in the console, done in a real browser. Pictures of each page are left in <c>artifacts/browser</c>.</summary>
[Collection(BrowserCollection.Name)]
public sealed class ConsoleFacts : IClassFixture<ConsoleService>
{
    private static readonly (int Width, int Height)[] Sizes = [(1440, 960), (390, 844)];
    private static readonly string[] Themes = ["light", "dark"];
    private readonly ConsoleService service;

    public ConsoleFacts(ConsoleService service)
    {
        Assert.SkipWhen(Service.Chromium is null, Service.NoChromium);
        this.service = service;
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string> Names =>
        ["runs", "run", "run-waits", "run-failed", "compare", "artifact", "lineage-start", "lineage", "lineage-use", "models", "model", "schedules", "schedule", "approvals", "audit", "report", "nothing"];

    [Theory(Timeout = 120_000)]
    [MemberData(nameof(Names))]
    public async Task A_page_is_whole_at_every_width_in_both_themes_and_for_everybody(string name)
    {
        var expected = name == "nothing" ? 404 : 200;
        await using var page = new ConsolePage(await service.ForOperator.NewPageAsync());
        await page.Page.SetViewportSizeAsync(Sizes[0].Width, Sizes[0].Height);
        Assert.Equal(expected, await page.GoAsync(AddressOf(name)));
        var problems = new List<string>();
        foreach (var (width, height) in Sizes)
        {
            await page.Page.SetViewportSizeAsync(width, height);
            var over = await page.Page.EvaluateAsync<int>("document.documentElement.scrollWidth - document.documentElement.clientWidth");
            Assert.True(over <= 0, $"At {width} pixels the page is {over} pixels too wide.");
            foreach (var theme in Themes)
            {
                await page.ThemeAsync(theme);
                problems.AddRange((await page.HiddenAsync()).Select(p => $"{width} {theme}: {p}"));
                await page.Page.ScreenshotAsync(new() { Path = Path.Join(Service.Repository, $"artifacts/browser/console-{name}-{width}-{theme}.png") });
            }
        }

        Assert.True(problems.Count == 0, string.Join('\n', problems));

        // The browser itself reports a page's status of 404 as an error.
        Assert.DoesNotContain(page.Complaints, c => expected == 200 || !c.Contains("404", StringComparison.Ordinal));
        Assert.Empty(await page.Page.EvaluateAsync<string[]>(
            """
            () => [...document.querySelectorAll('a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary, [onclick]')].filter(e => e.checkVisibility()).filter(e => {
              e.focus({ focusVisible: true });
              return document.activeElement !== e || e.tabIndex < 0 || (getComputedStyle(e).outlineStyle === 'none' && !e.closest('svg'));
            }).map(e => e.outerHTML.slice(0, 120))
            """));
        if (name is not ("nothing" or "report"))
        {
            Assert.StartsWith("fastdraft ", await page.Page.Locator(".cli code").InnerTextAsync(), StringComparison.Ordinal);
        }
    }

    [Theory(Timeout = 60_000)]
    [InlineData("/nowhere/at/all", "nothing at this address")]
    [InlineData("/runs/01a22df8-6f6f-7c6a-bb8e-ce9ca2d8c201", "There is no run 01a22df8-6f6f")]
    [InlineData("/artifacts/sha256:0000", "There is no such artifact")]
    [InlineData("/lineage/sha256:0000", "Nothing in the lineage")]
    [InlineData("/models/none", "There is no draft 'none'")]
    [InlineData("/schedules/none", "There is no schedule 'none'")]
    [InlineData("/reports/sha256:0000", "There is no such report")]
    [InlineData("/studio/workflows/definitions/none/edit", "This workflow is not here")]
    public async Task What_is_not_there_is_said_with_status_404_and_where_to_look(string address, string title)
    {
        var page = await service.ForViewer.NewPageAsync();
        var response = await page.GotoAsync(address);
        Assert.Equal(404, response!.Status);
        await Assertions.Expect(page.Locator("h1")).ToContainTextAsync(title);
        await Assertions.Expect(page.Locator("main a").First).ToBeVisibleAsync();
        await page.CloseAsync();
    }

    [Fact(Timeout = 120_000)]
    public async Task A_gate_is_approved_with_the_keyboard_alone()
    {
        await using var page = await ConsoleService.OpenAsync(service.ForOperator, "/runs");
        var keyboard = page.Page.Keyboard;
        await page.Page.Locator("body").PressAsync("/");
        await Assertions.Expect(page.Page.Locator("[data-search]")).ToBeFocusedAsync();
        await keyboard.PressAsync("Tab");
        await page.Page.EvaluateAsync("document.activeElement.blur()");
        await keyboard.PressAsync("g");
        await keyboard.PressAsync("a");
        await Assertions.Expect(page.Page.Locator("h1")).ToHaveTextAsync("One run waits for a person");

        // After a change of page the heading has the focus; the way goes on from there.
        await Assertions.Expect(page.Page.Locator("h1")).ToBeFocusedAsync();
        var dialog = page.Page.GetByRole(AriaRole.Dialog);
        await TabToAsync("Approve");
        await keyboard.PressAsync("Enter");
        await FocusedAsync();
        await keyboard.PressAsync("Escape");
        await Assertions.Expect(dialog).ToHaveCountAsync(0);
        await Assertions.Expect(page.Page.GetByRole(AriaRole.Button, new() { NameRegex = new("^Approve ") })).ToBeFocusedAsync();
        await keyboard.PressAsync("Enter");
        await FocusedAsync();
        await TabToAsync("reason");
        await keyboard.TypeAsync("both reports were read");
        await TabToAsync("Approve", exact: true);
        await keyboard.PressAsync("Enter");
        await Assertions.Expect(page.Page.Locator("h1")).ToHaveTextAsync("Nothing waits for you");
        var row = (await service.Host.Queries.AuditAsync(new AuditFilter(Action: AuditAction.GateApproved), Token))[0];
        Assert.Equal((ConsoleService.Operator, "both reports were read"), (row.Actor, (string?)row.Details!["reason"]));
        await foreach (var _ in service.Host.WatchAsync(service.WaitingRun, Token))
        {
            // To its end: what it promotes must not come into another fact.
        }

        await page.GoAsync("/approvals?decided=true");
        await Assertions.Expect(page.Page.Locator(".gate")).ToContainTextAsync("both reports were read");

        async Task FocusedAsync()
        {
            await dialog.WaitForAsync();
            await page.UntilAsync("document.activeElement.closest('[role=dialog]') !== null");
        }

        async Task TabToAsync(string name, bool exact = false)
        {
            for (var i = 0; i < 40; i++)
            {
                var at = await page.Page.EvaluateAsync<string>("document.activeElement.id || document.activeElement.getAttribute('aria-label') || document.activeElement.innerText.trim()");
                if (exact ? at == name : at.StartsWith(name, StringComparison.Ordinal))
                {
                    return;
                }

                await keyboard.PressAsync("Tab");
            }

            Assert.Fail($"'{name}' is not reached with Tab.");
        }
    }

    [Fact(Timeout = 120_000)]
    public async Task Two_runs_are_chosen_in_the_table_and_compared()
    {
        await using var page = await ConsoleService.OpenAsync(service.ForViewer, "/runs?workflow=scheduled-retraining&state=Succeeded");
        foreach (var run in (Guid[])[service.SecondRun, service.FirstRun])
        {
            await page.Page.Locator($"tr:has(a[href='/runs/{run}']) input").CheckAsync();
        }

        // Of the two links of this name the one beside the table, which is there once both are chosen.
        await page.Page.Locator(".acts a", new() { HasText = "Compare" }).ClickAsync();
        await page.Page.WaitForURLAsync($"**/runs/compare?before={service.FirstRun}&after={service.SecondRun}");
        await page.ConnectedAsync();
        await Assertions.Expect(page.Page.Locator("tr", new() { HasText = "ingest.sources" })).ToContainTextAsync("corpus-0");
        await Assertions.Expect(page.Page.Locator("tr", new() { HasText = "evaluateChampion" }).First).ToContainTextAsync("not run");
        await Assertions.Expect(page.Page.Locator("svg[aria-label^='pretrain: Training loss: before']")).ToBeVisibleAsync();
        Assert.Equal(2, await page.Page.Locator("svg[aria-label^='pretrain: Training loss'] polyline").CountAsync());
        Assert.Equal($"fastdraft runs compare {Figures(service.FirstRun)} {Figures(service.SecondRun)}", await page.Page.Locator(".cli code").InnerTextAsync());
        Assert.Empty(page.Complaints);

        static string Figures(Guid run) => run.ToString()[..13];
    }

    [Fact(Timeout = 120_000)]
    public async Task An_artifact_is_verified_kept_and_downloaded()
    {
        await using var page = await ConsoleService.OpenAsync(service.ForOperator, "/artifacts/" + service.Model);
        await page.Button("Verify").ClickAsync();
        await Assertions.Expect(page.Page.Locator(".notice.good")).ToHaveTextAsync("Every byte is as it was stored.");
        await page.Button("Keep").ClickAsync();
        await Assertions.Expect(page.Page.GetByRole(AriaRole.Dialog).Locator("button.primary")).ToBeDisabledAsync();
        await page.Page.Locator("#reason").FillAsync("shipped to a customer");
        await page.Page.GetByRole(AriaRole.Dialog).Locator("button.primary").ClickAsync();
        await Assertions.Expect(page.Page.Locator(".notice", new() { HasText = "shipped to a customer" })).ToBeVisibleAsync();
        Assert.Equal(ConsoleService.Operator, (await service.Host.Queries.AuditAsync(new AuditFilter(Action: AuditAction.ArtifactPinned), Token))[0].Actor);
        var download = await page.Page.RunAndWaitForDownloadAsync(() => page.Page.GetByLabel("Download note.txt").ClickAsync());
        Assert.StartsWith("FinetuneDraft draft", await File.ReadAllTextAsync((await download.PathAsync())!, Token), StringComparison.Ordinal);
        Assert.Empty(page.Complaints);
    }

    [Fact(Timeout = 120_000)]
    public async Task A_version_is_promoted_and_taken_back_with_a_reason_that_stays()
    {
        // The run that waits promotes one of its own when its gate is approved, which another fact does.
        var champion = (await DraftRegistry.ListAsync(service.Host.Store, ConsoleService.Draft, null, Token)).Single(d => d.Aliases.Contains(DraftRegistry.Champion)).Version;
        await using var page = await ConsoleService.OpenAsync(service.ForOperator, "/models/" + ConsoleService.Draft);
        await page.Button("Promote version 2").ClickAsync();
        await page.Page.Locator("#reason").FillAsync("shorter answers");
        await page.Page.GetByRole(AriaRole.Dialog).Locator("button.primary").ClickAsync();
        await Assertions.Expect(page.Page.Locator("h1")).ToContainTextAsync("v2");
        await page.Button("Go back one champion").ClickAsync();
        await page.Page.Locator("#reason").FillAsync("worse on code");
        await page.Page.GetByRole(AriaRole.Dialog).Locator("button.primary").ClickAsync();
        await Assertions.Expect(page.Page.Locator("h1")).ToContainTextAsync($"v{champion}");
        foreach (var why in (string[])["shorter answers", "worse on code"])
        {
            await Assertions.Expect(page.Page.Locator("tr", new() { HasText = why })).ToContainTextAsync(ConsoleService.Operator);
        }

        Assert.Empty(page.Complaints);
    }

    [Fact(Timeout = 120_000)]
    public async Task A_schedule_is_paused_and_resumed()
    {
        await using var page = await ConsoleService.OpenAsync(service.ForOperator, "/schedules");
        await page.Button("Pause " + ConsoleService.Schedule).ClickAsync();
        await Assertions.Expect(page.Page.Locator(".state", new() { HasText = "Paused" })).ToBeVisibleAsync();
        await page.Link(ConsoleService.Schedule).ClickAsync();
        await Assertions.Expect(page.Page.GetByText("None while it is paused.")).ToBeVisibleAsync();
        await page.Button("Resume").ClickAsync();
        await Assertions.Expect(page.Page.Locator(".times li")).ToHaveCountAsync(5);
        Assert.Equal(ConsoleService.Operator, (await service.Host.Queries.AuditAsync(new AuditFilter(Action: AuditAction.ScheduleResumed), Token))[0].Actor);
    }

    [Fact(Timeout = 120_000)]
    public async Task A_viewer_sees_everything_and_no_button_that_changes_something()
    {
        foreach (var name in (string[])["run", "run-waits", "artifact", "model", "schedules", "schedule", "approvals", "audit"])
        {
            await using var page = await ConsoleService.OpenAsync(service.ForViewer, AddressOf(name));
            Assert.Equal(["Copy"], (await page.Page.Locator("main button:visible").AllInnerTextsAsync()).Distinct());
        }
    }

    [Fact(Timeout = 120_000)]
    public async Task A_lineage_of_thousands_of_nodes_is_drawn_in_part_and_says_so()
    {
        const int NumRuns = 3000;
        var corpus = "sha256:" + new string('c', 64);
        await using (var db = service.Host.Store.Open())
        {
            var maker = await db.StageRuns.AsNoTracking().FirstAsync(s => s.State == StageRunState.Succeeded, Token);
            for (var i = 0; i < NumRuns; i++)
            {
                var made = $"sha256:{i:x64}";
                var stage = new StageRunRow
                {
                    Id = Guid.CreateVersion7(), RunId = maker.RunId, ActivityInstanceId = "made:" + i, ActivityId = "train", Stage = "PretrainDraft", State = StageRunState.Succeeded, SettingsJson = "{}", CreatedAt = maker.CreatedAt, EndedAt = maker.EndedAt,
                };
                db.StageRuns.Add(stage);
                db.Ports.Add(new StageRunPortRow { StageRunId = stage.Id, Port = "corpus", Kind = "corpus", Digest = corpus });
                db.Ports.Add(new StageRunPortRow { StageRunId = stage.Id, Port = "draft", Kind = "model", Digest = made, IsOutput = true });
            }

            db.Artifacts.Add(new ArtifactRow { Digest = corpus, Kind = "corpus" });
            await db.SaveChangesAsync(Token);
        }

        var watch = Stopwatch.StartNew();
        await using var page = await ConsoleService.OpenAsync(service.ForViewer, $"/lineage/{corpus}?direction=downstream");
        TestContext.Current.SendDiagnosticMessage("{0} stage runs are walked and drawn after {1:F1} s", NumRuns, watch.Elapsed.TotalSeconds);
        await Assertions.Expect(page.Page.Locator(".meta")).ToContainTextAsync("3,001 artifacts and files, 3,000 stage runs");
        await Assertions.Expect(page.Page.Locator(".meta")).ToContainTextAsync("17 are drawn");
        Assert.Equal(18, await page.Page.Locator(".graph a").CountAsync());
        await page.Page.Locator(".graph a", new() { HasText = "2,992 more" }).First.ClickAsync();
        await page.Page.WaitForURLAsync("**breadth=16**");
        await Assertions.Expect(page.Page.Locator(".meta")).ToContainTextAsync("33 are drawn");
        Assert.Empty(page.Complaints);
    }

    [Fact(Timeout = 120_000)]
    public async Task The_audit_shows_where_its_chain_is_broken()
    {
        await using var page = await ConsoleService.OpenAsync(service.ForOperator, "/audit");
        await Assertions.Expect(page.Page.Locator(".notice.good")).ToContainTextAsync("The chain is intact.");
        await using var db = service.Host.Store.Open();
        await db.Database.ExecuteSqlRawAsync("DROP TRIGGER IF EXISTS audit_no_update", Token);
        await db.Audit.Where(r => r.Sequence == 2).ExecuteUpdateAsync(u => u.SetProperty(r => r.ObjectId, r => r.ObjectId + "!"), Token);
        await page.Button("Verify the chain").ClickAsync();
        await Assertions.Expect(page.Page.Locator(".notice.bad")).ToContainTextAsync("Row 2 ");
        await page.Page.Locator(".notice.bad a").First.ClickAsync();
        await Assertions.Expect(page.Page.Locator("tbody tr").First.Locator("td").First).ToHaveTextAsync("2");
        await db.Audit.Where(r => r.Sequence == 2).ExecuteUpdateAsync(u => u.SetProperty(r => r.ObjectId, r => r.ObjectId.Substring(0, r.ObjectId.Length - 1)), Token);
        await page.Button("Verify the chain").ClickAsync();
        await Assertions.Expect(page.Page.Locator(".notice.good")).ToBeVisibleAsync();
    }

    [Fact(Timeout = 120_000)]
    public async Task A_run_page_stays_quick_while_a_thousand_lines_a_second_come_in()
    {
        var run = await service.FloodAsync();
        await using var page = await ConsoleService.OpenAsync(service.ForViewer, $"/runs/{run}?stage=ingest&tab=logs");
        await Assertions.Expect(page.Page.Locator(".log div").First).ToContainTextAsync("written");
        await page.Page.EvaluateAsync(
            """
            () => {
              const seen = new Set(), lines = [], delays = []; window.measured = { lines, delays };
              let at = performance.now();
              setInterval(() => { const now = performance.now(); delays.push(now - at - 20); at = now; }, 20);
              new MutationObserver(() => {
                const [, number, time] = /line (\d+) written (\d+)\./.exec(document.querySelector('.log div')?.innerText ?? '') ?? [];
                if (number && !seen.has(number)) { seen.add(number); lines.push(Date.now() - Number(time)); }
              }).observe(document.querySelector('.log'), { childList: true, subtree: true, characterData: true });
            }
            """);

        // In time that the page's thread worked, which is the same on a busy machine and on a quiet one.
        var chromium = await page.Page.Context.NewCDPSessionAsync(page.Page);
        await chromium.SendAsync("Performance.enable", new Dictionary<string, object> { ["timeDomain"] = "threadTicks" });
        var (busy, began) = (await WorkedAsync(), Stopwatch.GetTimestamp());
        await page.UntilAsync("window.measured.lines.length >= 20");
        busy = (await WorkedAsync() - busy) / Stopwatch.GetElapsedTime(began).TotalSeconds;
        var figures = await page.Page.EvaluateAsync<JsonElement>("() => window.measured");
        var clicks = new List<double>();
        foreach (var (tab, content) in new[] { ("Settings", ".kv dt:has-text('sources')"), ("Logs", ".log div"), ("Settings", ".kv dt:has-text('sources')"), ("Progress", ".stats") })
        {
            var watch = Stopwatch.StartNew();
            await page.Link(tab).ClickAsync();
            await page.Page.Locator(content).First.WaitForAsync();
            clicks.Add(watch.Elapsed.TotalMilliseconds);
        }

        // The value of a point is the time when it was measured, in seconds to the millisecond.
        await page.Page.EvaluateAsync(
            """
            () => {
              const points = []; let last = ''; window.points = points;
              setInterval(() => {
                const value = /([\d.]+) over/.exec(document.querySelector("svg[aria-label^='Training loss']")?.getAttribute('aria-label') ?? '')?.[1];
                const shown = [...document.querySelectorAll('.stats div')].find(d => d.innerText.startsWith('Loss'))?.querySelector('strong').innerText;
                if (value && shown && shown !== last) { last = shown; points.push(Date.now() % 100000000 - Number(shown) * 1000); }
              }, 10);
            }
            """);
        await page.UntilAsync("window.points.length >= 20");
        var points = Figures(await page.Page.EvaluateAsync<JsonElement>("() => window.points"));
        var (lines, delays) = (Figures(figures.GetProperty("lines")), Figures(figures.GetProperty("delays")));
        await service.StopFloodAsync();
        TestContext.Current.SendDiagnosticMessage(
            "a line is seen after {0:F0} ms (p95 of {1}), a point of a curve after {2:F0} ms (p95 of {3}); the page's thread is busy {4:P0} of the time, its event loop late by {5:F0} ms (p95); a click is answered in {6:F0} ms at most",
            P95(lines), lines.Count, P95(points), points.Count, busy, P95(delays), clicks.Max());
        Assert.True(P95(lines) < 1000, $"A line is seen after {P95(lines):F0} ms (p95).");
        Assert.True(P95(points) < 2000, $"A point is seen after {P95(points):F0} ms (p95).");
        Assert.True(busy < 0.5, $"The page's thread is busy {busy:P0} of the time.");
        Assert.Empty(page.Complaints);

        async Task<double> WorkedAsync() => (await chromium.SendAsync("Performance.getMetrics"))!.Value.GetProperty("metrics").EnumerateArray().First(m => m.GetProperty("name").GetString() == "TaskDuration").GetProperty("value").GetDouble();

        static List<double> Figures(JsonElement array) => [.. array.EnumerateArray().Select(v => v.GetDouble()).Order()];

        static double P95(List<double> sorted) => sorted[(int)Math.Ceiling(sorted.Count * 0.95) - 1];
    }

    private string AddressOf(string name) => name switch
    {
        "runs" => "/runs",
        "run" => $"/runs/{service.SecondRun}?stage=pretrain",
        "run-waits" => $"/runs/{service.WaitingRun}",
        "run-failed" => $"/runs/{service.FailedRun}",
        "compare" => $"/runs/compare?before={service.FirstRun}&after={service.SecondRun}",
        "artifact" => "/artifacts/" + service.Model,
        "lineage-start" => "/lineage",
        "lineage" => "/lineage/" + service.Model,
        "lineage-use" => $"/lineage/{service.Corpus}?direction=downstream",
        "models" => "/models",
        "model" => "/models/" + ConsoleService.Draft,
        "schedules" => "/schedules",
        "schedule" => "/schedules/" + ConsoleService.Schedule,
        "approvals" => "/approvals",
        "audit" => "/audit",
        "report" => "/reports/" + service.Evaluation,
        _ => "/nothing-here",
    };
}
