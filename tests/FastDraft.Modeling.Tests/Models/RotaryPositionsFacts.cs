using System.Text.Json.Nodes;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.Modeling.Tests.Checkpoints;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Models;

/// <summary>Rotary positions of published configurations, against the formulas of their papers; logits of whole models are in <see cref="DecoderFacts"/>.</summary>
public sealed class RotaryPositionsFacts : IDisposable
{
    private const string Llama31 = """
        {"architectures":["LlamaForCausalLM"],"attention_bias":false,"bos_token_id":128000,"eos_token_id":[128001,128008,128009],"hidden_act":"silu","hidden_size":4096,
         "intermediate_size":14336,"max_position_embeddings":131072,"mlp_bias":false,"model_type":"llama","num_attention_heads":32,"num_hidden_layers":32,
         "num_key_value_heads":8,"pretraining_tp":1,"rms_norm_eps":1e-05,"rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
         "original_max_position_embeddings":8192,"rope_type":"llama3"},"rope_theta":500000.0,"tie_word_embeddings":false,"vocab_size":128256}
        """;

    private const string Phi3Mini = """
        {"architectures":["Phi3ForCausalLM"],"attention_dropout":0.0,"auto_map":{"AutoConfig":"configuration_phi3.Phi3Config","AutoModelForCausalLM":"modeling_phi3.Phi3ForCausalLM"},
         "bos_token_id":1,"embd_pdrop":0.0,"eos_token_id":32000,"hidden_act":"silu","hidden_size":3072,"intermediate_size":8192,"max_position_embeddings":4096,"model_type":"phi3",
         "num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":32,"original_max_position_embeddings":4096,"rms_norm_eps":1e-05,"rope_scaling":null,
         "rope_theta":10000.0,"sliding_window":2047,"tie_word_embeddings":false,"attention_bias":false,"vocab_size":32064}
        """;

    private readonly ScratchFolder _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void Llama_3_1_stretches_long_wavelengths_eightfold_and_leaves_short_ones()
    {
        var config = Load(Llama31);
        var frequencies = RotaryPositions.Frequencies(config, isLong: false);
        Assert.Equal(64, frequencies.Length);
        for (var i = 0; i < 64; i++)
        {
            // Share of the plain frequency: 1 up to a wavelength of 2048 positions, 1/8 from 8192 on, and between them linear in turns per 8192 positions.
            var plain = Math.Pow(500000, -i / 64.0);
            var turns = 8192 * plain / (2 * Math.PI);
            var kept = Math.Clamp((turns - 1) / 3, 0, 1);
            Assert.Equal(plain * (kept + ((1 - kept) / 8)), frequencies[i], plain * 1e-6);
        }

        Assert.Equal(1f, frequencies[0]);
        Assert.InRange(frequencies.Count(f => f < 2 * Math.PI / 8192 / 8), 20, 40);
        Assert.Equal([128001, 128008, 128009], config.EosTokenIds);
    }

    [Fact]
    public void Phi_3_mini_is_read_up_to_its_sliding_window()
    {
        var config = Load(Phi3Mini);
        Assert.Equal((96, 2047, null, null), (config.HeadSize, config.MaxPositions, config.LongRope, config.RotarySize));
        Assert.Equal(3_821_079_552, config.NumParameters);
    }

