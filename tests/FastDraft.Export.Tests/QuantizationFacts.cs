using FastDraft.Export.Onnx;
using FastDraft.Export.OpenVino;
using FastDraft.Modeling.Cpu;

namespace FastDraft.Export.Tests;

/// <summary>What a precision costs, on the 27.8M reference target: bytes a weight, and how often the greedy path of float32 is kept.</summary>
public sealed class QuantizationFacts : IDisposable
{
    private const int NumPrompts = 4;

    private readonly string _folder = Directory.CreateTempSubdirectory("fastdraft-quantization").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("onnx", "f32", 4.0, 1.0)]
    [InlineData("onnx", "int8", 1.16, 0.97)]
    [InlineData("onnx", "int4", 0.67, 0.8)]
    [InlineData("openvino", "f32", 4.0, 1.0)]
    [InlineData("openvino", "f16", 2.0, 0.99)]
    [InlineData("openvino", "int8", 1.01, 0.97)]
    [InlineData("openvino", "int4", 0.61, 0.8)]
    public void Size_and_agreement(string formatName, string precisionName, double bytesPerWeight, double agreement)
    {
        var format = ModelExport.Format(formatName);
        ModelExport.Write(Exported.Target28M, _folder, format, ModelExport.Precision(format, precisionName));
        using var reference = CpuCausalModel.Load(Exported.Target28M);
        using var model = Exported.Load(_folder, format);

        // Each suite has prompts of its own kind.
        var goldens = Exported.GreedyGoldens("golden", "target-28m", "greedy.jsonl");
        var prompts = Enumerable.Range(0, NumPrompts).Select(i => goldens[i * goldens.Count / NumPrompts].Prompt).ToList();
        var parity = Parity.Measure(reference, model, prompts, numGreedyTokens: 64);

        var bytes = new FileInfo(Path.Combine(_folder, format == ExportFormat.Onnx ? OnnxModelWriter.ModelName : OpenVinoModelWriter.WeightsName)).Length;
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"{formatName} {precisionName}: {bytes / 1e6:F1} MB, {parity.GreedyAgreement:P1} identical greedy ids, max |logit difference| {parity.MaxAbsLogitDifference:G3}");

        // The graph and its constants are what may come on top.
        Assert.InRange(bytes, 0, (bytesPerWeight * reference.NumParameters) + 200_000);
        Assert.InRange(parity.GreedyAgreement, agreement, 1);
        Assert.InRange(parity.MaxAbsLogitDifference, 0, precisionName == "f32" ? 1e-3 : double.MaxValue);
    }
}
