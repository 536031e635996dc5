using FastDraft.Export.Tokenizers;

namespace FastDraft.Export.OpenVino;

/// <summary>
/// Writes a decoder of the Llama family as a stateful OpenVINO IR that computes in float32 from weights of any precision: inputs <c>input_ids</c>, <c>attention_mask</c>,
/// <c>position_ids</c> (i64 [?,?]) and <c>beam_idx</c> (i32 [?]), output <c>logits [b,s,V]</c>, one variable per layer for keys and one
/// for values. It is the graph that OpenVINO GenAI takes as target and as draft.
/// </summary>
public static class OpenVinoModelWriter
{
    public const string ModelName = "openvino_model.xml";
    public const string WeightsName = "openvino_model.bin";

    private static readonly (string, string)[] Numpy = [("auto_broadcast", "numpy")];

    /// <summary>Writes the IR and the config and tokenizer files into <paramref name="outputFolder"/>.</summary>
    /// <exception cref="FastDraft.Modeling.Checkpoints.CheckpointException">The source folder is not a checkpoint of the family.</exception>
    /// <exception cref="Modeling.Tokenization.TokenizerException">Its tokenizer cannot be read.</exception>
    /// <exception cref="ExportException">A weight does not fit the precision, or OpenVINO has no such tokenizer.</exception>
    public static void Write(string modelFolder, string outputFolder, WeightPrecision precision = WeightPrecision.F32)
    {
        using var checkpoint = LlamaCheckpoint.Open(modelFolder);
        Directory.CreateDirectory(outputFolder);
        using (var weights = File.Create(Path.Combine(outputFolder, WeightsName)))
        {
            var graph = new IrGraph(weights);
            new DecoderGraph(graph, checkpoint, new IrWeights(graph, checkpoint, precision)).Build();
            graph.Save(Path.Combine(outputFolder, ModelName), "decoder");
        }

        if (File.Exists(Path.Combine(modelFolder, "tokenizer.json")))
        {
            OpenVinoTokenizerWriter.Write(TokenizerDefinition.Load(modelFolder, checkpoint.Config.VocabularySize), outputFolder);
        }

        checkpoint.CopyCompanionFiles(outputFolder);
    }

    private sealed class DecoderGraph(IrGraph graph, LlamaCheckpoint checkpoint, IrWeights weights)
    {
        private readonly long _vocabulary = checkpoint.Config.VocabularySize;
        private readonly long _hidden = checkpoint.Config.HiddenSize;
        private readonly long _heads = checkpoint.Config.NumHeads;
        private readonly long _keyValueHeads = checkpoint.Config.NumKeyValueHeads;
        private readonly long _headSize = checkpoint.Config.HeadSize;
        private readonly long _intermediate = checkpoint.Config.IntermediateSize;

        public void Build()
        {
            var ids = graph.Parameter("input_ids", "i64", -1, -1);
            var attention = graph.Parameter("attention_mask", "i64", -1, -1);
            var positions = graph.Parameter("position_ids", "i64", -1, -1);
            var beams = graph.Parameter("beam_idx", "i32", -1);
            var embedding = weights.Matrix("model.embed_tokens.weight", _vocabulary, _hidden, isVocabulary: true);
            var x = Gather(embedding, Convert(ids, "i32", "I32"), graph.Scalar(0), -1, -1, _hidden);
            var (cos, sin) = Rotary(positions);
            var mask = Mask(ids, attention);
            var batch = Gather(ShapeOf(ids, 2), graph.Vector(0), graph.Scalar(0L), 1);
            for (var i = 0; i < checkpoint.Config.NumLayers; i++)
            {
                var prefix = $"model.layers.{i}.";
                x = Binary("Add", x, Attention(i, Norm(x, prefix + "input_layernorm.weight"), cos, sin, mask, batch, beams), -1, -1, _hidden);
                x = Binary("Add", x, FeedForward(prefix + "mlp.", Norm(x, prefix + "post_attention_layernorm.weight")), -1, -1, _hidden);
            }

            x = Norm(x, "model.norm.weight");
            var head = checkpoint.Config.TieWordEmbeddings
                ? embedding
                : weights.Matrix("lm_head.weight", _vocabulary, _hidden, isVocabulary: true);
            graph.Result(MatMul(x, head, _vocabulary, "logits"), "logits");
        }

