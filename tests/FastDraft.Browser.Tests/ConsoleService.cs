using System.Text.Json.Nodes;
using FastDraft.Core.Lineage;
using FastDraft.Core.Runs;
using FastDraft.Core.Workflows;
using FastDraft.Modeling.Evaluation;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Persistence.Security;
using FastDraft.Server;
using FastDraft.Server.Scheduling;
using FastDraft.Server.Security;
using FastDraft.Server.Web;
using FastDraft.Stages;
using FastDraft.Stages.EvaluateDraft;
using FastDraft.Stages.PromoteDraft;
using Microsoft.Playwright;

namespace FastDraft.Browser.Tests;

/// <summary>
/// The service with runs in it: two of the shipped retraining workflow that ended, one that waits for a person, one that failed; made by
/// workers that only pretend, in seconds. In front of it one Chromium, signed in as an operator and as a viewer.
/// </summary>
public sealed class ConsoleService : IAsyncLifetime
{
    public const string Operator = "olga";
    public const string Draft = "docs-draft";
    public const string Schedule = "nightly";
    private readonly DirectoryInfo folder = Directory.CreateTempSubdirectory("fastdraft-console-");
    private PipelineHost? host;
    private PipelineWeb? web;
    private IPlaywright? playwright;
    private IBrowser? browser;

    public PipelineHost Host => host!;

    public Guid FirstRun { get; private set; }

    public Guid SecondRun { get; private set; }

    public Guid FailedRun { get; private set; }

    public Guid WaitingRun { get; private set; }

    public string Evaluation { get; private set; } = "";

    public string Model { get; private set; } = "";

    public string Corpus { get; private set; } = "";

    public IBrowserContext ForOperator { get; private set; } = null!;

    public IBrowserContext ForViewer { get; private set; } = null!;

    private string Given => folder.CreateSubdirectory("given").FullName;

    public async ValueTask InitializeAsync()
    {
        if (Service.Chromium is null)
        {
            Assert.False(Environment.GetEnvironmentVariable("CI") == "true", Service.NoChromium);
            return;
        }

        var options = new PipelineOptions
        {
            DataFolder = Path.Join(folder.FullName, "data"),
            WorkerFile = "sh",
            WorkerArguments = [Path.Join(AppContext.BaseDirectory, "console-worker.sh"), Given],
            Stages = BuiltinStages.Descriptors,
            Accelerators = ["cpu"],
            WorkflowFolder = Path.Join(Service.Repository, "workflows"),
        };
        foreach (var (i, acceptance) in new[] { 0.314, 0.349 }.Index())
        {
            var report = Report(acceptance);
            await File.WriteAllTextAsync(Path.Join(Given, $"report-{i}.json"), report.ToJson());
            await File.WriteAllTextAsync(Path.Join(Given, $"report-{i}.html"), ReportPage.Render(report));
            await File.WriteAllTextAsync(Path.Join(Given, $"decision-{i}.json"), Decision(isPromoted: i == 0).ToJson());
        }

        host = await PipelineHost.StartAsync(options);
        web = await PipelineWeb.StartAsync(host, options, new WebOptions { Url = new Uri("http://127.0.0.1:0") });
        await SeedAsync(options);
        playwright = await Playwright.CreateAsync();
        browser = await playwright.Chromium.LaunchAsync(new() { ExecutablePath = Service.Chromium, Args = ["--no-sandbox", "--disable-gpu"] });
        ForOperator = await SignInAsync(Operator, Role.Operator);
        ForViewer = await SignInAsync("vera", Role.Viewer);
    }

    public async ValueTask DisposeAsync()
    {
        await StopFloodAsync();
        if (browser is not null)
        {
            await browser.CloseAsync();
        }

        playwright?.Dispose();
        if (web is not null)
        {
            await web.DisposeAsync();
            await host!.DisposeAsync();
        }

        folder.Delete(recursive: true);
    }

    /// <summary>A run whose only stage writes a thousand lines a second until <see cref="StopFloodAsync"/>.</summary>
    public async Task<Guid> FloodAsync()
    {
        var corpus = Path.Join(folder.FullName, "flood.jsonl");
        await File.WriteAllTextAsync(corpus, "{\"text\":\"flood\"}\n");
        return await host!.SubmitAsync(WorkflowDefinition.Parse($$"""
            { "definitionId": "flood", "name": "flood", "root": { "id": "Sequence1", "type": "Elsa.Sequence", "activities": [
              { "id": "ingest", "type": "FastDraft.IngestCorpus", "version": 1, "sources": { "typeName": "String[]", "expression": { "type": "Literal", "value": ["{{corpus}}"] } } } ] } }
            """), new Dictionary<string, JsonNode?>());
    }

    public Task StopFloodAsync() => File.WriteAllTextAsync(Path.Join(Given, "stop"), "");

    /// <summary>A page at the address, connected and done with loading.</summary>
    public static async Task<ConsolePage> OpenAsync(IBrowserContext context, string address)
    {
        var page = new ConsolePage(await context.NewPageAsync());
        await page.GoAsync(address);
        return page;
    }

