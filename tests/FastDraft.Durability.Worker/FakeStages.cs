using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Durability.Worker;

/// <summary>Writes a number; on request it dies once, reads a file, or starts grandchildren and waits until it is stopped.</summary>
public sealed class MakeStage : IStage
{
    public static StageDescriptor Describe() => new(
        "Make", 1, "Makes a number.",
        [
            new("number", SettingType.Integer, "The number.", JsonValue.Create(1)),
            new("dieOnce", SettingType.Boolean, "Kill itself in the first attempt.", JsonValue.Create(false)),
            new("waitFor", SettingType.Text, "Wait until this file exists.", JsonValue.Create("")),
            new("source", SettingType.Path, "A file whose content is part of the result."),
            new("accelerator", SettingType.Text, "Where it is made.", JsonValue.Create("cpu")),
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

        context.Events.Metric("loss", 0.5, 1);
        var waitFor = context.Text("waitFor");
        if (!string.IsNullOrEmpty(waitFor))
        {
            // One in the worker's process group and one that has left it.
            using var child = Process.Start(new ProcessStartInfo("sleep") { ArgumentList = { "300" } })!;
            using var stray = Process.Start(new ProcessStartInfo("setsid") { ArgumentList = { "sleep", "300" } })!;
            context.Events.Log($"waiting {Environment.ProcessId}");
            while (!File.Exists(waitFor))
            {
                await Task.Delay(50, CancellationToken.None);
            }
        }

        var text = context.Integer("number")!.Value.ToString(CultureInfo.InvariantCulture);
        if (context.Text("source") is { } source)
        {
            text += await File.ReadAllTextAsync(source, cancellationToken);
        }

        await File.WriteAllTextAsync(Path.Combine(context.Output("made"), "n.txt"), text, cancellationToken);
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

/// <summary>Measures a loss at every step; on request dies once in the middle.</summary>
public sealed class MeasureStage : IStage
{
    public static StageDescriptor Describe() => new(
        "Measure", 1, "Measures.",
        [
            new("points", SettingType.Integer, "How many points.", JsonValue.Create(10)),
            new("note", SettingType.Text, "Anything; with 'fail' it fails in the end.", JsonValue.Create("")),
            new("dieOnce", SettingType.Boolean, "Kill itself in the first attempt.", JsonValue.Create(false)),
        ],
        [], [new("made", ArtifactKind.Evaluation, "A report.")]);

    public StageDescriptor Descriptor { get; } = Describe();

    public async Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var points = context.Integer("points")!.Value;
        var marker = Path.Combine(context.ResumeFolder, "marker");
        for (var step = 1; step <= points; step++)
        {
            context.Events.Metric("loss", 1.0 / step, step);
            if (context.Flag("dieOnce") && step == points / 2 && !File.Exists(marker))
            {
                await File.WriteAllTextAsync(marker, "", cancellationToken);

                // Long enough for the host to have written what came so far.
                await Task.Delay(1500, cancellationToken);
                Process.GetCurrentProcess().Kill();
            }
        }

        if (context.Text("note") == "fail")
        {
            throw new StageFailureException(FailureKind.Data, "There was nothing to measure.", "measure something");
        }

        await File.WriteAllTextAsync(Path.Combine(context.Output("made"), "report.html"), "<p>measured</p>", cancellationToken);
    }
}

/// <summary>Does what a stage should not, and then what it should.</summary>
public sealed class MisbehaveStage : IStage
{
    public static StageDescriptor Describe() => new(
        "Misbehave", 1, "Misbehaves.",
        [
            new("act", SettingType.Text, "flood, malformed, fill or hog.", Required: true),
            new("bytes", SettingType.Integer, "How much of it.", JsonValue.Create(0)),
        ],
        [], [new("made", ArtifactKind.Corpus, "A file.")]);

    public StageDescriptor Descriptor { get; } = Describe();

    public async Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var bytes = context.Integer("bytes")!.Value;
        var folder = context.Output("made");
        switch (context.RequiredText("act"))
        {
            case "flood":
                await FloodAsync(bytes, cancellationToken);
                break;
            case "malformed":
                await using (var output = new StreamWriter(Console.OpenStandardOutput()))
                {
                    await output.WriteAsync(
                        """
                        {"type":"metric"}
                        {"type":"metric","name":7,"value":"x","step":[]}
                        {"type":"metric","name":"loss","value":1e999,"step":1}
                        {"type":"progress","done":"all"}
                        {"type":"failure","message":{}}
                        {"type":"log","type":"metric","level":"Information"}
                        {"type":null}
                        [1,2,3]
                        {"type":"log","message":"\ud800","level":"Information"}
                        {not json

                        """);
                }

                break;
            case "fill":
                context.Events.Log("checkpoint " + File.Exists(Path.Combine(context.ResumeFolder, "checkpoint")));
                await File.WriteAllTextAsync(Path.Combine(context.ResumeFolder, "checkpoint"), "earlier", cancellationToken);
                await using (var file = File.Create(Path.Combine(folder, "big.bin")))
                {
                    var block = new byte[1 << 20];
                    for (var written = 0L; written < bytes; written += block.Length)
                    {
                        await file.WriteAsync(block, cancellationToken);
                    }
                }

                break;
            case "hog":
                var held = new List<byte[]>();
                while (true)
                {
                    held.Add(new byte[16 << 20]);
                    held[^1].AsSpan().Fill(1);
                }
        }

        context.Events.Metric("survived", 1, 2);
        await File.WriteAllTextAsync(Path.Combine(folder, "n.txt"), "done", cancellationToken);
    }

    /// <summary>Every byte value but the line feed.</summary>
    private static async Task FloodAsync(long bytes, CancellationToken cancellationToken)
    {
        var block = new byte[1 << 20];
        for (var i = 0; i < block.Length; i++)
        {
            block[i] = (byte)(i % 251 is 10 ? 255 : i % 251);
        }

        await using var output = Console.OpenStandardOutput();
        for (var written = 0L; written < bytes; written += block.Length)
        {
            await output.WriteAsync(block, cancellationToken);
        }

        output.WriteByte((byte)'\n');
    }
}
