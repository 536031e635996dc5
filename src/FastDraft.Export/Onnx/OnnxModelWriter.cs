namespace FastDraft.Export.Onnx;

/// <summary>
/// Writes a decoder of the Llama family as ONNX (opset 17; plain operators in float32, those of ONNX Runtime for quantized weights) with its key-value cache as inputs and outputs: b sequences,
/// s new positions, p past ones, H heads, K key-value heads, D head size, V vocabulary. Inputs <c>input_ids [b,s]</c>,
/// <c>attention_mask [b,p+s]</c>, <c>position_ids [b,s]</c> (int64), <c>past_key_values.i.key|value [b,K,p,D]</c> (float32); outputs
/// <c>logits [b,s,V]</c>, <c>present.i.key|value [b,K,p+s,D]</c>.
/// </summary>
public static class OnnxModelWriter
{
    public const string ModelName = "model.onnx";
    public const string DataName = "model.onnx.data";

    /// <summary>
    /// Models of this many bytes keep their weights in <see cref="DataName"/>: they are streamed there, while the graph is one protobuf message,
    /// which is built in memory and cannot pass 2 GB.
    /// </summary>
    public const long DefaultExternalBytes = 256 << 20;

    /// <summary>
    /// Writes model.onnx (and model.onnx.data), genai_config.json and the config and tokenizer files into <paramref name="outputFolder"/>.
    /// </summary>
    /// <exception cref="FastDraft.Modeling.Checkpoints.CheckpointException">The source folder is not a checkpoint of the family.</exception>
    public static void Write(string modelFolder, string outputFolder, WeightPrecision precision = WeightPrecision.F32, long externalBytes = DefaultExternalBytes)
    {
        using var checkpoint = LlamaCheckpoint.Open(modelFolder);
        Directory.CreateDirectory(outputFolder);
        using var data = OnnxWeights.Bytes(checkpoint, precision) >= externalBytes ? File.Create(Path.Combine(outputFolder, DataName)) : null;
        using var graph = new OnnxGraph(data is null ? null : DataName, data);
        new DecoderGraph(graph, checkpoint, new OnnxWeights(graph, checkpoint, precision)).Build();
        using (var output = File.Create(Path.Combine(outputFolder, ModelName)))
        {
            graph.WriteTo(output, "FastDraft", typeof(OnnxModelWriter).Assembly.GetName().Version!.ToString(3));
        }

        GenAiConfig.Write(checkpoint.Config, outputFolder);
        checkpoint.CopyCompanionFiles(outputFolder);
    }

    private sealed class DecoderGraph(OnnxGraph graph, LlamaCheckpoint checkpoint, OnnxWeights weights)
    {
        private readonly int _vocabulary = checkpoint.Config.VocabularySize;
        private readonly int _hidden = checkpoint.Config.HiddenSize;
        private readonly int _heads = checkpoint.Config.NumHeads;
        private readonly int _keyValueHeads = checkpoint.Config.NumKeyValueHeads;
        private readonly int _headSize = checkpoint.Config.HeadSize;
        private readonly int _intermediate = checkpoint.Config.IntermediateSize;

        public void Build()
        {
            var ids = graph.Input("input_ids", OnnxGraph.Int64, "batch", "sequence");
            var attention = graph.Input("attention_mask", OnnxGraph.Int64, "batch", "total");
            var positions = graph.Input("position_ids", OnnxGraph.Int64, "batch", "sequence");
            var x = weights.Embedding(ids);
            var (cos, sin) = Rotary(positions);
            var mask = Mask(ids, attention);
            for (var i = 0; i < checkpoint.Config.NumLayers; i++)
            {
                var prefix = $"model.layers.{i}.";
                x = graph.Node("Add", [x, Attention(i, Norm(x, prefix + "input_layernorm.weight"), cos, sin, mask)]);
                x = graph.Node("Add", [x, FeedForward(prefix + "mlp.", Norm(x, prefix + "post_attention_layernorm.weight"))]);
            }

            x = Norm(x, "model.norm.weight");
            weights.Head(x, "logits");
            graph.Output("logits", OnnxGraph.Float, "batch", "sequence", _vocabulary);
            for (var i = 0; i < checkpoint.Config.NumLayers; i++)
            {
                graph.Output($"present.{i}.key", OnnxGraph.Float, "batch", _keyValueHeads, "total", _headSize);
                graph.Output($"present.{i}.value", OnnxGraph.Float, "batch", _keyValueHeads, "total", _headSize);
            }
        }

        private (string Cos, string Sin) Rotary(string positions)
        {
            var frequencies = graph.Floats("rotary.inverse_frequencies", checkpoint.InverseFrequencies(), 1, 1, _headSize / 2);
            var float_BS1 = graph.Node("Cast", [graph.Node("Unsqueeze", [positions, graph.Vector(2)])], ("to", (long)OnnxGraph.Float));
            var half = graph.Node("Mul", [float_BS1, frequencies]);
            var angles = graph.Node("Concat", [half, half], ("axis", -1L));
            return (graph.Node("Unsqueeze", [graph.Node("Cos", [angles]), graph.Vector(1)]),
                graph.Node("Unsqueeze", [graph.Node("Sin", [angles]), graph.Vector(1)]));
        }

