using FastDraft.Export.Gguf;
using FastDraft.Export.Onnx;
using FastDraft.Export.OpenVino;

namespace FastDraft.Export;

/// <summary>A kind of deployable folder.</summary>
public enum ExportFormat
{
    OpenVino,
    Onnx,
    Gguf,
}

/// <summary>The formats and precisions that a model folder can be written in: the explicit list, and the way from a name to a writer.</summary>
public static class ModelExport
{
    private static readonly Dictionary<ExportFormat, WeightPrecision[]> Supported = new()
    {
        [ExportFormat.OpenVino] = [WeightPrecision.F32, WeightPrecision.F16, WeightPrecision.Int8, WeightPrecision.Int4],
        [ExportFormat.Onnx] = [WeightPrecision.F32, WeightPrecision.Int8, WeightPrecision.Int4],
        [ExportFormat.Gguf] = [WeightPrecision.F32, WeightPrecision.F16, WeightPrecision.BF16, WeightPrecision.Q8_0],
    };

    public static IReadOnlyList<WeightPrecision> Precisions(ExportFormat format) => Supported[format];

    /// <exception cref="ExportException">No format has this name.</exception>
    public static ExportFormat Format(string name) => Enum.GetValues<ExportFormat>().Cast<ExportFormat?>().FirstOrDefault(f => NameOf(f!.Value) == name)
        ?? throw new ExportException($"'{name}' is no export format.", string.Join(", ", Enum.GetValues<ExportFormat>().Select(NameOf)));

    /// <exception cref="ExportException">The format has no such precision.</exception>
    public static WeightPrecision Precision(ExportFormat format, string name) => Supported[format].Cast<WeightPrecision?>().FirstOrDefault(p => NameOf(p!.Value) == name)
        ?? throw new ExportException($"'{name}' is no precision of {NameOf(format)}.", string.Join(", ", Supported[format].Select(NameOf)));

#pragma warning disable CA1308 // The names are lower case for people, not for comparison.
    public static string NameOf(ExportFormat format) => format.ToString().ToLowerInvariant();

    public static string NameOf(WeightPrecision precision) => precision.ToString().ToLowerInvariant();
#pragma warning restore CA1308

    /// <summary>Writes the files of the format into a folder that is the caller's own; a failure leaves a part of them there.</summary>
    /// <exception cref="Modeling.Checkpoints.CheckpointException">The source is no model folder that can be read.</exception>
    /// <exception cref="Modeling.Tokenization.TokenizerException">Its tokenizer cannot be read.</exception>
    /// <exception cref="ExportException">The format cannot hold this model or tokenizer.</exception>
    public static void Write(string modelFolder, string outputFolder, ExportFormat format, WeightPrecision precision)
    {
        if (!Supported[format].Contains(precision))
        {
            throw new ArgumentOutOfRangeException(nameof(precision), precision, $"Not a precision of {format}.");
        }

        switch (format)
        {
            case ExportFormat.OpenVino:
                OpenVinoModelWriter.Write(modelFolder, outputFolder, precision);
                break;
            case ExportFormat.Onnx:
                OnnxModelWriter.Write(modelFolder, outputFolder, precision);
                break;
            default:
                GgufModelWriter.Write(modelFolder, outputFolder, precision);
                break;
        }

        new ExportManifest(format, precision).Save(outputFolder);
    }
}
