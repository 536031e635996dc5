using System.Text.Json.Nodes;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Tests.Checkpoints;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Models;

/// <summary>A configuration that the decoder cannot honour is refused by the name of what it cannot do, never passed over.</summary>
public sealed class DecoderConfigFacts : IDisposable
{
    private const string Good = """
        {"model_type":"llama","architectures":["LlamaForCausalLM"],"vocab_size":32,"hidden_size":8,"intermediate_size":16,"num_hidden_layers":1,
         "num_attention_heads":2,"num_key_value_heads":1,"attention_bias":false,"mlp_bias":false,"sliding_window":null,"hidden_act":"silu","pretraining_tp":1,
         "rope_parameters":{"rope_theta":10000.0,"rope_type":"default","partial_rotary_factor":1.0},"layer_types":["full_attention"],"use_cache":true}
        """;

    private readonly ScratchFolder _scratch = new();

    [Theory]
    [InlineData("attention_bias", "true")]
    [InlineData("mlp_bias", "true")]
    [InlineData("sliding_window", "4096")]
    [InlineData("use_sliding_window", "true")]
    [InlineData("use_qk_norm", "true")]
    [InlineData("partial_rotary_factor", "0.5")]
    [InlineData("attn_logit_softcapping", "50.0")]
    [InlineData("final_logit_softcapping", "30.0")]
    [InlineData("query_pre_attn_scalar", "16")]
    [InlineData("embedding_multiplier", "6.0")]
    [InlineData("residual_multiplier", "0.22")]
    [InlineData("logits_scaling", "4.0")]
    [InlineData("attention_multiplier", "0.06")]
    [InlineData("num_local_experts", "8")]
    [InlineData("hidden_act", "\"gelu\"")]
    [InlineData("hidden_activation", "\"gelu_pytorch_tanh\"")]
    [InlineData("layer_types", "[\"sliding_attention\"]")]
    [InlineData("no_rope_layers", "[1, 0]")]
    [InlineData("architectures", "[\"LlamaForSequenceClassification\"]")]
    [InlineData("quantization_config", "{\"quant_method\":\"gptq\"}")]
    [InlineData("auto_map", "{\"AutoModelForCausalLM\":\"modeling_evil.Model\"}")]
    [InlineData("rope_parameters", "{\"rope_type\":\"yarn\",\"factor\":8.0}")]
    [InlineData("rope_parameters", "{\"rope_type\":\"default\",\"partial_rotary_factor\":0.25}")]
    public void What_changes_the_model_is_refused_by_name(string name, string value)
    {
        var json = JsonNode.Parse(Good)!.AsObject();
        json[name] = JsonNode.Parse(value);
        var error = Assert.Throws<CheckpointException>(() => Load(json.ToJsonString()));
        Assert.True(error.Message.Contains(name, StringComparison.Ordinal) || error.Message.Contains("rope type is 'yarn'", StringComparison.Ordinal), error.Message);
    }

    [Fact]
    public void Neutral_values_of_the_same_members_are_read() => Assert.Equal(4, Load(Good).HeadSize);

    [Fact]
    public void Older_rope_scaling_is_refused_by_its_type()
    {
        var json = JsonNode.Parse(Good)!.AsObject();
        json.Remove("rope_parameters");
        json["rope_scaling"] = JsonNode.Parse("""{"type":"linear","factor":2.0}""");
        Assert.Contains("'linear'", Assert.Throws<CheckpointException>(() => Load(json.ToJsonString())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_reference_architecture_is_computed_or_refused()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        foreach (var folder in Directory.GetDirectories(SharedAssets.Path("golden", "architectures")))
        {
            var name = Path.GetFileName(folder);
            try
            {
                // A family that becomes supported shows that it is right in the logits facts, not here.
                Decoder.Load(folder).Dispose();
                Assert.True(DecoderFacts.IsCompared(name), $"{name} loads, but its logits are compared nowhere");
            }
            catch (CheckpointException e)
            {
                Assert.Contains("config.json", e.Message, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void A_weight_that_the_decoder_has_no_use_for_is_refused_by_name()
    {
        var config = Load(Good);
        var tensors = config.Tensors().Append(("model.layers.0.self_attn.q_proj.bias", [8]))
            .Select(t => new SafetensorsTensor(t.Item1, "F32", t.Item2, new byte[4 * t.Item2.Aggregate(1L, (a, b) => a * b)])).ToList();
        SafetensorsWriter.Write(_scratch.File("model.safetensors"), tensors);
        Assert.Contains("q_proj.bias", Assert.Throws<CheckpointException>(() => Decoder.Load(_scratch.Path)).Message, StringComparison.Ordinal);
        Assert.Contains("q_proj.bias", Assert.Throws<CheckpointException>(() => FastDraft.Modeling.Cpu.CpuCausalModel.Load(_scratch.Path)).Message, StringComparison.Ordinal);
    }

    public void Dispose() => _scratch.Dispose();

    private DecoderConfig Load(string json)
    {
        File.WriteAllText(_scratch.File("config.json"), json);
        return DecoderConfig.Load(_scratch.Path);
    }
}
