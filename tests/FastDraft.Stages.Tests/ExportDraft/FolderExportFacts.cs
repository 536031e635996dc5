using FastDraft.Export;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Stages.ExportDraft;
using FastDraft.TestKit;

namespace FastDraft.Stages.Tests.ExportDraft;

/// <summary>An export that cannot be leaves what was there before, and nothing of its own.</summary>
public sealed class FolderExportFacts : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fastdraft-folder-export").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Destination => Path.Combine(_folder, "out");

    [Fact]
    public void A_whole_export_takes_the_place_of_an_earlier_one()
    {
        Write(Stories260K, ExportFormat.Gguf, WeightPrecision.F32);
        Write(Stories260K, ExportFormat.Onnx, WeightPrecision.Int8);
        Assert.True(File.Exists(Path.Combine(Destination, "model.onnx")));
        Assert.False(File.Exists(Path.Combine(Destination, "model.gguf")));
        Assert.Equal(["out"], Directory.EnumerateFileSystemEntries(_folder).Select(Path.GetFileName));
    }

    [Fact]
    public void A_failed_export_leaves_the_earlier_one_whole()
    {
        Write(Stories260K, ExportFormat.Gguf, WeightPrecision.F32);
        var before = File.ReadAllBytes(Path.Combine(Destination, "model.gguf"));

        // All is well with it until the last weight is read.
        var model = Model("config.json", "tokenizer.json", "model.safetensors");
        using (var file = File.OpenWrite(Path.Combine(model, "model.safetensors")))
        {
            file.SetLength(file.Length - 1000);
        }

        var failure = Assert.Throws<CheckpointException>(() => Write(model, ExportFormat.OpenVino, WeightPrecision.F32));
        Assert.Contains("model.safetensors", failure.Message, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(Path.Combine(Destination, "model.gguf")));
        Assert.False(Directory.Exists(Destination + ".partial"));
    }

    [Fact]
    public void A_folder_that_is_no_model()
    {
        var empty = Directory.CreateDirectory(Path.Combine(_folder, "empty")).FullName;
        var failure = Assert.Throws<CheckpointException>(() => Write(empty, ExportFormat.OpenVino, WeightPrecision.F32));
        Assert.Contains(empty, failure.Message, StringComparison.Ordinal);
        NothingWritten();
    }

    [Fact]
    public void A_disk_that_is_too_small_is_known_before_a_byte_is_written()
    {
        var model = Model("config.json");
        var config = Path.Combine(model, "config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace("\"intermediate_size\": 172", "\"intermediate_size\": 2000000000", StringComparison.Ordinal)
            .Replace("\"num_hidden_layers\": 5", "\"num_hidden_layers\": 5000", StringComparison.Ordinal));
        var failure = Assert.Throws<ExportException>(() => Write(model, ExportFormat.Onnx, WeightPrecision.F32));
        Assert.Contains("MB free", failure.Message, StringComparison.Ordinal);
        Assert.Contains("smaller --precision", failure.Hint, StringComparison.Ordinal);
        NothingWritten();
    }

    [Fact]
    public void A_folder_of_something_else_is_not_overwritten()
    {
        Directory.CreateDirectory(Destination);
        File.WriteAllText(Path.Combine(Destination, "letter.txt"), "mine");
        Assert.Throws<ExportException>(() => Write(Stories260K, ExportFormat.Gguf, WeightPrecision.F32));
        Assert.Equal(["letter.txt"], Directory.EnumerateFileSystemEntries(Destination).Select(Path.GetFileName));
    }

    private static string Stories260K
    {
        get
        {
            Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
            return SharedAssets.Path("data", "stories260K");
        }
    }

    private void Write(string model, ExportFormat format, WeightPrecision precision) => FolderExport.Write(model, Destination, format, precision, compare: false, CancellationToken.None);

    private void NothingWritten()
    {
        Assert.False(Directory.Exists(Destination));
        Assert.False(Directory.Exists(Destination + ".partial"));
    }

    private string Model(params string[] files)
    {
        var folder = Directory.CreateDirectory(Path.Combine(_folder, "model")).FullName;
        foreach (var file in files)
        {
            // The assets are read-only, and a copy would be, too.
            File.WriteAllBytes(Path.Combine(folder, file), File.ReadAllBytes(Path.Combine(Stories260K, file)));
        }

        return folder;
    }
}
