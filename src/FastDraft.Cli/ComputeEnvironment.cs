using System.Reflection;
using System.Runtime.InteropServices;
using FastDraft.Modeling.Native;
using FastDraft.Stages.PyTorch;

namespace FastDraft.Cli;

/// <summary>What computes here: kept with every attempt, so that a year later a draft says what made it.</summary>
internal static class ComputeEnvironment
{
    /// <summary>The version with the commit it was built from, where the build knew it.</summary>
    public static string CodeVersion { get; } =
        typeof(ComputeEnvironment).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    public static IReadOnlyList<string> KnownAccelerators { get; } = ["cpu", "cuda", "gaudi"];

    /// <summary>What this machine has, as far as files tell.</summary>
    public static IReadOnlyList<string> Accelerators() => ["cpu", .. Libtorch.WhyNoCuda() is null ? ["cuda"] : Array.Empty<string>(), .. GaudiNode.NumCards > 0 ? ["gaudi"] : Array.Empty<string>()];

    public static IReadOnlyDictionary<string, string> Describe() => new Dictionary<string, string>
    {
        ["code"] = CodeVersion,
        ["os"] = $"{RuntimeInformation.OSDescription} {RuntimeInformation.ProcessArchitecture}",
        ["cpu"] = $"{Processor()}, {Environment.ProcessorCount} cores",
        ["dotnet"] = Environment.Version.ToString(),
        ["libtorch"] = Libtorch.Version(),
    };

    private static string Processor()
    {
        const string Info = "/proc/cpuinfo";
        var line = File.Exists(Info) ? File.ReadLines(Info).FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal)) : null;
        return line?.Split(':', 2)[^1].Trim() ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
