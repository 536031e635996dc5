using System.Runtime.InteropServices;
using FastDraft.Export.Gguf;
using FastDraft.Export.Onnx;
using FastDraft.Export.OpenVino;
using FastDraft.Modeling.Checkpoints;
using FastDraft.TestKit;

namespace FastDraft.Export.Tests;

/// <summary>Rotary positions that a format cannot hold are refused before anything is written, never written plainly.</summary>
public sealed class RotaryExportFacts : IDisposable
{
    private readonly string _folder = Path.Join(Directory.CreateTempSubdirectory("fastdraft-export").FullName, "out");

    public RotaryExportFacts() => Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);

    public void Dispose() => Directory.Delete(Path.GetDirectoryName(_folder)!, recursive: true);

    [Theory]
    [InlineData("llama3-ropescaling")]
    [InlineData("phi3")]
    public void Stretched_frequencies_and_fused_matrices_are_passed_on(string name)
    {
        var source = SharedAssets.Path("golden", "architectures", name);
        OnnxModelWriter.Write(source, _folder);
        using var model = OnnxCausalModel.Load(_folder);
        using var golden = SafetensorsFile.Open(Path.Join(source, "reference.safetensors"));
        var rows = golden.Tensors["input_ids"].Shape;
        var expected = new float[golden.Tensors["logits"].Shape.Aggregate(1L, (a, b) => a * b)];
        golden.ReadFloat32("logits", expected);
        var actual = new float[expected.Length];
        using var session = model.StartSession((int)rows[0]);
        session.Forward(MemoryMarshal.Cast<byte, int>(golden.Bytes("input_ids")), actual, (int)rows[1]);
        Assert.True(expected.Zip(actual, (e, a) => Math.Abs(e - a)).Max() <= 1e-3f);
    }

    [Theory]
    [InlineData("onnx")]
    [InlineData("openvino")]
    [InlineData("gguf")]
    public void Positions_that_turn_otherwise_in_a_long_text_are_refused(string format)
    {
        var error = Assert.Throws<ExportException>(() => Write(format, "phi3-longrope"));
        Assert.Contains("rotary positions", error.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder));
    }

    [Fact]
    public void A_gguf_of_stretched_frequencies_is_refused()
    {
        Assert.Contains("llama3", Assert.Throws<ExportException>(() => Write("gguf", "llama3-ropescaling")).Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder));
    }

    private void Write(string format, string name)
    {
        var source = SharedAssets.Path("golden", "architectures", name);
        switch (format)
        {
            case "onnx":
                OnnxModelWriter.Write(source, _folder);
                break;
            case "openvino":
                OpenVinoModelWriter.Write(source, _folder);
                break;
            default:
                GgufModelWriter.Write(source, _folder, WeightPrecision.F32);
                break;
        }
    }
}
