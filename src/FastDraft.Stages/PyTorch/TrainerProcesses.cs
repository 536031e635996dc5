using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using FastDraft.Core.Stages;

namespace FastDraft.Stages.PyTorch;

/// <summary>
/// The Python processes of one training on this machine. They are in the worker's process group, so its host kills them with it; their
/// standard input is their lease of life, so they also end where the worker alone is killed. The first to fail ends all.
/// </summary>
internal static class TrainerProcesses
{
    private const int KilledBySignal = 128;

    // For the others to say why they failed, too, before they are killed: one of them may have the reason.
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);

    /// <summary>Returns when all have ended well.</summary>
    /// <exception cref="StageFailureException">The reason of the process that failed, not of those that only lost it.</exception>
    /// <exception cref="OperationCanceledException">All were asked to stop; the last checkpoint is from this moment.</exception>
    public static async Task RunAsync(string jobFile, string accelerator, int count, IStageEvents events, CancellationToken cancellationToken)
    {
        var (port, relay) = (FreePort(), new Lock());
        var members = new List<Member>();
        try
        {
            for (var rank = 0; rank < count; rank++)
            {
                members.Add(Member.Start(StartInfo(jobFile, accelerator, rank, count, port), rank, events, relay));
            }

            using var onStop = cancellationToken.Register(() => members.ForEach(m => m.Stop()));
            var running = members.Select(m => m.Ended).ToList();
            while (running.Count > 0)
            {
                var ended = await Task.WhenAny(running);
                running.Remove(ended);
                if (await ended != ExitCode.Ok)
                {
                    await Task.WhenAny(Task.WhenAll(running), Task.Delay(Grace, CancellationToken.None));
                    break;
                }
            }

            cancellationToken.ThrowIfCancellationRequested();
            if (members.Where(m => m.Code is not (null or ExitCode.Ok)).OrderBy(m => m.Code == ExitCode.Temporary).FirstOrDefault() is { } failed)
            {
                throw failed.Reason(count);
            }
        }
        catch (Win32Exception e)
        {
            throw new StageFailureException(FailureKind.Config, $"The Python that trains, '{PythonInstallation.Executable}', cannot be started: {e.Message}", "FASTDRAFT_PYTHON naming a Python with torch, safetensors and numpy; fastdraft doctor", e);
        }
        finally
        {
            foreach (var member in members)
            {
                await member.DisposeAsync();
            }
        }
    }

    private static ProcessStartInfo StartInfo(string jobFile, string accelerator, int rank, int count, int port)
    {
        var start = PythonInstallation.StartInfo(jobFile, "--lease");
        foreach (var (name, value) in new[] { ("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", count), ("LOCAL_WORLD_SIZE", count), ("MASTER_PORT", port) })
        {
            start.Environment[name] = value.ToString(CultureInfo.InvariantCulture);
        }

        start.Environment["MASTER_ADDR"] = "127.0.0.1";
        start.Environment.TryAdd("OMP_NUM_THREADS", Math.Max(1, Environment.ProcessorCount / count).ToString(CultureInfo.InvariantCulture));
        if (accelerator == "cpu" && OperatingSystem.IsLinux())
        {
            // Gloo otherwise asks what the host's name resolves to, which in a container may be nothing.
            start.Environment.TryAdd("GLOO_SOCKET_IFNAME", "lo");
        }

        return start;
    }

    /// <summary>Free when asked; whoever takes it before the first process does makes the attempt fail as a temporary one.</summary>
    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private sealed class Member : IAsyncDisposable
    {
        private readonly Process _process;
        private readonly IStageEvents _events;

        // Held while a line is told: a stage's events come one at a time.
        private readonly Lock _relay;
        private readonly int _rank;
        private Task _pumps = Task.CompletedTask;
        private StageFailureException? _failure;
        private string? _lastWord;

        private Member(Process process, int rank, IStageEvents events, Lock relay) => (_process, _rank, _events, _relay) = (process, rank, events, relay);

        /// <summary>The exit code, null while it runs; above 128 the process was killed by a signal.</summary>
        public int? Code { get; private set; }

        public Task<int> Ended { get; private set; } = Task.FromResult(0);

        public static Member Start(ProcessStartInfo start, int rank, IStageEvents events, Lock relay)
        {
            var member = new Member(new Process { StartInfo = start }, rank, events, relay);
            member._process.Start();
            member._pumps = Task.WhenAll(member.PumpAsync(member._process.StandardOutput, isProtocol: true), member.PumpAsync(member._process.StandardError, isProtocol: false));
            member.Ended = member.EndAsync();
            return member;
        }

        public void Stop()
        {
            try
            {
                _process.StandardInput.WriteLine("stop");
                _process.StandardInput.Flush();
            }
            catch (IOException)
            {
                // It has ended.
            }
        }

        public StageFailureException Reason(int count)
        {
            var code = Code;
            var who = $"Training process {_rank} of {count}";
            return _failure ?? (code > KilledBySignal
                ? new StageFailureException(FailureKind.Infrastructure, $"{who} was killed by signal {code - KilledBySignal}.", "memory for all of them, or fewer numProcesses")
                : new StageFailureException(FailureKind.Bug, $"{who} ended with exit code {code}: {_lastWord ?? "it said nothing"}", "fastdraft doctor"));
        }

        public async ValueTask DisposeAsync()
        {
            if (!_process.HasExited)
            {
                _process.Kill(entireProcessTree: true);
            }

            await Ended;
            _process.Dispose();
        }

        private async Task<int> EndAsync()
        {
            await _process.WaitForExitAsync(CancellationToken.None);

            // What it has written is read to the end; a grandchild that holds the pipe does not hold the training.
            await Task.WhenAny(_pumps, Task.Delay(Grace, CancellationToken.None));
            Code = _process.ExitCode;
            return _process.ExitCode;
        }

        private async Task PumpAsync(StreamReader reader, bool isProtocol)
        {
            while (await reader.ReadLineAsync() is { } line)
            {
                lock (_relay)
                {
                    if ((!isProtocol || !line.StartsWith('{') || !TryRelay(line)) && line.Length > 0)
                    {
                        _lastWord = line;
                        _events.Log(_rank == 0 ? line : $"process {_rank}: {line}");
                    }
                }
            }
        }

        private bool TryRelay(string line)
        {
            try
            {
                using var document = JsonDocument.Parse(line);
                var root = document.RootElement;
                switch (root.GetProperty("type").GetString())
                {
                    case "progress":
                        _events.Progress(root.GetProperty("done").GetInt64(), root.GetProperty("total").GetInt64(), root.GetProperty("unit").GetString()!);
                        return true;
                    case "metric":
                        _events.Metric(root.GetProperty("name").GetString()!, root.GetProperty("value").GetDouble(), root.GetProperty("step").GetInt64());
                        return true;
                    case "log":
                        _events.Log(root.GetProperty("message").GetString()!, Enum.Parse<StageLogLevel>(root.GetProperty("level").GetString()!));
                        return true;
                    case "failure":
                        _failure = new StageFailureException(Enum.Parse<FailureKind>(root.GetProperty("kind").GetString()!), root.GetProperty("message").GetString()!, root.GetProperty("hint").GetString());
                        return true;
                    default:
                        return false;
                }
            }
            catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or ArgumentException)
            {
                // Text that only looks like a line of the protocol.
                return false;
            }
        }
    }
}
