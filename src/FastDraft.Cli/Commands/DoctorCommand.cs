using System.CommandLine;
using System.ComponentModel;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Stages;
using FastDraft.Export.OpenVino;
using FastDraft.Modeling.Native;
using FastDraft.Server;
using FastDraft.Server.Projections;
using FastDraft.Stages.PyTorch;
using FastDraft.Storage;
using FastDraft.Storage.FileSystem;
using FastDraft.Storage.S3;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft doctor</c>: every line has ok, warn or fail, and a remedy where it is not ok.</summary>
internal static class DoctorCommand
{
    private const long MinimumFreeBytes = 2L << 30;

    private static readonly TimeSpan MaxSkew = TimeSpan.FromMinutes(5);
    private const string Ok = "ok", Warn = "warn", Fail = "fail";

    public static Command Build()
    {
        var command = new Command("doctor", "Check this machine: runtime, libtorch, PyTorch, accelerators, OpenVINO, database, artifact store, disk") { SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            var checks = await CheckAsync(SharedOptions.DataFolder(parsed), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(checks);
            }
            else
            {
                foreach (var check in checks)
                {
                    var word = Screen.Paint(check.Status.PadRight(4), check.Status switch { Ok => "32", Warn => "33", _ => "31" });
                    Output.WriteText(check.Detail, $"{word}  {check.Name,-12}  ");
                    if (check.Remedy is not null)
                    {
                        Output.WriteText("try: " + check.Remedy, new string(' ', 20));
                    }
                }
            }

            return checks.Any(c => c.Status == Fail) ? ExitCode.RunFailed : ExitCode.Ok;
        }));
        return command;
    }

    private static async Task<IReadOnlyList<Check>> CheckAsync(string dataFolder, CancellationToken cancellationToken)
    {
        var torch = await TryAsync("libtorch", "restore the packages again, or set FASTDRAFT_LIBTORCH to the torch/lib folder of a Python install", () =>
        {
            Libtorch.Load();
            return Task.FromResult(new Check("libtorch", Ok, $"{Libtorch.Version()}: {Libtorch.Report}", null));
        });
        return
        [
            new Check("fastdraft", Ok, ComputeEnvironment.CodeVersion, null),
            new Check("runtime", Ok, $".NET {Environment.Version} on {RuntimeInformation.OSDescription}", null),
            Processor(),
            torch,
            Cuda(torch.Status == Ok),
            .. await PythonAsync(cancellationToken),
            await TryAsync("openvino", "set FASTDRAFT_OPENVINO to libopenvino_c.so of an OpenVINO install", () => Task.FromResult(OpenVino())),
            await TryAsync("data folder", "another folder with --data or FASTDRAFT_DATA", () => Task.FromResult(DataFolder(dataFolder))),
            await TryAsync("database", "a backup of it, another folder with --data, or FASTDRAFT_DATABASE with a server that answers", () => DatabaseAsync(dataFolder, cancellationToken)),
            await TryAsync("store", "check the disk and the permissions of the data folder", () => StoreAsync(dataFolder, cancellationToken)),
            Disk(dataFolder),
            .. await ProjectionsAsync(dataFolder, cancellationToken),
        ];
    }

    private static Check Processor()
    {
        var memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        var detail = $"{Environment.ProcessorCount} cores, {Figures.Bytes(memory)} memory, {(Avx512F.IsSupported ? "AVX-512" : Avx2.IsSupported ? "AVX2" : "no AVX2")}";
        return Avx2.IsSupported || RuntimeInformation.ProcessArchitecture == Architecture.Arm64
            ? new Check("cpu", Ok, detail, null)
            : new Check("cpu", Warn, detail, "a processor with AVX2: decoding is several times slower without");
    }

    private static Check Cuda(bool torchLoaded)
    {
        const string Remedy = "FASTDRAFT_LIBTORCH with the torch/lib folder of a CUDA build, on a machine with an NVIDIA GPU; cpu works without";
        if (Libtorch.WhyNoCuda() is { } why)
        {
            return new Check("cuda", Warn, $"not available: {why}", Remedy);
        }

        return torchLoaded && Libtorch.CudaAvailable
            ? new Check("cuda", Ok, $"{TorchSharp.torch.cuda.device_count()} device(s)", null)
            : new Check("cuda", Warn, "libtorch is a CUDA build, but CUDA does not start", "check the driver with nvidia-smi");
    }

    /// <summary>The Python that trains on Gaudi and on several cards, and what a Gaudi node lacks.</summary>
    private static async Task<IReadOnlyList<Check>> PythonAsync(CancellationToken cancellationToken)
    {
        PythonReport? report = null;
        Check python;
        try
        {
            report = await PythonInstallation.DescribeAsync(cancellationToken);
            var lacks = new (string Name, string? Version, string? Problem)[] { ("torch", report.Torch, report.TorchProblem), ("safetensors", report.Safetensors, report.SafetensorsProblem), ("numpy", report.Numpy, report.NumpyProblem) }
                .Where(m => m.Version is null).Select(m => $"{m.Name} ({m.Problem})").ToList();
            python = lacks.Count == 0
                ? new Check("pytorch", Ok, $"{PythonInstallation.Executable} {report.Python}: torch {report.Torch}, safetensors {report.Safetensors}; {report.Cuda} cuda, {report.Hpu} hpu device(s){(report.Compile ? "" : "; no torch.compile")}", null)
                : new Check("pytorch", Warn, $"{PythonInstallation.Executable} {report.Python} cannot import {string.Join(", ", lacks)}", "FASTDRAFT_PYTHON naming a Python with torch, safetensors and numpy; training in this process works without");
        }
        catch (Exception e) when (e is Win32Exception or InvalidOperationException)
        {
            python = new Check("pytorch", Warn, $"{PythonInstallation.Executable}: {e.Message.ReplaceLineEndings(" ")}", "FASTDRAFT_PYTHON naming a Python with torch, safetensors and numpy; training in this process works without");
        }

        var missing = GaudiNode.Missing(report);
        return
        [
            python,
            missing.Count == 0
                ? new Check("gaudi", Ok, $"{report!.Hpu} card(s)", null)
                : new Check("gaudi", Warn, "not available, this machine lacks " + string.Join(", ", missing), "docs/how-to/run-on-gaudi.md; cpu and cuda work without"),
        ];
    }

    private static Check OpenVino()
    {
        var path = OpenVinoRuntime.Find(null);
        return path is null
            ? new Check("openvino", Warn, "no runtime found: exported IR is written but not run", "set FASTDRAFT_OPENVINO to libopenvino_c.so of an OpenVINO install")
            : new Check("openvino", Ok, $"{OpenVinoRuntime.Load(path).Version} from {path}", null);
    }

    private static Check DataFolder(string folder)
    {
        Directory.CreateDirectory(folder);
        var probe = Path.Join(folder, ".doctor-" + Guid.CreateVersion7().ToString("N", CultureInfo.InvariantCulture));
        File.WriteAllText(probe, "probe");
        File.Delete(probe);
        return new Check("data folder", Ok, folder + " is writable", null);
    }

    private static async Task<Check> DatabaseAsync(string folder, CancellationToken cancellationToken)
    {
        var database = PipelineStore.DatabaseOf(folder, PipelineSettings.FromEnvironment());
        if (!database.Exists)
        {
            return new Check("database", Ok, "none yet; the first run makes it", null);
        }

        var report = await database.ReportAsync(cancellationToken);
        var detail = $"{report.Name[4..]}, version {report.Version}, answers in {report.Latency.TotalMilliseconds.ToString("F1", CultureInfo.InvariantCulture)} ms; ";
        return report.Newer is { } newer
            ? new Check("database", Fail, $"{detail}made by a newer version: it has '{newer}'", "the fastdraft that made it, or a later one")
            : report.Pending.Count > 0
                ? new Check("database", Warn, $"{detail}at {(report.Applied is [.., var last] ? last : "nothing")}, {report.Pending.Count} migrations behind", "nothing to do: the next run migrates it")
                : new Check("database", Ok, $"{detail}at {report.Applied[^1]}", null);
    }

    private static async Task<Check> StoreAsync(string folder, CancellationToken cancellationToken)
    {
        if (PipelineSettings.FromEnvironment().Store is { } bucket)
        {
            return await BucketAsync(bucket, folder, cancellationToken);
        }

        // A store of its own in the same folder: the real one keeps only what stages made.
        var scratch = Path.Join(folder, ".doctor-" + Guid.CreateVersion7().ToString("N", CultureInfo.InvariantCulture));
        var source = Path.Join(scratch, "in");
        Directory.CreateDirectory(source);
        try
        {
            await File.WriteAllTextAsync(Path.Join(source, "probe.txt"), "probe", cancellationToken);
            var store = new FileSystemArtifactStore(Path.Join(scratch, "cas"));
            var (digest, _) = await store.PutFolderAsync("probe", source, cancellationToken);
            await store.MaterializeAsync(digest, Path.Join(scratch, "out"), cancellationToken);
            var whole = (await store.VerifyAsync(digest, VerifyDepth.Full, cancellationToken)).Count == 0 && await File.ReadAllTextAsync(Path.Join(scratch, "out", "probe.txt"), cancellationToken) == "probe";
            return whole ? new Check("store", Ok, "write, link, read and verify", null) : new Check("store", Fail, "what was written is not what is read", "another disk");
        }
        finally
        {
            Directory.Delete(scratch, recursive: true);
        }
    }

    /// <summary>One line for each receiver outside that is told of what happens.</summary>
    private static async Task<IReadOnlyList<Check>> ProjectionsAsync(string folder, CancellationToken cancellationToken)
    {
        const double LongLagSeconds = 300;
        var settings = PipelineSettings.FromEnvironment();
        try
        {
            // What is not there, or of an older version, is not touched by a look at it.
            if (PipelineStore.DatabaseOf(folder, settings) is not { Exists: true } database || (await database.ReportAsync(cancellationToken)).Pending.Count > 0)
            {
                return [];
            }

            await using var store = await PipelineStore.OpenAsync(folder, settings, cancellationToken);
            return [.. (await new ProjectionStore(store, TimeProvider.System).ListAsync(cancellationToken)).Select(p =>
            {
                var detail = $"{p.Waiting} waiting ({Figures.Duration(TimeSpan.FromSeconds(p.LagSeconds))}), {p.Quarantined} given up, {p.Delivered} delivered" + (p.Problem is null ? string.Empty : $"; {p.Problem}");
                return p.Problem is null && p.Quarantined == 0 && p.LagSeconds < LongLagSeconds ? new Check(p.Name, Ok, detail, null)
                    : new Check(p.Name, Warn, detail, p.Quarantined > 0 ? $"fastdraft projections list says why; fastdraft projections retry {p.Name}" : $"the receiver, and a host with its settings: fastdraft serve; or fastdraft projections forget {p.Name}");
            })];
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            return [new Check("projections", Fail, e.Message.ReplaceLineEndings(" "), "see database, above")];
        }
    }

    private static async Task<Check> BucketAsync(S3Settings bucket, string folder, CancellationToken cancellationToken)
    {
        using var store = new S3ArtifactStore(bucket, Path.Join(folder, "cache"));
        var (roundTrip, skew) = await store.ProbeAsync(cancellationToken);
        var detail = $"{bucket} answers in {roundTrip.TotalMilliseconds.ToString("F0", CultureInfo.InvariantCulture)} ms, its clock is {Math.Abs(skew.TotalSeconds).ToString("F0", CultureInfo.InvariantCulture)} s {(skew < TimeSpan.Zero ? "behind" : "ahead")}";
        return skew.Duration() > MaxSkew
            ? new Check("store", Fail, detail, "set the clocks: servers refuse requests from 15 minutes on")
            : new Check("store", Ok, detail, null);
    }

    private static Check Disk(string folder)
    {
        var free = FreeDisk(folder);
        return free >= MinimumFreeBytes
            ? new Check("free disk", Ok, Figures.Bytes(free), null)
            : new Check("free disk", Warn, Figures.Bytes(free), $"free at least {Figures.Bytes(MinimumFreeBytes)}");
    }

    /// <summary>Free bytes of the disk of a folder that may not be there yet.</summary>
    public static long FreeDisk(string folder)
    {
        var existing = folder;
        while (!Directory.Exists(existing))
        {
            existing = Path.GetDirectoryName(existing)!;
        }

        return new DriveInfo(existing).AvailableFreeSpace;
    }

    private static async Task<Check> TryAsync(string name, string remedy, Func<Task<Check>> probe)
    {
        try
        {
            return await probe();
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            return new Check(name, Fail, e.Message.ReplaceLineEndings(" "), remedy);
        }
    }

    private sealed record Check(string Name, string Status, string Detail, string? Remedy);
}
