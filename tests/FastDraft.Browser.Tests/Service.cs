using System.Diagnostics;
using System.Text.RegularExpressions;

namespace FastDraft.Browser.Tests;

/// <summary>A real <c>fastdraft serve</c> in a folder of its own with one workflow of seconds, and a real Chromium in front of it.</summary>
public sealed partial class Service : IAsyncLifetime
{
    private static readonly string[] Browsers = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    private readonly DirectoryInfo folder = Directory.CreateTempSubdirectory("fastdraft-browser-");
    private Process? process;

    /// <summary>Why nothing can be seen here; null where it can.</summary>
    public static string? Missing { get; } =
        Browsers.FirstOrDefault(File.Exists) is null ? "SKIPPED: there is no Chromium (apt-get install chromium)."
        : !Directory.Exists(Path.Join(Repository, "src/FastDraft.Server/Designer/Studio/node_modules")) ? "SKIPPED: the designer is not installed (npm ci --prefix src/FastDraft.Server/Designer/Studio)."
        : null;

    public static string Chromium => Browsers.First(File.Exists);

    public static string Repository => Root();

    public string Address { get; private set; } = "";

    public async ValueTask InitializeAsync()
    {
        if (Missing is not null)
        {
            // What CI must have is not skipped there.
            Assert.False(Environment.GetEnvironmentVariable("CI") == "true", Missing);
            return;
        }

        var text = folder.CreateSubdirectory("text");
        for (var i = 0; i < 60; i++)
        {
            await File.WriteAllTextAsync(
                Path.Join(text.FullName, $"{i}.txt"), $"Document {i}: a small draft model guesses the next tokens and the large one checks them all at once. No other document has the number {i * 7919}.");
        }

        var workflow = await File.ReadAllTextAsync(Path.Join(Repository, "tests/FastDraft.Browser.Tests/tiny.json"));
        var workflows = folder.CreateSubdirectory("workflows");
        await File.WriteAllTextAsync(
            Path.Join(workflows.FullName, "tiny.json"),
            workflow.Replace("TEXT", text.FullName, StringComparison.Ordinal).Replace("TARGET", Path.Join(Repository, "samples/target-docs"), StringComparison.Ordinal));
        process = Start("serve", "--urls", "http://127.0.0.1:0", "--data", Path.Join(folder.FullName, "data"));
        var said = await process.StandardOutput.ReadLineAsync() ?? throw new InvalidOperationException("The service ended: " + await process.StandardError.ReadToEndAsync());
        _ = process.StandardOutput.ReadToEndAsync();
        _ = process.StandardError.ReadToEndAsync();
        Address = AddressIn().Match(said).Value;
    }

    public async ValueTask DisposeAsync()
    {
        if (process is not null)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync();
            process.Dispose();
        }

        folder.Delete(recursive: true);
    }

    private Process Start(params string[] arguments)
    {
        // artifacts/bin/<project>/<configuration>
        var start = new ProcessStartInfo(Path.GetFullPath(Path.Join(AppContext.BaseDirectory, "../../FastDraft.Cli", Path.GetFileName(AppContext.BaseDirectory.TrimEnd('/')), "fastdraft")))
        {
            WorkingDirectory = folder.FullName, RedirectStandardOutput = true, RedirectStandardError = true,
        };
        foreach (var argument in arguments)
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
