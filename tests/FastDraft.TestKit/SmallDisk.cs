using System.Diagnostics;

namespace FastDraft.TestKit;

/// <summary>A tmpfs of a few MiB in place of a folder, until it is disposed of.</summary>
public sealed class SmallDisk : IDisposable
{
    public const int SizeMiB = 8;
    public const string Missing = "SKIPPED: a small tmpfs cannot be mounted here; a full disk was not tried.";

    private readonly string folder;

    private SmallDisk(string folder) => this.folder = folder;

    /// <summary>Null where it cannot be mounted: that takes root.</summary>
    public static SmallDisk? TryMount(string folder)
    {
        Directory.CreateDirectory(folder);
        return Environment.UserName == "root" && Run("mount", "-t", "tmpfs", "-o", $"size={SizeMiB}m", "tmpfs", folder) ? new SmallDisk(folder) : null;
    }

    /// <summary>Somebody made room.</summary>
    public void Grow() => Run("mount", "-o", "remount,size=64m", folder);

    public void Dispose() => Run("umount", "-l", folder);

    private static bool Run(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        process.WaitForExit();
        return process.ExitCode == 0;
    }
}
