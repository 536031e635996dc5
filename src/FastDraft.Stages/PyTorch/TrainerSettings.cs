using FastDraft.Core.Stages;

namespace FastDraft.Stages.PyTorch;

/// <summary>
/// The settings by which a training stage chooses who computes: this process (TorchSharp) or Python processes, one a card (src/trainer-pytorch).
/// Both take the same job and leave the same model folder and the same checkpoints.
/// </summary>
internal static class TrainerSettings
{
    public const string TorchSharp = "torchsharp", PyTorch = "pytorch", Auto = "auto";

    public static SettingDescriptor Accelerator { get; } = TensorStages.Accelerator with { Choices = ["cpu", "cuda", "gaudi"] };

    public static IReadOnlyList<SettingDescriptor> All { get; } =
    [
        Accelerator,
        new("trainer", SettingType.Choice, "Who trains: torchsharp in this process, pytorch in one Python process for each card; auto is pytorch on gaudi and on cuda with more than one card.", Auto, Choices: [Auto, TorchSharp, PyTorch], Category: "Machine"),
        new("numProcesses", SettingType.Integer, "Python processes that share a batch; all cards of the machine, or one on cpu, when not given. Needs trainer pytorch.", Minimum: 1, Category: "Machine"),
        new("compile", SettingType.Boolean, "Compile the model with torch.compile; on cards, not on cpu, when not given. Needs trainer pytorch.", Category: "Machine"),
    ];

    /// <summary>Settings that decide where and how fast, not what comes out: a checkpoint is taken up whatever they are.</summary>
    public static IReadOnlySet<string> WithoutEffectOnWeights { get; } = new HashSet<string>(StringComparer.Ordinal) { "trainer", "numProcesses", "compile", "checkpointSeconds" };

    /// <exception cref="StageFailureException">The settings contradict each other, or name an accelerator that is not known.</exception>
    public static bool UsesPyTorch(StageContext context)
    {
        var (accelerator, trainer) = (context.Text("accelerator") ?? "cpu", context.Text("trainer") ?? Auto);
        if (!Accelerator.Choices!.Contains(accelerator))
        {
            throw new StageFailureException(FailureKind.Config, $"Setting 'accelerator': '{accelerator}' is not known; there are {string.Join(", ", Accelerator.Choices!)}.", "--set accelerator=cpu");
        }

        var pytorch = UsesPyTorch(accelerator, trainer);
        if (!pytorch && accelerator == "gaudi")
        {
            throw new StageFailureException(FailureKind.Config, "trainer 'torchsharp' does not run on accelerator 'gaudi'.", "trainer=auto");
        }

        if (!pytorch && context.Settings.FirstOrDefault(s => s.Key is "numProcesses" or "compile" && s.Value is not null) is { Key: { } ignored })
        {
            throw new StageFailureException(FailureKind.Config, $"Setting '{ignored}' is for trainer 'pytorch'; here torchsharp trains.", "trainer=pytorch");
        }

        return pytorch;
    }

    public static bool UsesPyTorch(string accelerator, string trainer) =>
        trainer == PyTorch || (trainer == Auto && (accelerator == "gaudi" || (accelerator == "cuda" && NumCards(accelerator) > 1)));

    public static int NumProcesses(StageContext context) => (int)(context.Integer("numProcesses") ?? Math.Max(1, NumCards(context.Text("accelerator") ?? "cpu")));

    public static bool Compiles(StageContext context) => context.Settings["compile"] is null ? context.Text("accelerator") is "cuda" or "gaudi" : context.Flag("compile");

    /// <summary>Cards of this machine that this process may use, by the driver's device files; nothing is loaded.</summary>
    public static int NumCards(string accelerator)
    {
        var (variable, folder, prefix) = accelerator switch
        {
            "cuda" => ("CUDA_VISIBLE_DEVICES", "/dev", "nvidia"),
            "gaudi" => ("HABANA_VISIBLE_MODULES", "/dev/accel", "accel"),
            _ => (null, null, null),
        };
        if (variable is null)
        {
            return 0;
        }

        if (Environment.GetEnvironmentVariable(variable) is { Length: > 0 } visible)
        {
            return visible.Split(',', StringSplitOptions.RemoveEmptyEntries).Length;
        }

        return Directory.Exists(folder)
            ? Directory.EnumerateFileSystemEntries(folder, prefix + "*").Count(f => int.TryParse(Path.GetFileName(f).AsSpan(prefix!.Length), out _))
            : 0;
    }
}
