using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.Playwright;

namespace FastDraft.Browser.Tests;

/// <summary>A real <c>fastdraft serve</c> in a folder of its own, with the workflows that ship and a little text, and a real Chromium in front of it.</summary>
public sealed partial class Service : IAsyncLifetime
{
    public const string Api = "/elsa/api";
    private static readonly string[] Browsers = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    private readonly DirectoryInfo folder = Directory.CreateTempSubdirectory("fastdraft-browser-");
    private Process? process;
    private IPlaywright? playwright;
    private IBrowser? browser;
    private IBrowserContext? context;

    /// <summary>Null where there is none.</summary>
    public static string? Chromium { get; } = Browsers.FirstOrDefault(File.Exists);

    public const string NoChromium = "SKIPPED: there is no Chromium (apt-get install chromium).";

    /// <summary>Why nothing can be seen here; null where it can.</summary>
    public static string? Missing { get; } =
        Chromium is null ? NoChromium
        : !Directory.Exists(Path.Join(Repository, "src/FastDraft.Server/Designer/Studio/node_modules")) ? "SKIPPED: the designer is not installed (npm ci --prefix src/FastDraft.Server/Designer/Studio)."
        : null;

    public static string Repository => Root();

    public static string Target => Path.Join(Repository, "samples/target-docs");

    /// <summary>A file of text and one of code, enough for a few steps of every stage.</summary>
    public string Text => Path.Join(folder.FullName, "text.jsonl");

    public string Code => Path.Join(folder.FullName, "code.jsonl");

    public HttpClient Http { get; } = new();

    public async ValueTask InitializeAsync()
    {
        if (Missing is not null)
        {
            // What CI must have is not skipped there.
            Assert.False(Environment.GetEnvironmentVariable("CI") == "true", Missing);
            return;
        }

        await WriteAsync(Text, i => $"Document {i}: a small draft model guesses the next tokens and the large one checks them all at once. No other document has the number {i * 7919}.");
        await WriteAsync(Code, i => $"def f{i}(x): return x * {i * 7919} + {i}  # the function number {i} of a small program that computes things");
        var workflows = folder.CreateSubdirectory("workflows");
        foreach (var file in WorkflowFiles)
        {
            File.Copy(file, Path.Join(workflows.FullName, Path.GetFileName(file)));
        }

        process = Start("serve", "--urls", "http://127.0.0.1:0");
        var said = await process.StandardOutput.ReadLineAsync() ?? throw new InvalidOperationException("The service ended: " + await process.StandardError.ReadToEndAsync());
        _ = process.StandardOutput.ReadToEndAsync();
        _ = process.StandardError.ReadToEndAsync();
        Http.BaseAddress = new Uri(AddressIn().Match(said).Value);

        Assertions.SetDefaultExpectTimeout(Studio.Patience);
        playwright = await Playwright.CreateAsync();
        browser = await playwright.Chromium.LaunchAsync(new() { ExecutablePath = Chromium, Args = ["--no-sandbox", "--disable-gpu"] });
        context = await browser.NewContextAsync(new() { BaseURL = Http.BaseAddress.ToString(), ViewportSize = new() { Width = 2000, Height = 1150 } });
        await SignInAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (browser is not null)
        {
            await browser.CloseAsync();
        }

        playwright?.Dispose();
        Http.Dispose();
        if (process is not null)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync();
            process.Dispose();
        }

        folder.Delete(recursive: true);
    }

    /// <summary>The workflows that ship.</summary>
    public static IReadOnlyList<string> WorkflowFiles => Directory.GetFiles(Path.Join(Repository, "workflows"), "*.json");

    public async Task<Studio> OpenAsync(string path) => await Studio.OpenAsync(await context!.NewPageAsync(), path);

    public async Task<JsonNode> PostAsync(string path, JsonNode body)
    {
        using var response = await Http.PostAsync(new Uri(Api + path, UriKind.Relative), new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json"));
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        return JsonNode.Parse(text)!;
    }

    /// <summary>Saves a workflow as the editor does, with mistakes too.</summary>
    public Task SaveAsync(JsonNode model) => PostAsync("/workflow-definitions", new JsonObject { ["model"] = model, ["publish"] = false });

    /// <summary>Starts a workflow and gives the id of its run.</summary>
    public async Task<string> StartAsync(string definitionId) => (string)(await PostAsync($"/workflow-definitions/{definitionId}/dispatch", new JsonObject { ["versionOptions"] = "Latest" }))["workflowInstanceId"]!;

    /// <summary>A command on the data folder that the service works on.</summary>
    public async Task<(int ExitCode, string Output)> CommandAsync(params string[] arguments)
    {
        using var command = Start(arguments);
        var complaint = command.StandardError.ReadToEndAsync();
        var output = await command.StandardOutput.ReadToEndAsync();
        await command.WaitForExitAsync();
        return (command.ExitCode, output.Length > 0 ? output : await complaint);
    }

    // As a person does: with a token of their own, in the form.
    private async Task SignInAsync()
    {
        var (code, output) = await CommandAsync("token", "create", "browser", "--role", "admin", "--quiet");
        Assert.True(code == 0, output);
        var token = output.Trim();
        Http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
        var page = await context!.NewPageAsync();
        await page.GotoAsync("/");
        await page.GetByLabel("Token or link").FillAsync(token);
        await page.GetByRole(AriaRole.Button, new() { Name = "Sign in" }).ClickAsync();
        await page.WaitForURLAsync(url => new Uri(url).AbsolutePath == "/");
        await page.CloseAsync();
    }

    private static async Task WriteAsync(string file, Func<int, string> document) =>
        await File.WriteAllLinesAsync(file, Enumerable.Range(0, 700).Select(i => new JsonObject { ["text"] = document(i) }.ToJsonString()));

    private Process Start(params string[] arguments)
    {
        // artifacts/bin/<project>/<configuration>
        var start = new ProcessStartInfo(Path.GetFullPath(Path.Join(AppContext.BaseDirectory, "../../FastDraft.Cli", Path.GetFileName(AppContext.BaseDirectory.TrimEnd('/')), "fastdraft")))
        {
            WorkingDirectory = folder.FullName,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var argument in (string[])[.. arguments, "--data", Path.Join(folder.FullName, "data")])
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }

    private static string Root()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Join(folder.FullName, "Pipeline.sln")))
        {
            folder = folder.Parent ?? throw new InvalidOperationException("The tests run outside a checkout.");
        }

        return folder.FullName;
    }

    [GeneratedRegex(@"http://127\.0\.0\.1:\d+")]
    private static partial Regex AddressIn();
}
