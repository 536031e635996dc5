using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;

namespace FastDraft.TestKit;

/// <summary>
/// A real MLflow server on a free port, with its database and artifacts in a folder of its own. Its environment is built once from the
/// wheels of the reference assets and kept under the temporary folder.
/// </summary>
public sealed class MlflowServer : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private readonly DirectoryInfo folder;
    private readonly Process process;

    private MlflowServer(DirectoryInfo folder, Process process, Uri address) => (this.folder, this.process, Address) = (folder, process, address);

    /// <summary>Why there is none here; null where there can be one.</summary>
    public static string? Missing { get; } =
        !SharedAssets.Present || !Directory.Exists(SharedAssets.Path("wheels")) ? "SKIPPED: MLflow's wheels (../shared/wheels) are not here." : null;

    public Uri Address { get; }

    public static async Task<MlflowServer> StartAsync()
    {
        var environment = await EnvironmentAsync();
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

    /// <summary>The virtual environment with what the requirements list, built where it is not there yet.</summary>
    private static async Task<string> EnvironmentAsync()
    {
        var requirements = SharedAssets.Path("wheels", "requirements-mlflow.txt");
        var key = Convert.ToHexStringLower(SHA256.HashData(await File.ReadAllBytesAsync(requirements)))[..16];
        var environment = Path.Join(Path.GetTempPath(), $"fastdraft-mlflow-venv-{key}");
        var ready = Path.Join(environment, "ready");
        await using var alone = await LockAsync(environment + ".lock");
        if (!File.Exists(ready))
        {
            var start = new ProcessStartInfo(SharedAssets.Path("wheels", "make-venv")) { RedirectStandardError = true };
            start.ArgumentList.Add("mlflow");
            start.ArgumentList.Add(environment);
            using var making = Process.Start(start)!;
            var error = await making.StandardError.ReadToEndAsync();
            await making.WaitForExitAsync();
            if (making.ExitCode != 0)
            {
                throw new InvalidOperationException("MLflow's environment could not be made: " + error);
            }

            await File.WriteAllTextAsync(ready, "");
        }

        return environment;
    }

    private static async Task<FileStream> LockAsync(string path)
    {
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException)
            {
                await Task.Delay(500);
            }
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