        // Additive [b,1,s,p+s]: a key is seen by index order and where attention_mask is not 0.
        private string Mask(string ids, string attention)
        {
            var queries = Length(ids);
            var keys = Length(attention);
            var zero = graph.Scalar(0L);
            var one = graph.Scalar(1L);
            var keyIndex = graph.Node("Range", [zero, keys, one]);
            var queryIndex = graph.Node("Add", [graph.Node("Range", [zero, queries, one]), graph.Node("Sub", [keys, queries])]);
            var causal = graph.Node("LessOrEqual", [graph.Node("Unsqueeze", [keyIndex, graph.Vector(0)]), graph.Node("Unsqueeze", [queryIndex, graph.Vector(1)])]);
            var visible = graph.Node("Unsqueeze", [graph.Node("Cast", [attention], ("to", (long)OnnxGraph.Bool)), graph.Vector(1, 2)]);
            return graph.Node("Where", [graph.Node("And", [causal, visible]), graph.Scalar(0f), graph.Scalar(-65504f)]);
        }

        private string Length(string ids) => graph.Node("Gather", [graph.Node("Shape", [ids]), graph.Scalar(1L)], ("axis", 0L));

        private string Attention(int layer, string h, string cos, string sin, string mask)
        {
            var prefix = $"model.layers.{layer}.self_attn.";
            var query = Rotate(Split(weights.Linear(h, prefix + "q_proj.weight", _heads * _headSize, _hidden), _heads), cos, sin);
            var key = Rotate(Split(weights.Linear(h, prefix + "k_proj.weight", _keyValueHeads * _headSize, _hidden), _keyValueHeads), cos, sin);
            var value = Split(weights.Linear(h, prefix + "v_proj.weight", _keyValueHeads * _headSize, _hidden), _keyValueHeads);
            key = Grouped(Cache(layer, "key", key));
            value = Grouped(Cache(layer, "value", value));
            var scores = graph.Node("MatMul", [query, graph.Node("Transpose", [key], ("perm", new long[] { 0, 1, 3, 2 }))]);
            scores = graph.Node("Mul", [scores, graph.Scalar((float)(1 / Math.Sqrt(_headSize)))]);
            var attended = graph.Node("Softmax", [graph.Node("Add", [scores, mask])], ("axis", -1L));
            var mixed = graph.Node("Transpose", [graph.Node("MatMul", [attended, value])], ("perm", new long[] { 0, 2, 1, 3 }));
            var joined = graph.Node("Reshape", [mixed, graph.Vector(0, 0, _heads * _headSize)]);
            return weights.Linear(joined, prefix + "o_proj.weight", _hidden, _heads * _headSize);
        }

        private string Cache(int layer, string part, string current)
        {
            var past = graph.Input($"past_key_values.{layer}.{part}", OnnxGraph.Float, "batch", _keyValueHeads, "past", _headSize);
            return graph.NamedNode("Concat", $"present.{layer}.{part}", [past, current], ("axis", 2L));
        }

        private string Grouped(string x) => _heads == _keyValueHeads
            ? x
            : graph.Node("Reshape",
            [
                graph.Node("Expand", [graph.Node("Unsqueeze", [x, graph.Vector(2)]), graph.Vector(1, 1, _heads / _keyValueHeads, 1, 1)]),
                graph.Vector(0, _heads, -1, _headSize),
            ]);

        private string Split(string x, int heads) =>
            graph.Node("Transpose", [graph.Node("Reshape", [x, graph.Vector(0, 0, heads, _headSize)])], ("perm", new long[] { 0, 2, 1, 3 }));

        private string Rotate(string x, string cos, string sin)
        {
            var (first, second) = graph.SplitInTwo(x);
            var rotated = graph.Node("Concat", [graph.Node("Neg", [second]), first], ("axis", -1L));
            return graph.Node("Add", [graph.Node("Mul", [x, cos]), graph.Node("Mul", [rotated, sin])]);
        }

        private string FeedForward(string prefix, string h)
        {
            var gate = weights.Linear(h, prefix + "gate_proj.weight", _intermediate, _hidden);
            var activated = graph.Node("Mul", [gate, graph.Node("Sigmoid", [gate])]);
            var up = weights.Linear(h, prefix + "up_proj.weight", _intermediate, _hidden);
            return weights.Linear(graph.Node("Mul", [activated, up]), prefix + "down_proj.weight", _hidden, _intermediate);
        }

        // Written as runtimes know it, which then do all of this in one operation: a square by Pow, not by Mul.
        private string Norm(string x, string name)
        {
            var mean = graph.Node("ReduceMean", [graph.Node("Pow", [x, graph.Scalar(2f)])], ("axes", new long[] { -1 }), ("keepdims", 1L));
            var root = graph.Node("Sqrt", [graph.Node("Add", [mean, graph.Scalar((float)checkpoint.Config.RmsNormEpsilon)])]);
            return graph.Node("Mul", [graph.Node("Div", [x, root]), graph.Floats(name, checkpoint.Read(name, _hidden), _hidden)]);
        }
    }
}
