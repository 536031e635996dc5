using System.Diagnostics;
using System.Globalization;

namespace FastDraft.Server.Dispatch;

/// <summary>Names one host of one process of one machine, so that a later host can tell that it is gone.</summary>
internal sealed class LeaseOwner
{
    private readonly string processStart;

    public LeaseOwner()
    {
        using var self = Process.GetCurrentProcess();
        processStart = self.StartTime.Ticks.ToString(CultureInfo.InvariantCulture);
        Name = string.Create(CultureInfo.InvariantCulture, $"{Environment.MachineName}|{Environment.ProcessId}|{processStart}|{Guid.CreateVersion7():N}");
    }

    public string Name { get; }

    /// <summary>True when the lease belongs to a host on this machine whose process is gone, or to an earlier host of this process.</summary>
    public bool IsDead(string? leaseOwner)
    {
        var parts = leaseOwner?.Split('|') ?? [];
        if (parts.Length != 4 || parts[0] != Environment.MachineName)
        {
            return leaseOwner is null;
        }

        var id = int.Parse(parts[1], CultureInfo.InvariantCulture);
        if (id == Environment.ProcessId)
        {
            return leaseOwner == Name || parts[2] != processStart;
        }

        try
        {
            using var process = Process.GetProcessById(id);
            return process.StartTime.Ticks.ToString(CultureInfo.InvariantCulture) != parts[2];
        }
        catch (ArgumentException)
        {
            return true;
        }
    }
}
