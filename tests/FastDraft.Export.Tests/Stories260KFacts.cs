using FastDraft.Export.Onnx;
using FastDraft.Export.OpenVino;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.TestKit;

namespace FastDraft.Export.Tests;

public sealed class Stories260KFacts : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fastdraft-export").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("onnx")]
    [InlineData("onnx-external")]
    [InlineData("openvino")]
    public void Logits_are_the_golden_ones(string engine)
    {
        using var model = Export(engine);
        using var golden = GoldenLogits();
        var ids = Read(golden, "input_ids").Select(f => (int)f).ToArray();
        var expected = Read(golden, "logits_f64_rounded");
        var actual = new float[expected.Length];
        using var session = model.StartSession();
        session.Forward(ids, actual, ids.Length);
        AssertClose(expected, actual, 1e-3);
    }

    [Theory]
    [InlineData("onnx")]
    [InlineData("openvino")]
    public void Greedy_ids_are_the_golden_ones(string engine)
    {
        using var model = Export(engine);
        var goldens = Exported.GreedyGoldens("data", "golden", "stories260K_prompts_greedy.jsonl");
        Assert.Equal(20, goldens.Count);
        foreach (var (prompt, greedy) in goldens)
        {
            Assert.Equal(greedy, Exported.Greedy(model, prompt, greedy.Length));
        }
    }

    [Theory]
    [InlineData("onnx")]
    [InlineData("openvino")]
    [InlineData("onnx-int8")]
    [InlineData("onnx-int4")]
    [InlineData("openvino-f16")]
    [InlineData("openvino-int8")]
    [InlineData("openvino-int4")]
    public void A_decode_after_rollbacks_equals_a_clean_one(string engine)
    {
        using var model = Export(engine);
        int[] ids = [1, 403, 407, 261, 378, 432, 383, 286];
        var v = model.VocabularySize;
        var expected = new float[ids.Length * v];
        using var clean = model.StartSession();
        clean.Forward(ids, expected, ids.Length);

        using var session = model.StartSession();
        session.Forward([1, 403, 500, 17, 99], [], 0);
        session.Rollback(3);
        session.Rollback(2);
        var actual = new float[6 * v];
        session.Forward([407, 261, 11], actual, 0);
        session.Rollback(4);
        session.Forward(ids.AsSpan(4), actual, 4);
        Assert.Equal(ids.Length, session.Length);
        AssertClose(expected.AsSpan(4 * v), actual.AsSpan(0, 4 * v), 1e-4);

        session.Rollback(0);
        session.Forward(ids.AsSpan(0, 6), actual, 6);
        AssertClose(expected.AsSpan(0, 6 * v), actual, 1e-4);
    }

    [Theory]
    [InlineData("onnx")]
    [InlineData("openvino")]
    [InlineData("onnx-int8")]
    [InlineData("onnx-int4")]
    [InlineData("openvino-f16")]
    [InlineData("openvino-int8")]
    [InlineData("openvino-int4")]
    public void Sequences_of_a_batch_do_not_see_each_other(string engine)
    {
        using var model = Export(engine);
        var v = model.VocabularySize;
        int[][] rows = [[1, 403, 407], [1, 261, 378]];
        var together = new float[2 * v];
        using (var session = model.StartSession(batch: 2))
        {
            session.Forward([.. rows[0][..2], .. rows[1][..2]], together, 1);
            session.Forward([rows[0][2], rows[1][2]], together, 1);
        }

        for (var i = 0; i < rows.Length; i++)
        {
            var alone = new float[v];
            using var session = model.StartSession();
            session.Forward(rows[i], alone, 1);
            AssertClose(alone, together.AsSpan(i * v, v), 1e-4);
        }
    }

    [Theory]
    [InlineData("onnx")]
    [InlineData("openvino")]
    public void Tokens_beyond_the_capacity_or_the_vocabulary_are_refused(string engine)
    {
        using var model = Export(engine);
        using var session = model.StartSession(capacity: 2);
        Assert.Throws<ArgumentException>(() => session.Forward([1, 2, 3], [], 0));
        Assert.Throws<ArgumentException>(() => session.Forward([512], [], 0));
        Assert.Equal(0, session.Length);
    }

    [Fact]
    public void Both_engines_pass_parity_against_each_other()
    {
        using var onnx = Export("onnx");
        using var openVino = Export("openvino");
        var result = Parity.Measure(onnx, openVino, [[1, 403, 407], [1, 9, 88, 301]]);
        Assert.True(result.GreedyIdsEqual);
        Assert.InRange(result.MaxAbsLogitDifference, 0, 1e-3);
    }

    [Fact]
    public void A_folder_whose_config_contradicts_its_weights_is_refused()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        File.Copy(SharedAssets.Path("data", "stories260K", "model.safetensors"), Path.Combine(_folder, "model.safetensors"));
        var config = File.ReadAllText(SharedAssets.Path("data", "stories260K", "config.json"));
        File.WriteAllText(Path.Combine(_folder, "config.json"), config.Replace("\"intermediate_size\": 172", "\"intermediate_size\": 176", StringComparison.Ordinal));
        var output = Path.Combine(_folder, "out");
        Assert.Throws<CheckpointException>(() => OnnxModelWriter.Write(_folder, output));
        Assert.Throws<CheckpointException>(() => OpenVinoModelWriter.Write(_folder, output));
        Assert.Throws<CheckpointException>(() => OnnxModelWriter.Write(Path.Combine(_folder, "absent"), output));
    }

    private static float[] Read(SafetensorsFolder golden, string name)
    {
        var values = new float[golden.Tensors[name].Shape.Aggregate(1L, (a, b) => a * b)];
        golden.ReadFloat32(name, values);
        return values;
    }

    private static void AssertClose(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, double tolerance)
    {
        Assert.Equal(expected.Length, Math.Min(expected.Length, actual.Length));
        var worst = 0.0;
        for (var i = 0; i < expected.Length; i++)
        {
            worst = Math.Max(worst, Math.Abs(expected[i] - actual[i]));
        }

        Assert.True(worst <= tolerance, $"max |d| = {worst}");
    }

    private SafetensorsFolder GoldenLogits()
    {
        var folder = Directory.CreateDirectory(Path.Combine(_folder, "golden")).FullName;
        File.Copy(SharedAssets.Path("data", "golden", "stories260K_logits.safetensors"), Path.Combine(folder, "model.safetensors"));
        return SafetensorsFolder.Open(folder);
    }

    // "onnx", "openvino-int8", ... ; "onnx-external": weights beside the graph.
    private ICausalModel Export(string engine)
    {
        var output = Path.Combine(_folder, engine);
        if (engine == "onnx-external")
        {
            OnnxModelWriter.Write(Exported.Stories260K, output, externalBytes: 0);
            return Exported.Load(output, ExportFormat.Onnx);
        }

        var parts = engine.Split('-');
        var format = ModelExport.Format(parts[0]);
        ModelExport.Write(Exported.Stories260K, output, format, ModelExport.Precision(format, parts.Length > 1 ? parts[1] : "f32"));
        return Exported.Load(output, format);
    }
}
