using FastDraft.Storage;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Names one host. Its file under hosts/ is locked as long as its process lives, so another host of this machine can tell at
/// once that an owner is gone; one that is stopped or slow still holds its lock and keeps its lease until it expires.
/// </summary>
internal sealed class LeaseOwner : IDisposable
{
    private static readonly TimeSpan Young = TimeSpan.FromMinutes(1);

    private readonly string folder;
    private readonly FileLock held;
    private readonly bool locksWork;

    public LeaseOwner(string dataFolder)
    {
        folder = Path.Combine(dataFolder, "hosts");
        var id = Guid.CreateVersion7().ToString("N");
        Name = Environment.MachineName + "|" + id;
        held = FileLock.TryTake(Path.Combine(folder, id)) ?? throw new IOException($"The new file '{id}' in '{folder}' is locked by another process.");

        // Where the file system ignores locks a living host would look dead; then only expiry counts.
        using var again = FileLock.TryTake(Path.Combine(folder, id));
        locksWork = again is null;
    }

    public string Name { get; }

    public void Dispose()
    {
        held.Dispose();
        File.Delete(Path.Combine(folder, Name.Split('|')[1]));
    }

    /// <summary>True when the owner was a host of this machine and data folder whose process is provably gone.</summary>
    public bool IsGone(string? leaseOwner)
    {
        if (!locksWork || leaseOwner == Name || leaseOwner?.Split('|') is not [var machine, var id] || machine != Environment.MachineName || !Guid.TryParse(id, out _))
        {
            return false;
        }

        var path = Path.Combine(folder, id);
        using var free = File.Exists(path) ? FileLock.TryTake(path) : null;
        return free is not null;
    }

    /// <summary>Deletes the files of hosts that are gone and own nothing any more.</summary>
    public void Sweep(IReadOnlySet<string> owners)
    {
        foreach (var path in Directory.EnumerateFiles(folder))
        {
            var name = Environment.MachineName + "|" + Path.GetFileName(path);
            if (!owners.Contains(name) && TimeProvider.System.GetUtcNow() - File.GetLastWriteTimeUtc(path) > Young && IsGone(name))
            {
                File.Delete(path);
            }
        }
    }
}