    private async Task SeedAsync(PipelineOptions options)
    {
        FirstRun = await RetrainAsync(0, needsApproval: false);
        SecondRun = await RetrainAsync(1, needsApproval: false);
        FailedRun = await host!.SubmitAsync(WorkflowDefinition.Parse("""
            { "definitionId": "fails", "name": "fails", "root": { "id": "stop", "type": "Elsa.Fault", "version": 1, "message": { "typeName": "String", "expression": { "type": "Literal", "value": "The corpus is empty" } } } }
            """), new Dictionary<string, JsonNode?>());
        WaitingRun = await RetrainAsync(0, needsApproval: true, learningRate: 0.001);
        var made = (await host.Queries.GetRunAsync(SecondRun))!;
        string Output(string activity, string port) => made.Stages.Last(s => s.ActivityId == activity).Outputs.First(o => o.Port == port).Digest;
        (Evaluation, Model, Corpus) = (Output("evaluate", "evaluation"), Output("finetune", "draft"), Output("ingest", "corpus"));
        await new ScheduleStore(host.Store, options.Clock).CreateAsync(
            new NewSchedule(Schedule, Retraining, null, ScheduleKind.Cron, "0 3 * * *", "Europe/Berlin", MisfirePolicy.RunOnce, new Dictionary<string, JsonNode?>()), CancellationToken.None);
    }

    private static WorkflowDefinition Retraining => WorkflowDefinition.Parse(File.ReadAllText(Path.Join(Service.Repository, "workflows/scheduled-retraining.json")));

    private async Task<Guid> RetrainAsync(int number, bool needsApproval, double learningRate = 0.002)
    {
        await File.WriteAllTextAsync(Path.Join(Given, "count"), number.ToString(System.Globalization.CultureInfo.InvariantCulture));
        var corpus = Path.Join(folder.FullName, $"corpus-{number}.jsonl");
        await File.WriteAllTextAsync(corpus, $"{{\"text\":\"document {number}\"}}\n");
        var run = await host!.SubmitAsync(Retraining, new Dictionary<string, JsonNode?>
        {
            ["target"] = Service.Target, ["corpus"] = corpus, ["prompts"] = Path.Join(Service.Repository, "workflows/prompts/api-documentation.jsonl"), ["approval"] = needsApproval, ["learningRate"] = learningRate,
        });
        await foreach (var e in host.WatchAsync(run))
        {
            if (e is GateOpened)
            {
                return run;
            }

            Assert.False(e is RunFinished { State: not RunState.Succeeded } or StageChanged { State: StageRunState.Failed }, e.ToString());
        }

        return run;
    }

    private async Task<IBrowserContext> SignInAsync(string name, Role role)
    {
        var (_, token) = await new CredentialStore(host!.Store, TimeProvider.System).CreateTokenAsync(name, role, TimeSpan.FromHours(1), CancellationToken.None);
        var context = await browser!.NewContextAsync(new() { BaseURL = web!.Address.ToString() });
        var page = await context.NewPageAsync();
        await page.GotoAsync("/login");
        await page.GetByLabel("Token or link").FillAsync(token);
        await page.GetByRole(AriaRole.Button, new() { Name = "Sign in" }).ClickAsync();
        await page.WaitForURLAsync(url => new Uri(url).AbsolutePath == "/");
        await page.CloseAsync();
        return context;
    }

    private static EvaluationReport Report(double acceptance)
    {
        var conditions = (from suite in (string[])["documentation", "code", ReportPage.AllSuites]
                          from length in Enumerable.Range(1, 4)
                          select new ConditionResult(
                              suite, 0, length, length == 3, 8, 3, 400, 1200, (long)(1200 * acceptance), 700, acceptance + 0.02, acceptance, new Interval(acceptance - 0.03, acceptance + 0.03),
                              [.. Enumerable.Range(0, length).Select(i => acceptance + 0.2 - (i * 0.05))], 1 + (length * acceptance), new Interval(1.6, 2.1), length * acceptance, 1.7, 1.6, 1.2 + (length * 0.1),
                              new Interval(1.1 + (length * 0.1), 1.3 + (length * 0.1)), 163, 262, 0.5, 0.7, 0.01)).ToList();
        return new EvaluationReport(
            EvaluationReport.CurrentSchema, new ReportSummary(acceptance, 1 + (3 * acceptance), 1.7, 1.6, 1.5, new Interval(1.4, 1.6), 0, 3, 16, 16), new DateTimeOffset(2026, 11, 23, 14, 2, 0, TimeSpan.Zero),
            new Dictionary<string, string>(), [], new ModelFacts("target-docs", 1_048_576, 4, 128, 1024, []), new ModelFacts("draft", 172_352, 2, 64, 1024, []), 0.2,
            new MachineFacts("Linux", "AMD EPYC", 2, 2, "float32", "cpu"), new PromptFacts("sha256:" + new string('7', 64), 16, [new SuiteFacts("documentation", 8, 500), new SuiteFacts("code", 8, 520)]),
            new LatencyFacts(0.0006, [0.0020, 0.0021, 0.0022, 0.0023, 0.0024], 0.0001), conditions, null, [], new BlockTimes(1180, 0.0018, 0.0023, 0.0003),
            new AnswerSample("Returns the", [new AnswerPiece("number", false), new AnswerPiece(" of elements", true), new AnswerPiece(" in", false), new AnswerPiece(" the list.", true)]), []);
    }

    private static PromotionDecision Decision(bool isPromoted) => new(
        PromotionDecision.CurrentSchema, isPromoted ? PromotionVerdict.Promote : PromotionVerdict.Keep, "acceptance-rate", 0, 0, 3, 0.349, isPromoted ? null : 0.314, isPromoted ? null : 0.035, isPromoted ? null : [-0.01, 0.08], 16,
        "sha256:" + new string('7', 64), isPromoted ? "There is no champion yet: the draft is promoted." : "The champion stays: the difference is not wholly above zero.");
}
