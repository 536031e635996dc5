using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Durability.Worker;

/// <summary>Writes a number; on request it dies once, or starts a grandchild and waits until it is stopped.</summary>
public sealed class MakeStage : IStage
{
    public static StageDescriptor Describe() => new(
        "Make", 1, "Makes a number.",
        [
            new("number", SettingType.Integer, "The number.", JsonValue.Create(1)),
            new("dieOnce", SettingType.Boolean, "Kill itself in the first attempt.", JsonValue.Create(false)),
            new("waitFor", SettingType.Text, "Wait until this file exists.", JsonValue.Create("")),
        ],
        [], [new("made", ArtifactKind.Corpus, "The number.")]);

    public StageDescriptor Descriptor { get; } = Describe();

    public async Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var marker = Path.Combine(context.ResumeFolder, "marker");
        if (context.Flag("dieOnce") && !File.Exists(marker))
        {
            await File.WriteAllTextAsync(marker, "", cancellationToken);
            Process.GetCurrentProcess().Kill();
        }

        var waitFor = context.Text("waitFor");
        if (!string.IsNullOrEmpty(waitFor))
        {
            using var child = Process.Start(new ProcessStartInfo("sleep") { ArgumentList = { "300" } })!;
            context.Events.Log($"child {child.Id}");
            while (!File.Exists(waitFor))
            {
                await Task.Delay(50, CancellationToken.None);
            }
        }

        context.Events.Metric("loss", 0.5, 1);
        await File.WriteAllTextAsync(Path.Combine(context.Output("made"), "n.txt"), context.Integer("number")!.Value.ToString(System.Globalization.CultureInfo.InvariantCulture), cancellationToken);
    }
}

public sealed class CopyStage : IStage
{
    public static StageDescriptor Describe() => new(
        "Copy", 1, "Copies a number.", [new("suffix", SettingType.Text, "Appended.", JsonValue.Create("a"))],
        [new("made", ArtifactKind.Corpus, "The number.")], [new("copied", ArtifactKind.Corpus, "The copy.")]);

    public StageDescriptor Descriptor { get; } = Describe();

    public async Task ExecuteAsync(StageContext context, CancellationToken cancellationToken) => await File.WriteAllTextAsync(
        Path.Combine(context.Output("copied"), "n.txt"),
        await File.ReadAllTextAsync(Path.Combine(context.Input("made"), "n.txt"), cancellationToken) + context.Text("suffix"), cancellationToken);
}
