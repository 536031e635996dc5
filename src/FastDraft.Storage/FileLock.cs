namespace FastDraft.Storage;

/// <summary>
/// A lock that the operating system frees when its holder's process ends, however it ends; a process that is merely stopped
/// keeps it. The file stays behind and means nothing by itself.
/// </summary>
public sealed class FileLock : IDisposable
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(50);

    // EWOULDBLOCK of Linux and of macOS, ERROR_SHARING_VIOLATION of Windows.
    private static readonly int[] HeldByAnother = [11, 35, unchecked((int)0x80070020)];

    private readonly FileStream file;

    private FileLock(FileStream file) => this.file = file;

    /// <summary>Null while another holds it: anyone for an exclusive lock, an exclusive holder for a shared one.</summary>
    public static FileLock? TryTake(string path, bool shared = false)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        try
        {
            return new FileLock(shared
                ? new FileStream(path, FileMode.OpenOrCreate, FileAccess.Read, FileShare.Read)
                : new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
        }
        catch (IOException e) when (HeldByAnother.Contains(e.HResult))
        {
            return null;
        }
    }

    public static async Task<FileLock> TakeAsync(string path, bool shared, CancellationToken cancellationToken)
    {
        while (true)
        {
            if (TryTake(path, shared) is { } taken)
            {
                return taken;
            }

            await Task.Delay(Pause, cancellationToken);
        }
    }

    public void Dispose() => file.Dispose();
}