        private (IrValue Cos, IrValue Sin) Rotary(IrValue positions)
        {
            var frequencies = graph.Weight("inverse_frequencies", checkpoint.InverseFrequencies(), 1, 1, _headSize / 2);
            var column = Convert(Unsqueeze(positions, [2], -1, -1, 1), "f32", "FP32");
            var half = Binary("Multiply", column, frequencies, -1, -1, _headSize / 2);
            var angles = Concat([half, half], 2, -1, -1, _headSize);
            return (Unsqueeze(graph.Add("Cos", 1, [-1, -1, _headSize], [angles]), [1], -1, 1, -1, _headSize),
                Unsqueeze(graph.Add("Sin", 1, [-1, -1, _headSize], [angles]), [1], -1, 1, -1, _headSize));
        }

        // Additive [b,1,q,kv]: a key is seen from its own index on; where attention_mask is 0 it gets an index behind every query.
        private IrValue Mask(IrValue ids, IrValue attention)
        {
            var queries = Gather(ShapeOf(ids, 2), graph.Scalar(1L), graph.Scalar(0L));
            var keys = Gather(ShapeOf(attention, 2), graph.Scalar(1L), graph.Scalar(0L));
            var queryIndex = Binary("Add", Range(queries), Binary("Subtract", keys, queries), -1);
            var hidden = Binary("Multiply", Binary("Subtract", graph.Scalar(1L), attention, -1, -1), graph.Scalar(1L << 30), -1, -1);
            var keyIndex = Binary("Add", hidden, Range(keys), -1, -1);
            var allowed = graph.Add(
                "LessEqual", 1, [-1, 1, -1, -1], [Unsqueeze(keyIndex, [1, 2], -1, 1, 1, -1), Unsqueeze(queryIndex, [1], -1, 1)], Numpy, "BOOL");
            return graph.Add("Select", 1, [-1, 1, -1, -1], [allowed, graph.Scalar(0f), graph.Scalar(-65504f)], Numpy, "FP32");
        }

        private IrValue Attention(int layer, IrValue h, IrValue cos, IrValue sin, IrValue mask, IrValue batch, IrValue beams)
        {
            var prefix = $"model.layers.{layer}.self_attn.";
            var query = Rotate(Split(Linear(h, prefix + "q_proj.weight", _heads * _headSize, _hidden), _heads), _heads, cos, sin);
            var key = Rotate(Split(Linear(h, prefix + "k_proj.weight", _keyValueHeads * _headSize, _hidden), _keyValueHeads), _keyValueHeads, cos, sin);
            var value = Split(Linear(h, prefix + "v_proj.weight", _keyValueHeads * _headSize, _hidden), _keyValueHeads);
            key = Grouped(Cache(key, $"past_key_values.{layer}.keypresent.{layer}.key", batch, beams));
            value = Grouped(Cache(value, $"past_key_values.{layer}.valuepresent.{layer}.value", batch, beams));
            var mixed = graph.Add(
                "ScaledDotProductAttention",
                13,
                [-1, _heads, -1, _headSize],
                [query, key, value, mask, graph.Scalar((float)(1 / Math.Sqrt(_headSize)))],
                [("causal", "false")]);
            var joined = Reshape(Transpose(mixed, -1, -1, _heads, _headSize), [0, 0, _heads * _headSize], -1, -1, _heads * _headSize);
            return Linear(joined, prefix + "o_proj.weight", _hidden, _heads * _headSize);
        }

        private IrValue Cache(IrValue current, string variable, IrValue batch, IrValue beams)
        {
            var emptyShape = Concat([batch, graph.Vector(_keyValueHeads), graph.Vector(0), graph.Vector(_headSize)], 0, 4);
            var empty = graph.Add("Broadcast", 3, [-1, _keyValueHeads, 0, _headSize], [graph.Scalar(0f), emptyShape], [("mode", "numpy")]);
            var stored = graph.Add(
                "ReadValue",
                6,
                [-1, _keyValueHeads, -1, _headSize],
                [empty],
                [("variable_id", variable), ("variable_type", "f32"), ("variable_shape", $"?,{_keyValueHeads},?,{_headSize}")]);
            var past = Gather(stored, beams, graph.Scalar(0L), -1, _keyValueHeads, -1, _headSize);
            var full = Concat([past, current], -2, -1, _keyValueHeads, -1, _headSize);
            graph.Add("Assign", 6, full.Shape, [full], [("variable_id", variable)]);
            return full;
        }

        private IrValue Grouped(IrValue x)
        {
            if (_heads == _keyValueHeads)
            {
                return x;
            }

            var shape = ShapeOf(x, 4);
            var target = Concat(
                [
                    Gather(shape, graph.Vector(0), graph.Scalar(0L), 1),
                    graph.Vector(_keyValueHeads),
                    graph.Vector(_heads / _keyValueHeads),
                    Gather(shape, graph.Vector(2), graph.Scalar(0L), 1),
                    graph.Vector(_headSize),
                ],
                0,
                5);
            var wide = graph.Add(
                "Broadcast",
                3,
                [-1, _keyValueHeads, _heads / _keyValueHeads, -1, _headSize],
                [Unsqueeze(x, [2], -1, _keyValueHeads, 1, -1, _headSize), target],
                [("mode", "bidirectional")]);
            return Reshape(wide, [0, _heads, -1, _headSize], -1, _heads, -1, _headSize);
        }

