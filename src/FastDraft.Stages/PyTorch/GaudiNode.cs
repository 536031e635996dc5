namespace FastDraft.Stages.PyTorch;

/// <summary>What a machine needs to train on Intel Gaudi, each with where it comes from.</summary>
public static class GaudiNode
{
    /// <summary>Cards that this process may use, by the driver's device files.</summary>
    public static int NumCards => TrainerSettings.NumCards("gaudi");

    /// <summary>What is not here, in the order in which one would install it; empty on a node that can train.</summary>
    /// <param name="python">What the training Python says; null where it says nothing.</param>
    /// <param name="root">The root of the file system that is looked at.</param>
    public static IReadOnlyList<string> Missing(PythonReport? python, string root = "/")
    {
        var missing = new List<string>();
        if (!Directory.Exists(Path.Join(root, "sys/module/habanalabs")))
        {
            missing.Add("the driver (habanalabs)");
        }

        var devices = Path.Join(root, "dev/accel");
        if (!Directory.Exists(devices) || !Directory.EnumerateFileSystemEntries(devices, "accel*").Any())
        {
            missing.Add("devices (/dev/accel/accel*)");
        }

        if (!(Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(Path.PathSeparator).Any(folder => File.Exists(Path.Join(root, folder, "hl-smi"))))
        {
            missing.Add("hl-smi (habanalabs-firmware-tools)");
        }

        if (python is not { Habana: true })
        {
            missing.Add("habana_frameworks in " + PythonInstallation.Executable);
        }

        return missing;
    }
}
