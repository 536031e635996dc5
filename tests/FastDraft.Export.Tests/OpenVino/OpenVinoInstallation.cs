using System.IO.Compression;
using FastDraft.Export.OpenVino;
using FastDraft.TestKit;

namespace FastDraft.Export.Tests;

/// <summary>The OpenVINO runtime for the facts: an installed one, else unpacked once from the reference wheels beside the test.</summary>
internal static class OpenVinoInstallation
{
    public const string Missing = "SKIPPED: no OpenVINO runtime (FASTDRAFT_OPENVINO, or the reference wheels beside the repository).";

    private static readonly Lazy<OpenVinoRuntime?> Loaded = new(Load);

    public static OpenVinoRuntime? Runtime => Loaded.Value;

    private static OpenVinoRuntime? Load()
    {
        var path = OpenVinoRuntime.Find() ?? OpenVinoRuntime.Find(Unpack());
        return path is null ? null : OpenVinoRuntime.Load(path);
    }

    private static string? Unpack()
    {
        if (!SharedAssets.Present || Directory.EnumerateFiles(SharedAssets.Path("wheels"), "openvino-*.whl").FirstOrDefault() is not { } wheel)
        {
            return null;
        }

        var folder = Path.Combine(AppContext.BaseDirectory, "openvino-runtime");
        var done = Path.Combine(folder, "complete");
        if (File.Exists(done))
        {
            return folder;
        }

        using var archive = ZipFile.OpenRead(wheel);
        foreach (var entry in archive.Entries.Where(e => e.FullName.StartsWith("openvino/libs/", StringComparison.Ordinal)
            && !e.Name.Contains("gpu", StringComparison.Ordinal) && !e.Name.Contains("npu", StringComparison.Ordinal)))
        {
            var target = Path.Combine(folder, "libs", entry.Name);
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            entry.ExtractToFile(target, overwrite: true);
        }

        File.WriteAllText(done, "");
        return folder;
    }
}