        private IrValue Split(IrValue x, long heads) =>
            Transpose(Reshape(x, [0, 0, heads, _headSize], -1, -1, heads, _headSize), -1, heads, -1, _headSize);

        // Written as plugins know it, which then do the transposition before it and all of this in one operation: halves by Slice, not by Split.
        private IrValue Rotate(IrValue x, long heads, IrValue cos, IrValue sin)
        {
            var negative = Binary("Multiply", Half(x, heads, _headSize / 2, long.MaxValue), graph.Scalar(-1f), -1, heads, -1, _headSize / 2);
            var rotated = Concat([negative, Half(x, heads, 0, _headSize / 2)], -1, x.Shape);
            return Binary("Add", Binary("Multiply", x, cos, x.Shape), Binary("Multiply", rotated, sin, x.Shape), x.Shape);
        }

        private IrValue Half(IrValue x, long heads, long start, long stop) =>
            graph.Add("Slice", 8, [-1, heads, -1, _headSize / 2], [x, graph.Vector(start), graph.Vector(stop), graph.Vector(1), graph.Vector(3)]);

        private IrValue FeedForward(string prefix, IrValue h)
        {
            var gate = graph.Add("Swish", 4, [-1, -1, _intermediate], [Linear(h, prefix + "gate_proj.weight", _intermediate, _hidden), graph.Scalar(1f)]);
            var up = Linear(h, prefix + "up_proj.weight", _intermediate, _hidden);
            return Linear(Binary("Multiply", gate, up, -1, -1, _intermediate), prefix + "down_proj.weight", _hidden, _intermediate);
        }

        private IrValue Norm(IrValue x, string name)
        {
            var square = Binary("Power", x, graph.Scalar(2f), -1, -1, _hidden);
            var mean = graph.Add("ReduceMean", 1, [-1, -1, 1], [square, graph.Vector(-1)], [("keep_dims", "true")]);
            var root = graph.Add("Sqrt", 1, [-1, -1, 1], [Binary("Add", mean, graph.Scalar((float)checkpoint.Config.RmsNormEpsilon), -1, -1, 1)]);
            var unit = graph.Add("Divide", 1, [-1, -1, _hidden], [x, root], [.. Numpy, ("m_pythondiv", "true")]);
            return Binary("Multiply", unit, graph.Weight(name, checkpoint.Read(name, _hidden), _hidden), -1, -1, _hidden);
        }

        private IrValue Linear(IrValue x, string name, long outputs, long inputs) =>
            MatMul(x, weights.Matrix(name, outputs, inputs), outputs);

        private IrValue MatMul(IrValue x, IrValue weight, long outputs, string? tensorName = null) =>
            graph.Add("MatMul", 1, [-1, -1, outputs], [x, weight], [("transpose_a", "false"), ("transpose_b", "true")], tensorName: tensorName);

        private IrValue Binary(string type, IrValue a, IrValue b, params long[] shape) => graph.Add(type, 1, shape, [a, b], Numpy);

        private IrValue Gather(IrValue x, IrValue indices, IrValue axis, params long[] shape) =>
            graph.Add("Gather", 8, shape, [x, indices, axis], [("batch_dims", "0")]);

        private IrValue ShapeOf(IrValue x, long rank) => graph.Add("ShapeOf", 3, [rank], [x], [("output_type", "i64")], "I64");

        private IrValue Convert(IrValue x, string type, string precision) =>
            graph.Add("Convert", 1, x.Shape, [x], [("destination_type", type)], precision);

        private IrValue Unsqueeze(IrValue x, long[] axes, params long[] shape) => graph.Add("Unsqueeze", 1, shape, [x, graph.Vector(axes)]);

        private IrValue Concat(IrValue[] parts, int axis, params long[] shape) => graph.Add("Concat", 1, shape, parts, [("axis", $"{axis}")]);

        private IrValue Range(IrValue stop) =>
            graph.Add("Range", 4, [-1], [graph.Scalar(0L), stop, graph.Scalar(1L)], [("output_type", "i64")]);

        private IrValue Reshape(IrValue x, long[] target, params long[] shape) =>
            graph.Add("Reshape", 1, shape, [x, graph.Vector(target)], [("special_zero", "true")]);

        private IrValue Transpose(IrValue x, params long[] shape) => graph.Add("Transpose", 1, shape, [x, graph.Vector(0, 2, 1, 3)]);
    }
}
