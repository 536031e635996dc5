using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Export;
using FastDraft.Export.Onnx;
using FastDraft.Export.OpenVino;
using FastDraft.Modeling.Models;

namespace FastDraft.Stages.ExportDraft;

/// <summary>
/// parity.json of an exported folder: how far its engine is from the model it was made of, in float32. An engine that is not here, or
/// that this process has no binding of, is a reason and not a figure. Beside it, where there is a target, what the written model was worth as its draft.
/// </summary>
public sealed record ExportComparison(string Engine, string? Version, string Precision, ParityResult? Result, string? Reason)
{
    public const string FileName = "parity.json";

    /// <summary>The largest difference of a logit that passes as float32 noise.</summary>
    public const double MaxAbsLogitDifference = 1e-3;

    /// <summary>What the written model was worth as a draft; null where it was not measured.</summary>
    public DeployedFigures? Deployed { get; init; }

    private const int NumGreedyTokens = 32;
    private const int MaxPromptTokens = 24;

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    /// <summary>Whether weights of this precision are the model's own, so that only noise may lie between.</summary>
    private bool IsExact => Precision == ModelExport.NameOf(WeightPrecision.F32);

    /// <summary>Loads the folder in its engine and decodes some prompts with it and with the reference.</summary>
    /// <param name="deployed">Measures the written model further, as it was loaded.</param>
    /// <param name="openVinoLibrary">Where OpenVINO's C library is; null: where it is usually found.</param>
    /// <exception cref="ExportException">The engine refuses the folder.</exception>
    public static ExportComparison Measure(
        ICausalModel reference, string folder, ExportFormat format, WeightPrecision precision, int numPrompts, string? openVinoLibrary = null,
        Func<ICausalModel, DeployedFigures>? deployed = null)
    {
        var name = ModelExport.NameOf(precision);
        if (format == ExportFormat.Gguf)
        {
            return new("llama.cpp", null, name, null, "llama.cpp is not bound by this program");
        }

        var (engine, version) = (ModelExport.NameOf(format), (string?)null);
        try
        {
            ICausalModel model;
            if (format == ExportFormat.Onnx)
            {
                (engine, version) = ("onnxruntime", OnnxCausalModel.RuntimeVersion);
                model = OnnxCausalModel.Load(folder);
            }
            else
            {
                OpenVinoRuntime runtime;
                try
                {
                    if (OpenVinoRuntime.Find(openVinoLibrary) is not { } path)
                    {
                        return new(engine, null, name, null, $"no OpenVINO runtime was found; set openVinoLibrary or {OpenVinoRuntime.EnvironmentVariable} to its libopenvino_c.so");
                    }

                    runtime = OpenVinoRuntime.Load(path);
                }
                catch (OpenVinoException e)
                {
                    return new(engine, null, name, null, e.Message);
                }

                version = runtime.Version;
                model = OpenVinoCausalModel.Load(runtime, folder);
            }

            using (model)
            {
                var parity = Parity.Measure(reference, model, Prompts(reference, numPrompts), GreedyTokens(reference));
                return new(engine, version, name, parity, null) { Deployed = deployed?.Invoke(model) };
            }
        }
        catch (Exception e) when (e is OpenVinoException or Microsoft.ML.OnnxRuntime.OnnxRuntimeException)
        {
            throw new ExportException($"The exported folder is refused by {engine} {version}: {e.Message}", "another version of the runtime", e);
        }
    }

    /// <summary>What is wrong with the export, where something is.</summary>
    public string? Fault => Result is not { } r ? null
        : !double.IsFinite(r.MaxAbsLogitDifference) ? "its logits are not numbers"
        : IsExact && (r.MaxAbsLogitDifference > MaxAbsLogitDifference || !r.GreedyIdsEqual)
            ? $"max |logit difference| {r.MaxAbsLogitDifference:G3} (allowed {MaxAbsLogitDifference:G1}), greedy ids {(r.GreedyIdsEqual ? "equal" : "different")}"
        : null;

    public void Save(string folder)
    {
        var parity = new JsonObject
        {
            ["engine"] = Engine,
            ["version"] = Version,
            ["precision"] = Precision,
            ["maxAbsLogitDifference"] = Result is { } r && double.IsFinite(r.MaxAbsLogitDifference) ? r.MaxAbsLogitDifference : null,
            ["greedyIdsEqual"] = Result?.GreedyIdsEqual,
            ["greedyAgreement"] = Result?.GreedyAgreement,
            ["numPrompts"] = Result?.NumPrompts ?? 0,
            ["ran"] = Result is not null,
            ["reason"] = Reason,
        };
        if (Deployed is { } d)
        {
            parity["acceptanceRate"] = double.IsFinite(d.AcceptanceRate) ? d.AcceptanceRate : null;
            parity["blockEfficiency"] = double.IsFinite(d.BlockEfficiency) ? d.BlockEfficiency : null;
            parity["draftSeconds"] = d.DraftSeconds;
            parity["draftLength"] = d.DraftLength;
            parity["numAcceptancePrompts"] = d.NumPrompts;
        }

        File.WriteAllText(Path.Combine(folder, FileName), parity.ToJsonString(Indented) + "\n");
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
}
