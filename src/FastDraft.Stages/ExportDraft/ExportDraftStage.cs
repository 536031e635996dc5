using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Export;
using FastDraft.Export.Onnx;
using FastDraft.Export.OpenVino;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using Microsoft.ML.OnnxRuntime;

namespace FastDraft.Stages.ExportDraft;

/// <summary>
/// Writes a draft model as a Hugging Face folder, as ONNX and as OpenVINO IR, and measures every written format against the draft
/// itself in float32. A format whose logits or greedy ids differ is never handed on: the stage fails. Every attempt writes all files
/// anew, so a killed one leaves nothing to resume.
/// </summary>
/// <param name="loadReference">Loads the model that the exports are compared with, from the draft's folder.</param>
public sealed class ExportDraftStage(Func<string, ICausalModel> loadReference) : IStage
{
    /// <summary>The largest difference of a logit that passes as float32 noise.</summary>
    public const double MaxAbsLogitDifference = 1e-3;

    public const string Name = "ExportDraft";

    private const int NumGreedyTokens = 32;
    private const int MaxPromptTokens = 24;

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public ExportDraftStage()
        : this(LoadTorch)
    {
    }

    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        Name,
        2,
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
        var (onnx, openVino) = (context.Output("onnx"), context.Output("openvino"));
        try
        {
            CopyFolder(draft, context.Output("model"));
            OnnxModelWriter.Write(draft, onnx);
            context.Events.Progress(1, 2, "formats");
            cancellationToken.ThrowIfCancellationRequested();
            OpenVinoModelWriter.Write(draft, openVino);
            context.Events.Progress(2, 2, "formats");
        }
        catch (CheckpointException e)
        {
            throw new StageFailureException(FailureKind.Data, $"The draft cannot be exported: {e.Message}", e.Hint, e);
        }

        using var reference = loadReference(draft);
        var prompts = Prompts(reference, (int)(context.Integer("numParityPrompts") ?? 4));
        cancellationToken.ThrowIfCancellationRequested();
        CompareOnnx(context, reference, prompts, onnx);
        cancellationToken.ThrowIfCancellationRequested();
        CompareOpenVino(context, reference, prompts, openVino);
        foreach (var format in (string[])["model", "onnx", "openvino"])
        {
            ExportCard.Write(context.Output(format), format, draft, reference.NumParameters);
        }

        return Task.CompletedTask;
    }

    private static ICausalModel LoadTorch(string folder)
    {
        Libtorch.Load();
        return new TorchCausalModel(Decoder.Load(folder));
    }

    private static void CompareOnnx(StageContext context, ICausalModel reference, List<int[]> prompts, string folder)
    {
        try
        {
            using var model = OnnxCausalModel.Load(folder);
            Compare(context, "onnx", "onnxruntime", OnnxCausalModel.RuntimeVersion, reference, model, prompts, folder);
        }
        catch (OnnxRuntimeException e)
        {
            throw new StageFailureException(FailureKind.Bug, $"ONNX Runtime refuses the exported model: {e.Message}", null, e);
        }
    }

    private static void CompareOpenVino(StageContext context, ICausalModel reference, List<int[]> prompts, string folder)
    {
        OpenVinoRuntime runtime;
        try
        {
            if (OpenVinoRuntime.Find(context.Text("openVinoLibrary")) is not { } path)
            {
                NotRun(context, folder, $"no OpenVINO runtime was found; set openVinoLibrary or {OpenVinoRuntime.EnvironmentVariable} to its libopenvino_c.so");
                return;
            }

            runtime = OpenVinoRuntime.Load(path);
        }
        catch (OpenVinoException e)
        {
            NotRun(context, folder, e.Message);
            return;
        }

        try
        {
            using var model = OpenVinoCausalModel.Load(runtime, folder);
            Compare(context, "openvino", "openvino", runtime.Version, reference, model, prompts, folder);
        }
        catch (OpenVinoException e)
        {
            throw new StageFailureException(FailureKind.Bug, $"OpenVINO refuses the exported model: {e.Message}", null, e);
        }
    }

    private static void NotRun(StageContext context, string folder, string reason)
    {
        context.Events.Log($"The OpenVINO IR was written but not compared: {reason}", StageLogLevel.Warning);
        WriteParity(folder, "openvino", null, null, reason);
    }

    private static void Compare(
        StageContext context, string format, string engine, string version, ICausalModel reference, ICausalModel exported, List<int[]> prompts, string folder)
    {
        var result = Parity.Measure(reference, exported, prompts, GreedyTokens(reference));
        WriteParity(folder, engine, version, result, null);
        if (double.IsFinite(result.MaxAbsLogitDifference))
        {
            context.Events.Metric($"export_{format}_max_abs_logit_difference", result.MaxAbsLogitDifference, 0);
        }

        context.Events.Metric($"export_{format}_greedy_ids_equal", result.GreedyIdsEqual ? 1 : 0, 0);
        if (!(result.MaxAbsLogitDifference <= MaxAbsLogitDifference) || !result.GreedyIdsEqual)
        {
            throw new StageFailureException(
                FailureKind.Bug,
                $"The exported {format} model differs from the draft: max |logit difference| {result.MaxAbsLogitDifference:G3} (allowed {MaxAbsLogitDifference:G1}), greedy ids {(result.GreedyIdsEqual ? "equal" : "different")}.");
        }
    }

    private static void WriteParity(string folder, string engine, string? version, ParityResult? result, string? reason)
    {
        var parity = new JsonObject
        {
            ["engine"] = engine,
            ["version"] = version,
            ["precision"] = "f32",
            ["maxAbsLogitDifference"] = result is not null && double.IsFinite(result.MaxAbsLogitDifference) ? result.MaxAbsLogitDifference : null,
            ["greedyIdsEqual"] = result?.GreedyIdsEqual,
            ["numPrompts"] = result?.NumPrompts ?? 0,
            ["ran"] = result is not null,
            ["reason"] = reason,
        };
        File.WriteAllText(Path.Combine(folder, "parity.json"), parity.ToJsonString(Indented) + "\n");
    }

    private static int GreedyTokens(ICausalModel model) => Math.Min(NumGreedyTokens, Math.Max(1, model.ContextLength / 2));

    // The seed is fixed so that an export of equal bytes measures equal figures.
    private static List<int[]> Prompts(ICausalModel model, int count)
    {
        var random = new Random(20250101);
        var longest = Math.Clamp(model.ContextLength - GreedyTokens(model), 1, MaxPromptTokens);
        return [.. Enumerable.Range(0, count).Select(_ =>
            Enumerable.Range(0, random.Next(1, longest + 1)).Select(_ => random.Next(model.VocabularySize)).ToArray())];
    }

    private static void CopyFolder(string source, string target)
    {
        foreach (var file in Directory.EnumerateFiles(source))
        {
            File.Copy(file, Path.Combine(target, Path.GetFileName(file)), overwrite: true);
        }
    }
}
