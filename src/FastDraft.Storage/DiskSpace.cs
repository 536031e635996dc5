using System.Globalization;
using FastDraft.Core.Stages;

namespace FastDraft.Storage;

/// <summary>Turns a full disk into one message: what did not fit, where, how many bytes it needs and how many are free.</summary>
public static class DiskSpace
{
    // ENOSPC and EDQUOT of Linux, ERROR_DISK_FULL of Windows.
    private static readonly int[] FullCodes = [28, 122, 112];

    public static bool IsFull(IOException e) => FullCodes.Contains(e.HResult & 0xffff);

    /// <summary>Bytes that this process may still write below the folder.</summary>
    public static long FreeBytes(string folder) => new DriveInfo(Path.GetFullPath(folder)).AvailableFreeSpace;

    /// <exception cref="StageFailureException">Fewer than <paramref name="neededBytes"/> are free.</exception>
    public static void Require(string folder, long neededBytes, string what)
    {
        if (FreeBytes(folder) < neededBytes)
        {
            throw Full(folder, neededBytes, what);
        }
    }

    /// <param name="neededBytes">Null where a write failed and nobody knows how much was to follow.</param>
    public static StageFailureException Full(string folder, long? neededBytes, string what, Exception? inner = null) => new(
        FailureKind.Resource,
        string.Create(CultureInfo.InvariantCulture, $"The disk of '{folder}' is full: {what} needs ")
            + (neededBytes is { } needed ? string.Create(CultureInfo.InvariantCulture, $"{needed:N0} bytes, {FreeBytes(folder):N0} are free.")
                : string.Create(CultureInfo.InvariantCulture, $"more than the {FreeBytes(folder):N0} bytes that are free.")),
        "Free space there and run it again with --resume: finished stages are reused, an interrupted one goes on from its last checkpoint.",
        inner);
}
