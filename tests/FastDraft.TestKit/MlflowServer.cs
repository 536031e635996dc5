using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace FastDraft.TestKit;

/// <summary>
/// A real MLflow server on a free port, with its database and artifacts in a folder of its own.
/// </summary>
public sealed class MlflowServer : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private readonly DirectoryInfo folder;
    private readonly Process process;

    private MlflowServer(DirectoryInfo folder, Process process, Uri address) => (this.folder, this.process, Address) = (folder, process, address);

    /// <summary>Why there is none here; null where there can be one.</summary>
    public static string? Missing { get; } = WheelEnvironment.Missing("mlflow");

    public Uri Address { get; }

    public static async Task<MlflowServer> StartAsync()
    {
        var environment = await WheelEnvironment.GetAsync("mlflow");
        var folder = Directory.CreateTempSubdirectory("fastdraft-mlflow-");
        var port = FreePort();
        string[] command =
        [
            Path.Join(environment, "bin", "mlflow"), "server", "--backend-store-uri", $"sqlite:///{folder.FullName}/mlflow.db", "--artifacts-destination", Path.Join(folder.FullName, "artifacts"),
            "--host", "127.0.0.1", "--port", port.ToString(System.Globalization.CultureInfo.InvariantCulture), "--workers", "1",
        ];

        // It has children of its own. All of them are in one group, and the group ends when the pipe does: with this process, however that ends.
        var start = new ProcessStartInfo("setsid") { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = folder.FullName };
        foreach (var argument in (string[])["bash", "-c", "\"$@\" < /dev/null > server.log 2>&1 & cat > /dev/null; kill -9 -- -$$", "bash", .. command])
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["MLFLOW_DISABLE_TELEMETRY"] = "true";

        // Workers for its own evaluations, which nothing here uses: six processes.
        start.Environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false";
        var server = new MlflowServer(folder, Process.Start(start)!, new Uri($"http://127.0.0.1:{port}"));
        using var http = new HttpClient { Timeout = TimeSpan.FromSeconds(5) };
        var began = TimeProvider.System.GetTimestamp();
        while (!await IsUpAsync(http, server.Address))
        {
            if (TimeProvider.System.GetElapsedTime(began) > Patience || server.process.HasExited)
            {
                var log = await File.ReadAllTextAsync(Path.Join(folder.FullName, "server.log"));
                await server.DisposeAsync();
                throw new InvalidOperationException("MLflow did not start:\n" + log);
            }

            await Task.Delay(200);
        }

        return server;
    }

    public async ValueTask DisposeAsync()
    {
        process.StandardInput.Close();
        await process.WaitForExitAsync();
        process.Dispose();
        folder.Delete(recursive: true);
    }

    private static async Task<bool> IsUpAsync(HttpClient http, Uri address)
    {
        try
        {
            return await http.GetStringAsync(new Uri(address, "/health")) == "OK";
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
        {
            return false;
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
