using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Export;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.Modeling.Tokenization;

namespace FastDraft.Stages.ExportDraft;

/// <summary>
/// Writes a draft model as a Hugging Face folder, as ONNX and as OpenVINO IR, and measures every written format against the draft
/// itself in float32. A format whose logits or greedy ids differ is never handed on: the stage fails. Every attempt writes all files
/// anew, so a killed one leaves nothing to resume.
/// </summary>
/// <param name="loadReference">Loads the model that the exports are compared with, from the draft's folder.</param>
public sealed class ExportDraftStage(Func<string, ICausalModel> loadReference) : IStage
{
    public const string Name = "ExportDraft";

    public ExportDraftStage()
        : this(LoadTorch)
    {
    }

    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        Name,
        3,
        "Writes the draft model as Hugging Face folder, ONNX and OpenVINO IR, each compared with the draft in float32.",
        [
            new SettingDescriptor("numParityPrompts", SettingType.Integer, "Prompts of random ids that every exported engine is compared on.", 4, Minimum: 1, Maximum: 1000),
            new SettingDescriptor("openVinoLibrary", SettingType.Text, "Path of libopenvino_c.so, or of a folder that holds it. Unset: FASTDRAFT_OPENVINO, then the system's folders."),
        ],
        [new PortDescriptor("draft", ArtifactKind.Model, "The draft model.")],
        [
            new PortDescriptor("model", ArtifactKind.Model, "The draft model as a Hugging Face folder with README.md."),
            new PortDescriptor("onnx", ArtifactKind.Onnx, "ONNX model with its key-value cache as inputs and outputs, parity.json and README.md."),
            new PortDescriptor("openvino", ArtifactKind.OpenVinoIr, "Stateful OpenVINO IR, parity.json and README.md."),
        ]);

    public Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var draft = context.Input("draft");
        try
        {
            CopyFolder(draft, context.Output("model"));
            using var reference = loadReference(draft);
            ExportCard.Write(context.Output("model"), "model", null, draft, reference.NumParameters);
            ExportFormat[] formats = [ExportFormat.Onnx, ExportFormat.OpenVino];
            foreach (var (done, format) in formats.Index())
            {
                cancellationToken.ThrowIfCancellationRequested();
                Export(context, draft, reference, format, WeightPrecision.F32);
                context.Events.Progress(done + 1, formats.Length, "formats");
            }
        }
        catch (CheckpointException e)
        {
            throw new StageFailureException(FailureKind.Data, $"The draft cannot be exported: {e.Message}", e.Hint, e);
        }
        catch (Exception e) when (e is ExportException or TokenizerException)
        {
            throw new StageFailureException(FailureKind.Data, $"The draft cannot be exported: {e.Message}", (e as ExportException)?.Hint, e);
        }

        return Task.CompletedTask;
    }

    private static void Export(StageContext context, string draft, ICausalModel reference, ExportFormat format, WeightPrecision precision)
    {
        var name = ModelExport.NameOf(format);
        var folder = context.Output(name);
        ModelExport.Write(draft, folder, format, precision);
        ExportComparison comparison;
        try
        {
            comparison = ExportComparison.Measure(reference, folder, format, precision, (int)(context.Integer("numParityPrompts") ?? 4), context.Text("openVinoLibrary"));
        }
        catch (ExportException e)
        {
            throw new StageFailureException(FailureKind.Bug, e.Message, e.Hint, e);
        }

        comparison.Save(folder);
        if (comparison.Result is not { } result)
        {
            context.Events.Log($"The {name} export was written but not compared: {comparison.Reason}", StageLogLevel.Warning);
        }
        else
        {
            if (double.IsFinite(result.MaxAbsLogitDifference))
            {
                context.Events.Metric($"export_{name}_max_abs_logit_difference", result.MaxAbsLogitDifference, 0);
            }

            context.Events.Metric($"export_{name}_greedy_ids_equal", result.GreedyIdsEqual ? 1 : 0, 0);
        }

        if (comparison.Fault is { } fault)
        {
            throw new StageFailureException(FailureKind.Bug, $"The exported {name} model differs from the draft: {fault}.");
        }

        ExportCard.Write(folder, name, ModelExport.NameOf(precision), draft, reference.NumParameters);
    }

    private static ICausalModel LoadTorch(string folder)
    {
        Libtorch.Load();
        return new TorchCausalModel(Decoder.Load(folder));
    }

    private static void CopyFolder(string source, string target)
    {
        foreach (var file in Directory.EnumerateFiles(source))
        {
            File.Copy(file, Path.Combine(target, Path.GetFileName(file)), overwrite: true);
        }
    }
}
