using FastDraft.Export.Onnx;
using FastDraft.Export.OpenVino;
using FastDraft.Modeling.Checkpoints;

namespace FastDraft.Export.Tests;

/// <summary>A folder that cannot be run is one message that names it, whatever is wrong with it.</summary>
public sealed class DamagedExportFacts : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fastdraft-damaged").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(OpenVinoModelWriter.ModelName)]
    [InlineData(OpenVinoModelWriter.WeightsName)]
    public void A_truncated_IR(string file)
    {
        Assert.SkipWhen(OpenVinoInstallation.Runtime is null, OpenVinoInstallation.Missing);
        ModelExport.Write(Exported.Stories260K, _folder, ExportFormat.OpenVino, WeightPrecision.Int8);
        Truncate(file);
        Named(Assert.Throws<OpenVinoException>(() => OpenVinoCausalModel.Load(OpenVinoInstallation.Runtime!, _folder)));
    }

    [Theory]
    [InlineData(OnnxModelWriter.ModelName)]
    [InlineData(OnnxModelWriter.DataName)]
    public void A_truncated_ONNX_model(string file)
    {
        OnnxModelWriter.Write(Exported.Stories260K, _folder, WeightPrecision.Int8, externalBytes: 0);
        Truncate(file);
        Named(Assert.Throws<ExportException>(() => OnnxCausalModel.Load(_folder)));
    }

    [Fact]
    public void A_folder_that_is_no_export()
    {
        Named(Assert.Throws<CheckpointException>(() => OnnxCausalModel.Load(_folder)));
        Assert.SkipWhen(OpenVinoInstallation.Runtime is null, OpenVinoInstallation.Missing);
        Named(Assert.Throws<CheckpointException>(() => OpenVinoCausalModel.Load(OpenVinoInstallation.Runtime!, _folder)));
    }

    [Fact]
    public void A_library_that_is_not_OpenVINOs()
    {
        var text = Path.Combine(_folder, "libopenvino_c.so");
        File.WriteAllText(text, "not a library");
        Named(Assert.Throws<OpenVinoException>(() => OpenVinoRuntime.Load(text)));

        // One that loads, and is another's.
        var other = Assert.Throws<OpenVinoException>(() => OpenVinoRuntime.Load("libm.so.6"));
        Assert.Contains("ov_get_openvino_version", other.Message, StringComparison.Ordinal);
        Assert.Contains(OpenVinoRuntime.EnvironmentVariable, other.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_runtime_of_a_version_before_exported_models()
    {
        var failure = Assert.Throws<OpenVinoException>(() => OpenVinoRuntime.RequireVersion("2022.3.1-9227-cf2c7da5689", "/old/libopenvino_c.so"));
        Assert.Contains("/old/libopenvino_c.so", failure.Message, StringComparison.Ordinal);
        Assert.Contains("2024.0", failure.Message, StringComparison.Ordinal);
        OpenVinoRuntime.RequireVersion("2026.4.1-22982-abc", "new");
        OpenVinoRuntime.RequireVersion("custom_master_1234", "own");
    }

    [Fact]
    public void The_tokenizer_of_another_model()
    {
        var model = Path.Combine(_folder, "model");
        Directory.CreateDirectory(model);
        foreach (var name in new[] { "config.json", "model.safetensors" })
        {
            File.Copy(Path.Combine(Exported.Stories260K, name), Path.Combine(model, name));
        }

        File.Copy(Path.Combine(Exported.Target28M, "tokenizer.json"), Path.Combine(model, "tokenizer.json"));
        foreach (var format in new[] { ExportFormat.OpenVino, ExportFormat.Gguf })
        {
            var failure = Assert.Throws<ExportException>(() => ModelExport.Write(model, Path.Combine(_folder, "out"), format, WeightPrecision.F32));
            Assert.Contains("vocabulary of 512", failure.Message, StringComparison.Ordinal);
            Assert.NotNull(failure.Hint);
        }
    }

    private void Named(Exception failure)
    {
        Assert.Contains(_folder, failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', failure.Message);
    }

    private void Truncate(string file)
    {
        using var stream = File.OpenWrite(Path.Combine(_folder, file));
        stream.SetLength(stream.Length / 2);
    }
}
