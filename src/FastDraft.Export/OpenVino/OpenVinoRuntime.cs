using System.Globalization;
using System.Runtime.InteropServices;

namespace FastDraft.Export.OpenVino;

/// <summary>OpenVINO refused a call, or its library cannot be used.</summary>
public sealed class OpenVinoException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// The C API of an installed OpenVINO runtime (libopenvino_c.so), bound by name at run time: the pipeline neither ships nor requires
/// it. The library stays loaded for the life of the process, as its thread pools do not survive unloading.
/// </summary>
public sealed unsafe class OpenVinoRuntime
{
    /// <summary>Environment variable with the path of the library, of its folder or of an unpacked OpenVINO.</summary>
    public const string EnvironmentVariable = "FASTDRAFT_OPENVINO";

    private const string LibraryName = "libopenvino_c.so";

    // The first whose CPU plugin keeps attention with a mask and a cache of its own as one operation.
    private const int FirstYear = 2024;

    private static readonly string[] SystemFolders =
        ["/opt/intel/openvino/runtime/lib/intel64", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib", "/usr/lib64"];

    private static readonly string[] SubFolders = ["", "libs", "openvino/libs", "runtime/lib/intel64", "lib"];

    private readonly nint _library;

    private OpenVinoRuntime(string path)
    {
        Path = path;
        _library = NativeLibrary.Load(path);
        var version = default(NativeVersion);
        Check(((delegate* unmanaged<NativeVersion*, int>)Symbol("ov_get_openvino_version"))(&version), "ov_get_openvino_version");
        Version = Marshal.PtrToStringUTF8(version.BuildNumber) ?? "unknown";
        ((delegate* unmanaged<NativeVersion*, void>)Symbol("ov_version_free"))(&version);
    }

    /// <summary>The library's file.</summary>
    public string Path { get; }

    /// <summary>Build number that the runtime states.</summary>
    public string Version { get; }

    /// <summary>
    /// The library's path: the setting, else <see cref="EnvironmentVariable"/>, else the usual system folders; null when none is there.
    /// A setting or variable that names nothing is not passed over in silence: it gives null too.
    /// </summary>
    public static string? Find(string? setting = null)
    {
        if (!string.IsNullOrEmpty(setting))
        {
            return FindAt(setting);
        }

        return Environment.GetEnvironmentVariable(EnvironmentVariable) is { Length: > 0 } variable
            ? FindAt(variable)
            : SystemFolders.Select(FindAt).FirstOrDefault(p => p is not null);
    }

    /// <exception cref="OpenVinoException">The file is no OpenVINO C library, cannot be loaded, or is of a version before exported models.</exception>
    public static OpenVinoRuntime Load(string path)
    {
        try
        {
            var runtime = new OpenVinoRuntime(path);
            RequireVersion(runtime.Version, path);
            return runtime;
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            throw new OpenVinoException($"'{path}' cannot be used as OpenVINO's C library: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    /// <summary>A build number that does not begin with a year is of somebody's own build, and is tried.</summary>
    internal static void RequireVersion(string version, string path)
    {
        if (int.TryParse(version.Split('.')[0], CultureInfo.InvariantCulture, out var year) && year < FirstYear)
        {
            throw new OpenVinoException($"'{path}' is OpenVINO {version}; exported models need {FirstYear}.0 or later. Set {EnvironmentVariable} to a newer libopenvino_c.so.");
        }
    }

    internal nint Symbol(string name) => NativeLibrary.TryGetExport(_library, name, out var symbol)
        ? symbol
        : throw new OpenVinoException($"'{Path}' has no function '{name}': it is not OpenVINO's C library, or of a version that this program does not know. Set {EnvironmentVariable} to a libopenvino_c.so of {FirstYear}.0 or later.");

    internal void Check(int status, string function)
    {
        if (status == 0)
        {
            return;
        }

        var detail = NativeLibrary.TryGetExport(_library, "ov_get_last_err_msg", out var symbol)
            ? Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)symbol)())
            : null;
        throw new OpenVinoException($"{function} failed with status {status}. {detail?.ReplaceLineEndings(" ")}".TrimEnd());
    }

    private static string? FindAt(string location)
    {
        if (File.Exists(location))
        {
            return System.IO.Path.GetFullPath(location);
        }

        return SubFolders.Select(s => System.IO.Path.Combine(location, s))
            .Where(Directory.Exists)
            .SelectMany(f => Directory.EnumerateFiles(f, LibraryName + "*").Order(StringComparer.Ordinal))
            .Select(System.IO.Path.GetFullPath)
            .FirstOrDefault();
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct NativeVersion
    {
        public nint BuildNumber;
        public nint Description;
    }
}
