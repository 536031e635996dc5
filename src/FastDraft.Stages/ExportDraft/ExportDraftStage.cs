using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Export;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.Modeling.Tokenization;
using FastDraft.Stages.EvaluateDraft;
using FastDraft.Stages.IngestCorpus;

namespace FastDraft.Stages.ExportDraft;

/// <summary>
/// Writes a draft model as a Hugging Face folder and in the formats and precisions asked for, and measures every written one against the
/// draft itself in float32 and, where there is a target, as its draft. A float32 format whose logits or greedy ids differ is never handed
/// on: the stage fails. Every attempt writes all files anew, so a killed one leaves nothing to resume.
/// </summary>
/// <param name="loadReference">Loads the model that the exports are compared with, from the draft's folder.</param>
/// <param name="clock">For the time of a call; without a target nothing that is written depends on it.</param>
public sealed class ExportDraftStage(Func<string, ICausalModel> loadReference, TimeProvider clock) : IStage
{
    public const string Name = "ExportDraft";

    public ExportDraftStage()
        : this(LoadTorch, TimeProvider.System)
    {
    }

    public StageDescriptor Descriptor { get; } = Describe();

    public static StageDescriptor Describe() => new(
        Name,
        3,
        "Writes the draft model as Hugging Face folder and for ONNX Runtime, OpenVINO and llama.cpp, each compared with the draft in float32.",
        [
            new SettingDescriptor("formats", SettingType.TextList, "Formats to write: onnx, openvino, gguf.", new JsonArray("onnx", "openvino")),
            new SettingDescriptor("precisions", SettingType.TextList, "What weights are stored in: f32, f16, bf16, int8, int4, q8_0; each format writes those of them that it has, more than one in folders of their names.", new JsonArray("f32")),
            new SettingDescriptor("numParityPrompts", SettingType.Integer, "Prompts of random ids that every exported engine is compared on.", 4, Minimum: 1, Maximum: 1000),
            new SettingDescriptor("openVinoLibrary", SettingType.Text, "Path of libopenvino_c.so, or of a folder that holds it. Unset: FASTDRAFT_OPENVINO, then the system's folders."),
            new SettingDescriptor("target", SettingType.Path, "Hugging Face folder of the target: what is written is measured as its draft, too. The times make two exports of one draft differ.", Category: "Acceptance", Content: PathContent.Model),
            new SettingDescriptor("prompts", SettingType.PathList, "jsonl files with prompt, text or turns, to measure acceptance on.", Category: "Acceptance", Content: PathContent.Text),
            new SettingDescriptor("numPrompts", SettingType.Integer, "Prompts of each suite, at most.", 16, Minimum: 1, Category: "Acceptance"),
            new SettingDescriptor("maxNewTokens", SettingType.Integer, "Tokens written after each prompt, at most.", 96, Minimum: 1, Unit: "tokens", Category: "Acceptance"),
            new SettingDescriptor("draftLength", SettingType.Integer, "Tokens proposed at a time.", 4, Minimum: 1, Maximum: 64, Unit: "tokens", Category: "Acceptance"),
        ],
        [new PortDescriptor("draft", ArtifactKind.Model, "The draft model.")],
        [
            new PortDescriptor("model", ArtifactKind.Model, "The draft model as a Hugging Face folder with README.md."),
            new PortDescriptor("onnx", ArtifactKind.Onnx, "ONNX model with its key-value cache as inputs and outputs, parity.json and README.md.", Required: false),
            new PortDescriptor("openvino", ArtifactKind.OpenVinoIr, "Stateful OpenVINO IR with its tokenizer, parity.json and README.md.", Required: false),
            new PortDescriptor("gguf", ArtifactKind.Gguf, "GGUF model with its tokenizer, parity.json and README.md.", Required: false),
        ]);

