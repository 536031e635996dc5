using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Xml.Linq;

namespace FastDraft.TestKit;

/// <summary>A real server that speaks S3 (moto, from this machine's Python) with one empty bucket, in memory. It ends with the process of the tests.</summary>
public sealed class S3Server : IAsyncDisposable
{
    public const string Bucket = "artifacts";

    // Its input is ours: when it ends, so does the server, however the tests ended.
    private const string Program =
        "import os, sys, threading\n"
        + "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"
        + "import logging; logging.getLogger('werkzeug').setLevel(logging.ERROR)\n"
        + "from moto.server import main\n"
        + "main(sys.argv[1:])\n";

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly Process process;

    private S3Server(Process process, Uri address) => (this.process, Address) = (process, address);

    public Uri Address { get; }

    /// <summary>Talks to the server with some key: it checks none.</summary>
    public HttpClient Http { get; } = new() { DefaultRequestHeaders = { { "Authorization", "AWS4-HMAC-SHA256 Credential=anyone/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none" } } };

    /// <summary>Why there is none here; null where there is. No package of a distribution has one, so its absence is never a failure.</summary>
    public static string? Missing { get; } =
        Run("import importlib.util as u, sys; sys.exit(0 if u.find_spec('moto') and u.find_spec('flask') else 1)")
            ? null : "SKIPPED: there is no S3 server here (python3 -m pip install 'moto[server]').";

    public static async Task<S3Server> StartAsync()
    {
        int port;
        using (var free = new TcpListener(IPAddress.Loopback, 0))
        {
            free.Start();
            port = ((IPEndPoint)free.LocalEndpoint).Port;
        }

        var process = Process.Start(StartInfo(Program, "-H", "127.0.0.1", "-p", port.ToString(CultureInfo.InvariantCulture)))!;
        process.OutputDataReceived += (_, _) => { };
        process.ErrorDataReceived += (_, _) => { };
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        var server = new S3Server(process, new Uri($"http://127.0.0.1:{port}"));
        for (var began = Stopwatch.GetTimestamp(); ;)
        {
            try
            {
                (await server.Http.PutAsync(new Uri(server.Address, Bucket), null)).EnsureSuccessStatusCode();
                return server;
            }
            catch (HttpRequestException) when (!process.HasExited && Stopwatch.GetElapsedTime(began) < Patience)
            {
                await Task.Delay(50);
            }
        }
    }

    public Uri UriOf(string key) => new(Address, $"{Bucket}/{key}");

    /// <summary>Copies every object whose key starts with one prefix to the same key with another.</summary>
    public async Task<int> CopyAsync(string from, string to)
    {
        var count = 0;
        for (var after = ""; ;)
        {
            var page = XDocument.Parse(await Http.GetStringAsync(new Uri(Address, $"{Bucket}?list-type=2&prefix={Uri.EscapeDataString(from)}&start-after={Uri.EscapeDataString(after)}")));
            var keys = page.Descendants().Where(e => e.Name.LocalName == "Key").Select(e => e.Value).ToList();
            if (keys.Count == 0)
            {
                return count;
            }

            foreach (var key in keys)
            {
                using var copy = new HttpRequestMessage(HttpMethod.Put, UriOf(to + key[from.Length..])) { Headers = { { "x-amz-copy-source", $"/{Bucket}/{key}" } } };
                using var answer = await Http.SendAsync(copy);
                answer.EnsureSuccessStatusCode();
                count++;
            }

            after = keys[^1];
        }
    }

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        process.Kill();
        await process.WaitForExitAsync();
        process.Dispose();
    }

    private static bool Run(string program)
    {
        try
        {
            using var process = Process.Start(StartInfo(program))!;
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }

    private static ProcessStartInfo StartInfo(string program, params string[] arguments)
    {
        var start = new ProcessStartInfo("python3") { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in (string[])["-c", program, .. arguments])
        {
            start.ArgumentList.Add(argument);
        }

        return start;
    }
}
