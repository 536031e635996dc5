using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Native;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft doctor</c>: every line has ok, warn or fail and a remedy.</summary>
internal static class DoctorCommand
{
    private const long MinimumFreeBytes = 2L << 30;

    public static Command Build()
    {
        var command = new Command("doctor", "Check this machine: runtime, libtorch, accelerators, data folder, disk") { SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, _) => CliErrors.GuardAsync(() => Task.FromResult(Run(SharedOptions.DataFolder(parsed), SharedOptions.IsJson(parsed)))));
        return command;
    }

    private static int Run(string dataFolder, bool json)
    {
        var checks = new List<Check>
        {
            new("runtime", "ok", $".NET {Environment.Version} on {RuntimeInformation.OSDescription}, {Environment.ProcessorCount} cores", null),
        };
        checks.Add(Try("libtorch", () =>
        {
            Libtorch.Load();
            return Libtorch.Report;
        }, "restore the packages again, or set FASTDRAFT_LIBTORCH to the torch/lib folder of a Python install"));
        checks.Add(checks[^1].Status == "ok"
            ? Libtorch.CudaAvailable
                ? new Check("cuda", "ok", "available", null)
                : new Check("cuda", "warn", "not available; accelerator cpu only", "set FASTDRAFT_LIBTORCH to a CUDA build of libtorch on a machine with an NVIDIA GPU")
            : new Check("cuda", "warn", "unknown: libtorch did not load", "mend libtorch first"));
        checks.Add(Try("data folder", () =>
        {
            Directory.CreateDirectory(dataFolder);
            var probe = Path.Join(dataFolder, ".doctor-" + Guid.CreateVersion7().ToString("N", CultureInfo.InvariantCulture));
            File.WriteAllText(probe, "probe");
            File.Delete(probe);
            return dataFolder + " is writable";
        }, "choose another folder with --data"));
        var free = new DriveInfo(Path.GetFullPath(Directory.Exists(dataFolder) ? dataFolder : ".")).AvailableFreeSpace;
        checks.Add(new Check("free disk", free >= MinimumFreeBytes ? "ok" : "warn", string.Create(CultureInfo.InvariantCulture, $"{free / (double)(1 << 30):F1} GiB"), free >= MinimumFreeBytes ? null : "free at least 2 GiB"));
        checks.Add(Environment.GetEnvironmentVariable("FASTDRAFT_OPENVINO") is { Length: > 0 } library
            ? File.Exists(library)
                ? new Check("openvino", "ok", library, null)
                : new Check("openvino", "fail", $"FASTDRAFT_OPENVINO names '{library}', which does not exist", "the path of libopenvino_c.so")
            : new Check("openvino", "warn", "not configured: exported IR is written but not run", "set FASTDRAFT_OPENVINO to libopenvino_c.so of an OpenVINO install"));

        if (json)
        {
            Output.WriteJson(checks);
        }
        else
        {
            foreach (var check in checks)
            {
                Console.Out.WriteLine($"{check.Status,-5} {check.Name,-12} {check.Detail}" + (check.Remedy is null ? string.Empty : $"\n      {string.Empty,-12} try: {check.Remedy}"));
            }
        }

        return checks.Any(c => c.Status == "fail") ? ExitCode.RunFailed : ExitCode.Ok;
    }

    private static Check Try(string name, Func<string> probe, string remedy)
    {
        try
        {
            return new Check(name, "ok", probe(), null);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or DllNotFoundException or InvalidOperationException or TypeInitializationException)
        {
            return new Check(name, "fail", e.Message, remedy);
        }
    }

    private sealed record Check(string Name, string Status, string Detail, string? Remedy);
}