    public Task ExecuteAsync(StageContext context, CancellationToken cancellationToken)
    {
        var plan = Plan(context);
        var draft = context.Input("draft");
        try
        {
            CopyFolder(draft, context.Output("model"));
            using var reference = loadReference(draft);
            ExportCard.Write(context.Output("model"), "model", null, draft, reference.NumParameters);
            using var pair = Pair(context, draft, reference);
            var (done, total) = (0, plan.Sum(p => p.Precisions.Count));
            foreach (var (format, precisions) in plan)
            {
                var folder = context.Output(ModelExport.NameOf(format));
                foreach (var precision in precisions)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    Export(context, draft, reference, precisions.Count == 1 ? folder : Path.Join(folder, ModelExport.NameOf(precision)), format, precision, pair, cancellationToken);
                    context.Events.Progress(++done, total, "exports");
                }

                if (precisions.Count > 1)
                {
                    ExportCard.WriteIndex(folder, ModelExport.NameOf(format), [.. precisions.Select(ModelExport.NameOf)]);
                }
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

    /// <summary>What to write, checked before anything is.</summary>
    private static List<(ExportFormat Format, IReadOnlyList<WeightPrecision> Precisions)> Plan(StageContext context)
    {
        // Settings of a run that was recorded before there was a choice have neither.
        IReadOnlyList<string> formats = context.Settings["formats"] is null ? ["onnx", "openvino"] : context.TextList("formats");
        IReadOnlyList<string> precisions = context.Settings["precisions"] is null ? ["f32"] : context.TextList("precisions");
        try
        {
            var plan = formats.Distinct().Select(ModelExport.Format).Select(format => (
                Format: format,
                Precisions: (IReadOnlyList<WeightPrecision>)[.. ModelExport.Precisions(format).Where(p => precisions.Contains(ModelExport.NameOf(p)))])).ToList();
            foreach (var (format, _) in plan.Where(p => p.Precisions.Count == 0))
            {
                throw new ExportException($"precisions names none of {ModelExport.NameOf(format)}.", string.Join(", ", ModelExport.Precisions(format).Select(ModelExport.NameOf)));
            }

            if (precisions.FirstOrDefault(name => !plan.Any(p => p.Precisions.Any(q => ModelExport.NameOf(q) == name))) is { } unknown)
            {
                throw new ExportException($"No format of {string.Join(", ", formats)} has the precision '{unknown}'.", "f32, f16, bf16, int8, int4 or q8_0, where a format has it");
            }

            return plan;
        }
        catch (ExportException e)
        {
            throw new StageFailureException(FailureKind.Config, e.Message, e.Hint, e);
        }
    }

    private static TargetAndPrompts? Pair(StageContext context, string draft, ICausalModel reference)
    {
        if (context.Text("target") is not { } folder)
        {
            return context.TextList("prompts").Count == 0
                ? null
                : throw new StageFailureException(FailureKind.Config, "prompts were given without a target.", "set target, too: acceptance is between the two");
        }

        var files = context.TextList("prompts");
        if (files.Count == 0)
        {
            throw new StageFailureException(FailureKind.Config, "A target was given without prompts.", "set prompts to jsonl files with prompt, text or turns");
        }

        var target = TensorStages.LoadForDecoding(context, folder);
        try
        {
            var tokenizer = TensorStages.CommonTokenizer(target, folder, reference, draft);
            var maxNewTokens = (int)(context.Integer("maxNewTokens") ?? 96);
            var room = Math.Min(target.ContextLength, reference.ContextLength) - maxNewTokens;
            if (room < 1)
            {
                throw new StageFailureException(FailureKind.Config, "maxNewTokens leaves no room for a prompt in the models' context.", "a smaller maxNewTokens");
            }

            var prompts = EvaluationPrompts.FromFiles(files.SelectMany(CorpusSources.Expand), tokenizer, (int)(context.Integer("numPrompts") ?? 16));
            return prompts.Count == 0
                ? throw new StageFailureException(FailureKind.Data, "No row of the prompt files gives a prompt.", "jsonl rows with prompt, text or turns")
                : new(
                    target,
                    [.. prompts.Select(p => p.Ids.Length > room ? p with { Ids = p.Ids[..room] } : p)],
                    maxNewTokens,
                    (int)(context.Integer("draftLength") ?? 4),
                    TensorStages.Reading(() => DecoderConfig.Load(folder)).EosTokenIds);
        }
        catch
        {
            target.Dispose();
            throw;
        }
    }

    private void Export(
        StageContext context, string draft, ICausalModel reference, string folder, ExportFormat format, WeightPrecision precision, TargetAndPrompts? pair, CancellationToken cancellationToken)
    {
        var (name, precisionName) = (ModelExport.NameOf(format), ModelExport.NameOf(precision));
        Directory.CreateDirectory(folder);
        ModelExport.Write(draft, folder, format, precision);
        ExportComparison comparison;
        try
        {
            comparison = ExportComparison.Measure(
                reference, folder, format, precision, (int)(context.Integer("numParityPrompts") ?? 4), context.Text("openVinoLibrary"),
                pair is null ? null : model => DeployedFigures.Measure(pair.Target, model, pair.Prompts, pair.DraftLength, pair.MaxNewTokens, pair.EosTokenIds, clock, cancellationToken));
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
            var metric = precision == WeightPrecision.F32 ? $"export_{name}" : $"export_{name}_{precisionName}";
            Metric($"{metric}_max_abs_logit_difference", result.MaxAbsLogitDifference);
            Metric($"{metric}_greedy_ids_equal", result.GreedyIdsEqual ? 1 : 0);
            if (comparison.Deployed is { } deployed)
            {
                Metric($"{metric}_acceptance_rate", deployed.AcceptanceRate);
                Metric($"{metric}_block_efficiency", deployed.BlockEfficiency);
                Metric($"{metric}_draft_seconds", deployed.DraftSeconds);
            }
        }

        if (comparison.Fault is { } fault)
        {
            throw new StageFailureException(FailureKind.Bug, $"The exported {name} model differs from the draft: {fault}.");
        }

        ExportCard.Write(folder, name, precisionName, draft, reference.NumParameters);

        void Metric(string metricName, double value)
        {
            if (double.IsFinite(value))
            {
                context.Events.Metric(metricName, value, 0);
            }
        }
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

    /// <summary>The target, and what it is to be decoded on.</summary>
    private sealed record TargetAndPrompts(ICausalModel Target, IReadOnlyList<PromptCase> Prompts, int MaxNewTokens, int DraftLength, IReadOnlyList<int> EosTokenIds) : IDisposable
    {
        public void Dispose() => Target.Dispose();
    }
}
