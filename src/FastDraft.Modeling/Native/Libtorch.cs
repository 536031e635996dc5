using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Loader;
using TorchSharp;

namespace FastDraft.Modeling.Native;

/// <summary>libtorch or its TorchSharp bridge could not be loaded; the message says what, where and what to try.</summary>
public sealed class LibtorchException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>Loads libtorch and TorchSharp's bridge by path, before the first use of torch.</summary>
public static class Libtorch
{
    private const string Bridge = "libLibTorchSharp.so";
    private static readonly Lock Gate = new();
    private static readonly Dictionary<string, nint> Handles = [];
    private static string? report;

    /// <summary>What was loaded and from where, for <c>doctor</c>. Loads libtorch if need be.</summary>
    public static string Report
    {
        get
        {
            Load();
            return report!;
        }
    }

    /// <summary>Whether the loaded libtorch sees a CUDA device.</summary>
    public static bool CudaAvailable
    {
        get
        {
            Load();
            return torch.cuda_is_available();
        }
    }

    /// <summary>Loads everything once. Call it before touching torch.</summary>
    /// <exception cref="LibtorchException">No usable libtorch was found.</exception>
    public static void Load()
    {
        lock (Gate)
        {
            if (report is not null)
            {
                return;
            }

            if (!OperatingSystem.IsLinux())
            {
                report = "libtorch: found by TorchSharp's own search";
                return;
            }

            var folders = Folders().ToList();
            var folder = folders.Find(f => File.Exists(Path.Combine(f, "libtorch_cpu.so")))
                ?? throw new LibtorchException($"libtorch_cpu.so was not found in {string.Join(", ", folders)}. Try setting FASTDRAFT_LIBTORCH to a folder that has it, such as torch/lib of a Python install.");
            PreloadPythonCuda(folder);
            foreach (var name in (string[])["libc10.so", "libtorch_cpu.so", "libc10_cuda.so", "libtorch_cuda.so", "libtorch.so"])
            {
                var path = Path.Combine(folder, name);
                if (File.Exists(path))
                {
                    Open(path);
                }
            }

            var text = $"libtorch: {folder}";
            var bridge = BridgePaths().FirstOrDefault(File.Exists)
                ?? throw new LibtorchException($"{Bridge} was not found in {string.Join(", ", BridgePaths())}. Try restoring the TorchSharp package and building again.");
            try
            {
                Handles["LibTorchSharp"] = NativeLibrary.Load(bridge);
            }
            catch (DllNotFoundException e) when (e.Message.Contains(BridgePatch.Version, StringComparison.Ordinal))
            {
                bridge = BridgePatch.CachedCopy(bridge);
                Open(bridge);
                text += $"; {BridgePatch.Version} is missing in this system's libstdc++, so a patched copy of the bridge is used";
            }
            catch (DllNotFoundException e)
            {
                throw new LibtorchException($"{bridge} cannot be loaded: {e.Message}. Try a libtorch of the version this TorchSharp was built for.", e);
            }

            // TorchSharp first asks by name through the load context, then through DllImport: both are pointed at what is loaded.
            var assembly = typeof(torch).Assembly;
            AssemblyLoadContext.Default.ResolvingUnmanagedDll += (_, name) => Find(name);
            NativeLibrary.SetDllImportResolver(assembly, (name, _, _) => Find(name));
            report = $"{text}; bridge: {bridge}";
        }
    }

    private static nint Find(string name)
    {
        var key = Path.GetFileNameWithoutExtension(name);
        return Handles.TryGetValue(key.StartsWith("lib", StringComparison.Ordinal) ? key[3..] : key, out var handle) ? handle : 0;
    }

    private static void Open(string path)
    {
        try
        {
            Handles[Path.GetFileNameWithoutExtension(path)[3..]] = NativeLibrary.Load(path);
        }
        catch (DllNotFoundException e)
        {
            throw new LibtorchException($"{path} cannot be loaded: {e.Message}. Try FASTDRAFT_LIBTORCH with another libtorch folder.", e);
        }
    }

    private static IEnumerable<string> Folders()
    {
        if (Environment.GetEnvironmentVariable("FASTDRAFT_LIBTORCH") is { Length: > 0 } configured)
        {
            // A folder that was asked for is used or refused; another one is never taken silently.
            yield return Path.GetFullPath(configured);
            yield break;
        }

        yield return AppContext.BaseDirectory;
        yield return Path.Combine(AppContext.BaseDirectory, "runtimes", "linux-x64", "native");
        var package = typeof(Libtorch).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>()
            .FirstOrDefault(a => a.Key == "LibtorchPackageFolder")?.Value;
        if (!string.IsNullOrEmpty(package))
        {
            yield return Path.Combine(package, "runtimes", "linux-x64", "native");
        }
    }

    private static IEnumerable<string> BridgePaths()
    {
        yield return Path.Combine(AppContext.BaseDirectory, Bridge);
        yield return Path.Combine(AppContext.BaseDirectory, "runtimes", "linux-x64", "native", Bridge);
    }

    // Best effort: each library needs others of the set, so a few passes settle the order.
    private static void PreloadPythonCuda(string folder)
    {
        var nvidia = Path.GetFullPath(Path.Combine(folder, "..", "..", "nvidia"));
        if (!Directory.Exists(nvidia))
        {
            return;
        }

        var left = Directory.EnumerateDirectories(nvidia).Select(d => Path.Combine(d, "lib")).Where(Directory.Exists)
            .SelectMany(d => Directory.EnumerateFiles(d, "lib*.so*")).ToList();
        for (var pass = 0; pass < 4 && left.Count > 0; pass++)
        {
            left.RemoveAll(path => NativeLibrary.TryLoad(path, out _));
        }
    }
}