    [Theory]
    [InlineData("longrope")]
    [InlineData("su")]
    public void Phi_3_mini_128k_has_a_divisor_for_each_frequency_and_a_magnitude(string type)
    {
        var json = JsonNode.Parse(Phi3Mini)!.AsObject();
        json["max_position_embeddings"] = 131072;
        json["sliding_window"] = 262144;
        json["rope_scaling"] = new JsonObject
        {
            ["type"] = type,
            ["short_factor"] = new JsonArray([.. Enumerable.Range(0, 48).Select(i => (JsonNode)(1 + (i / 100.0)))]),
            ["long_factor"] = new JsonArray([.. Enumerable.Range(0, 48).Select(i => (JsonNode)(1.0 + i))]),
        };
        var config = Load(json.ToJsonString());
        Assert.Equal(131072, config.MaxPositions);

        // sqrt(1 + ln(131072 / 4096) / ln 4096) = sqrt(1 + 5 / 12), the factor that serving systems state for this model.
        Assert.Equal(1.1902380714238083, config.LongRope!.Magnitude, 1e-12);
        Assert.False(RotaryPositions.IsLong(config, 4096));
        Assert.True(RotaryPositions.IsLong(config, 4097));
        Assert.Equal(Math.Pow(10000, -20 / 48.0) / 1.2, RotaryPositions.Frequencies(config, isLong: false)[20], 1e-8);
        Assert.Equal(Math.Pow(10000, -20 / 48.0) / 21, RotaryPositions.Frequencies(config, isLong: true)[20], 1e-8);
        json["rope_scaling"]!["long_factor"]!.AsArray().RemoveAt(0);
        Assert.Contains("long_factor", Assert.Throws<CheckpointException>(() => Load(json.ToJsonString())).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("rope_scaling", """{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0}""", "original_max_position_embeddings")]
    [InlineData("rope_scaling", """{"rope_type":"llama3","factor":8.0,"low_freq_factor":4.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}""", "high_freq_factor")]
    [InlineData("rope_scaling", """{"rope_type":"llama3","factor":0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}""", "factor")]
    [InlineData("auto_map", """{"AutoModelForCausalLM":"modeling_phi3.Phi3ForCausalLM"}""", "auto_map")]
    public void A_scaling_that_says_too_little_and_code_of_another_family_are_refused_by_name(string name, string value, string named)
    {
        var json = JsonNode.Parse(Llama31)!.AsObject();
        json[name] = JsonNode.Parse(value);
        Assert.Contains(named, Assert.Throws<CheckpointException>(() => Load(json.ToJsonString())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_saved_turns_as_before()
    {
        foreach (var scaled in new[] { Load(Llama31), Load(Llama31) with { Llama3Rope = null, LongRope = new LongRope([.. Enumerable.Repeat(1.5, 64)], [.. Enumerable.Repeat(2.5, 64)], 8192, 1.25) } })
        {
            scaled.Save(_scratch.Path);
            var read = DecoderConfig.Load(_scratch.Path);
            Assert.Equal(RotaryPositions.Frequencies(scaled, isLong: false), RotaryPositions.Frequencies(read, isLong: false));
            Assert.Equal(RotaryPositions.Frequencies(scaled, isLong: true), RotaryPositions.Frequencies(read, isLong: true));
            Assert.Equal((scaled.LongRope?.Magnitude, scaled.LongRope?.OriginalPositions), (read.LongRope?.Magnitude, read.LongRope?.OriginalPositions));
        }

        var partial = Load(Llama31) with { RotarySize = 64 };
        Assert.Contains("64 of 128", Assert.Throws<CheckpointException>(() => partial.Save(_scratch.Path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0.5)]
    [InlineData(0.75)]
    public void Where_a_part_of_each_head_turns_both_engines_agree_with_a_decoder_written_out(double factor)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        Libtorch.Load();
        var source = SharedAssets.Path("golden", "architectures", "phi3");
        var json = JsonNode.Parse(File.ReadAllText(Path.Join(source, "config.json")))!.AsObject();
        json["rope_parameters"]!["partial_rotary_factor"] = factor;
        File.WriteAllText(_scratch.File("config.json"), json.ToJsonString());
        File.Copy(Path.Join(source, "model.safetensors"), _scratch.File("model.safetensors"));
        int[] ids = [.. ArchitectureReference.Load("phi3").Ids.Take(30)];
        var expected = WrittenOut(ids, (int)(16 * factor));
        using var torch = new TorchCausalModel(Decoder.Load(_scratch.Path));
        using var cpu = CpuCausalModel.Load(_scratch.Path, 1);
        foreach (var model in new ICausalModel[] { torch, cpu })
        {
            using var session = model.StartSession();
            var actual = new float[ids.Length * model.VocabularySize];
            session.Forward(ids, actual, ids.Length);
            Assert.True(expected.Zip(actual, (e, a) => Math.Abs(e - a)).Max() <= 1e-4);
        }
    }

    /// <summary>Logits [T, V] of the small Phi-3 in float64, as its implementation says: the first elements of a head turn, half-split among themselves, the others pass.</summary>
    private double[] WrittenOut(int[] ids, int rotary)
    {
        const int Hidden = 64, Heads = 4, Size = 16, Inner = 128, Layers = 3;
        using var weights = SafetensorsFolder.Open(_scratch.Path);
        double[][] Matrix(string name)
        {
            var values = new float[weights.Tensors[name].Shape.Aggregate(1L, (a, b) => a * b)];
            weights.ReadFloat32(name, values);
            var columns = (int)weights.Tensors[name].Shape[^1];
            return [.. values.Chunk(columns).Select(row => Array.ConvertAll(row, v => (double)v))];
        }

        double[] Times(double[][] matrix, double[] x) => [.. matrix.Select(row => row.Zip(x, (a, b) => a * b).Sum())];
        double[] Norm(double[] x, string name)
        {
            var scale = 1 / Math.Sqrt(x.Sum(v => v * v / x.Length) + 1e-5);
            return [.. x.Zip(Matrix(name)[0], (v, w) => v * scale * w)];
        }

        double[] Turn(double[] head, int position)
        {
            var turned = (double[])head.Clone();
            for (var i = 0; i < rotary / 2; i++)
            {
                var angle = position * Math.Pow(10000, -2.0 * i / rotary);
                turned[i] = (head[i] * Math.Cos(angle)) - (head[i + (rotary / 2)] * Math.Sin(angle));
                turned[i + (rotary / 2)] = (head[i + (rotary / 2)] * Math.Cos(angle)) + (head[i] * Math.Sin(angle));
            }

            return turned;
        }

        var embedding = Matrix("model.embed_tokens.weight");
        double[][] x = [.. ids.Select(id => embedding[id])];
        for (var l = 0; l < Layers; l++)
        {
            var p = $"model.layers.{l}.";
            var (qkv, output, gateUp, down) = (Matrix(p + "self_attn.qkv_proj.weight"), Matrix(p + "self_attn.o_proj.weight"), Matrix(p + "mlp.gate_up_proj.weight"), Matrix(p + "mlp.down_proj.weight"));
            double[][] projected = [.. x.Select(v => Times(qkv, Norm(v, p + "input_layernorm.weight")))];
            double[] Head(int position, int part, int head) => projected[position][((part * Hidden) + (head * Size))..((part * Hidden) + ((head + 1) * Size))];
            double[][] mixed = [.. x.Select((_, t) => Enumerable.Range(0, Heads).SelectMany(h =>
            {
                var query = Turn(Head(t, 0, h), t);
                double[] law = [.. Enumerable.Range(0, t + 1).Select(s => Math.Exp(query.Zip(Turn(Head(s, 1, h), s), (a, b) => a * b).Sum() / Math.Sqrt(Size)))];
                return Enumerable.Range(0, Size).Select(i => Enumerable.Range(0, t + 1).Sum(s => law[s] * Head(s, 2, h)[i]) / law.Sum());
            }).ToArray())];
            x = [.. x.Select((v, t) => v.Zip(Times(output, mixed[t]), (a, b) => a + b).ToArray())];
            x = [.. x.Select(v =>
            {
                var both = Times(gateUp, Norm(v, p + "post_attention_layernorm.weight"));
                double[] gated = [.. Enumerable.Range(0, Inner).Select(i => both[i] / (1 + Math.Exp(-both[i])) * both[Inner + i])];
                return v.Zip(Times(down, gated), (a, b) => a + b).ToArray();
            })];
        }

        var head = Matrix("lm_head.weight");
        return [.. x.SelectMany(v => Times(head, Norm(v, "model.norm.weight")))];
    }

    private DecoderConfig Load(string json)
    {
        File.WriteAllText(_scratch.File("config.json"), json);
        return DecoderConfig.Load(_scratch.Path);
    }
}
