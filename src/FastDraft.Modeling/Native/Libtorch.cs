using System.Reflection;
using System.Runtime.InteropServices;
using TorchSharp;

namespace FastDraft.Modeling.Native;

/// <summary>
/// Finds and loads libtorch before the first tensor. Searched in order: FASTDRAFT_LIBTORCH, the application's folder, the NuGet package
/// this build was made with. The libraries are loaded by path and in dependency order, so that TorchSharp finds them already loaded.
/// </summary>
public static class Libtorch
{
    private const string Bridge = "libLibTorchSharp.so";

    private static readonly Lock Gate = new();
    private static nint _bridge;

    /// <summary>What was loaded and from where, for <c>doctor</c>.</summary>
    public static string Report { get; private set; } = "libtorch is not loaded";

    public static bool CudaAvailable
    {
        get
        {
            Load();
            return torch.cuda_is_available();
        }
    }

    /// <summary>The version that would be loaded, from the files beside it; nothing is loaded.</summary>
    public static string Version()
    {
        string folder;
        try
        {
            folder = FindFolder();
        }
        catch (DllNotFoundException)
        {
            return "none";
        }

        // A Python install says so in torch/version.py, beside the lib folder.
        var python = Path.GetFullPath(Path.Join(folder, "..", "version.py"));
        if (File.Exists(python) && File.ReadLines(python).FirstOrDefault(l => l.StartsWith("__version__", StringComparison.Ordinal)) is { } line)
        {
            return line.Split('=', 2)[1].Trim(' ', '\'', '"');
        }

        // A NuGet package's folder is named for its version; the version of a copy in the application's folder is the build's own.
        return Package() is { } package ? Path.GetFileName(Path.TrimEndingDirectorySeparator(package)) : "unknown";
    }

    /// <summary>Why CUDA cannot be used, as far as files tell without loading anything; null when nothing speaks against it.</summary>
    public static string? WhyNoCuda()
    {
        string folder;
        try
        {
            folder = FindFolder();
        }
        catch (DllNotFoundException e)
        {
            return e.Message;
        }

        return !File.Exists(Path.Join(folder, "libtorch_cuda.so")) ? $"libtorch at '{folder}' is built for the CPU"
            : OperatingSystem.IsLinux() && !File.Exists("/dev/nvidiactl") && !File.Exists("/dev/dxg") ? "there is no NVIDIA driver (/dev/nvidiactl)"
            : null;
    }

    /// <exception cref="DllNotFoundException">No libtorch was found, or it does not load; the message says where was looked.</exception>
    public static void Load()
    {
        lock (Gate)
        {
            if (_bridge != 0)
            {
                return;
            }

            var folder = FindFolder();
            LoadCudaDependencies(folder);
            foreach (var name in new[] { "libc10.so", "libtorch_cpu.so", "libc10_cuda.so", "libtorch_cuda.so", "libtorch.so" })
            {
                var path = Path.Join(folder, name);
                if (File.Exists(path))
                {
                    NativeLibrary.Load(path);
                }
            }

            var remedy = string.Empty;
            var bridge = FindBridge();
            if (!NativeLibrary.TryLoad(bridge, out _bridge))
            {
                // The usual reason is an older libstdc++ (Debian 12, Ubuntu 22.04); see GlibcxxRemedy.
                _bridge = NativeLibrary.Load(GlibcxxRemedy.Apply(bridge));
                remedy = ", with its GLIBCXX_3.4.32 requirement relaxed in a cached copy";
            }

            NativeLibrary.SetDllImportResolver(typeof(torch).Assembly, (library, _, _) =>
                library.Contains("LibTorchSharp", StringComparison.Ordinal) ? _bridge : 0);
            Report = $"libtorch from {folder}{remedy}, {torch.get_num_threads()} threads";
        }
    }

    /// <summary>Where a tensor's first element lies, on its device.</summary>
    internal static unsafe nint Address(torch.Tensor tensor) => ((delegate* unmanaged<nint, nint>)DataOf.Value)(tensor.Handle);

    private static readonly Lazy<nint> DataOf = new(() => NativeLibrary.GetExport(_bridge, "THSTensor_data"));

    private static string FindFolder()
    {
        if (Environment.GetEnvironmentVariable("FASTDRAFT_LIBTORCH") is { Length: > 0 } configured)
        {
            return File.Exists(Path.Join(configured, "libtorch_cpu.so"))
                ? configured
                : throw new DllNotFoundException($"FASTDRAFT_LIBTORCH names '{configured}', which has no libtorch_cpu.so. Give the torch/lib folder of a PyTorch install.");
        }

        var package = Package();
        string[] candidates =
        [
            AppContext.BaseDirectory,
            Path.Join(AppContext.BaseDirectory, "runtimes", "linux-x64", "native"),
            Path.Join(package, "runtimes", "linux-x64", "native"),
        ];
        return candidates.FirstOrDefault(c => File.Exists(Path.Join(c, "libtorch_cpu.so")))
            ?? throw new DllNotFoundException($"libtorch was not found in {string.Join(", ", candidates)}. Restore the packages, or set FASTDRAFT_LIBTORCH.");
    }

    private static string? Package() => typeof(Libtorch).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().FirstOrDefault(a => a.Key == "LibtorchPackageFolder")?.Value;

    private static string FindBridge()
    {
        string[] candidates = [Path.Join(AppContext.BaseDirectory, Bridge), Path.Join(AppContext.BaseDirectory, "runtimes", "linux-x64", "native", Bridge)];
        return candidates.FirstOrDefault(File.Exists)
            ?? throw new DllNotFoundException($"{Bridge} was not found in {string.Join(", ", candidates)}.");
    }

    /// <summary>A Python install keeps CUDA's libraries in nvidia/*/lib beside torch: they are not on the loader's path.</summary>
    private static void LoadCudaDependencies(string folder)
    {
        var nvidia = Path.GetFullPath(Path.Join(folder, "..", "..", "nvidia"));
        if (!File.Exists(Path.Join(folder, "libtorch_cuda.so")) || !Directory.Exists(nvidia))
        {
            return;
        }

        // Their order of dependency is not written anywhere: load what loads until a round adds nothing.
        var waiting = Directory.GetFiles(nvidia, "*.so*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).ToList();
        int before;
        do
        {
            before = waiting.Count;
            waiting.RemoveAll(path => NativeLibrary.TryLoad(path, out _));
        }
        while (waiting.Count < before && waiting.Count > 0);
    }
}
