using System.Runtime.InteropServices;

namespace FastDraft.Export.Onnx;

/// <summary>
/// Weight matrices as initializers, and the nodes that multiply with them and look rows up in them: MatMul and Gather in float32,
/// MatMulNBits and GatherBlockQuantized for integers <c>(code - zero) * scale</c> in groups along a row.
/// </summary>
internal sealed class OnnxWeights(OnnxGraph graph, LlamaCheckpoint checkpoint, WeightPrecision precision)
{
    private const string EmbeddingName = "model.embed_tokens.weight";

    // The operators take powers of two from 16.
    private const int GroupOf8Bits = 32;
    private const int GroupOf4Bits = 64;

    // Activations as 8-bit integers in groups of the same size, so that the products are of integers: without it the CPU provider
    // widens every weight to float32 first.
    private const long IntegerActivations = 4;

    private readonly int _vocabulary = checkpoint.Config.VocabularySize;
    private readonly int _hidden = checkpoint.Config.HiddenSize;
    private Quantized? _embedding;
    private string? _wholeEmbedding;

    /// <summary>What the weights will take, about.</summary>
    public static long Bytes(LlamaCheckpoint checkpoint, WeightPrecision precision) =>
        checkpoint.WeightBytes / 32 * (precision switch { WeightPrecision.F32 => 32, WeightPrecision.Int8 => 9, _ => 5 });

    /// <summary>Rows of the embedding by their ids, <c>[b,s,hidden]</c>.</summary>
    public string Embedding(string ids)
    {
        if (precision == WeightPrecision.F32)
        {
            _wholeEmbedding = graph.Constant(EmbeddingName, OnnxGraph.Float, [_vocabulary, _hidden], stream =>
            {
                foreach (var block in checkpoint.Rows(EmbeddingName, _vocabulary, _hidden))
                {
                    stream.Write(MemoryMarshal.AsBytes(block.Span));
                }
            });
            return graph.Node("Gather", [_wholeEmbedding, ids], ("axis", 0L));
        }

        var e = _embedding = Quantize(EmbeddingName, _vocabulary, _hidden, bits: 8);

        // The head multiplies with the same bytes in groups.
        var rows = graph.Node("Reshape", [e.Codes, graph.Vector(_vocabulary, e.Groups * e.GroupSize)]);
        var found = graph.RuntimeNode(
            "GatherBlockQuantized", null, [rows, ids, e.Scales, e.Zeros], ("bits", 8L), ("block_size", (long)e.GroupSize), ("gather_axis", 0L), ("quantize_axis", 1L));
        return e.Groups * e.GroupSize == _hidden ? found : graph.Node("Slice", [found, graph.Vector(0), graph.Vector(_hidden), graph.Vector(-1)]);
    }

    /// <summary>Logits, <c>[b,s,vocabulary]</c>.</summary>
    public void Head(string x, string output)
    {
        if (!checkpoint.Config.TieWordEmbeddings)
        {
            Multiply(x, "lm_head.weight", _vocabulary, _hidden, bits: 8, output);
        }
        else if (_embedding is { } embedding)
        {
            Multiply(x, embedding, _vocabulary, _hidden, output);
        }
        else
        {
            graph.NamedNode("MatMul", output, [x, graph.Node("Transpose", [_wholeEmbedding!], ("perm", new long[] { 1, 0 }))]);
        }
    }

    /// <summary>The product with a matrix <c>[outputs, inputs]</c>.</summary>
    public string Linear(string x, string name, int outputs, int inputs) => Multiply(
        x, name, outputs, inputs, precision == WeightPrecision.Int4 && inputs % GroupOf4Bits == 0 ? 4 : 8, output: null);

    private string Multiply(string x, string name, int outputs, int inputs, int bits, string? output)
    {
        if (precision != WeightPrecision.F32)
        {
            return Multiply(x, Quantize(name, outputs, inputs, bits), outputs, inputs, output);
        }

        // ONNX MatMul has no transpose flag; storing [in, out] keeps the graph free of a transpose per projection.
        var weight = graph.Constant(name, OnnxGraph.Float, [inputs, outputs], stream =>
        {
            foreach (var block in checkpoint.Columns(name, outputs, inputs))
            {
                stream.Write(MemoryMarshal.AsBytes(block.Span));
            }
        });
        return output is null ? graph.Node("MatMul", [x, weight]) : graph.NamedNode("MatMul", output, [x, weight]);
    }

    private string Multiply(string x, Quantized weight, int outputs, int inputs, string? output) => graph.RuntimeNode(
        "MatMulNBits",
        output,
        [x, weight.Codes, weight.Scales, weight.Zeros],
        ("K", (long)inputs),
        ("N", (long)outputs),
        ("accuracy_level", IntegerActivations),
        ("bits", (long)weight.Bits),
        ("block_size", (long)weight.GroupSize));

    // Codes [rows, groups, bytes of a group], scales [rows, groups], zero points [rows, bytes of a row]. The last group of a row is
    // filled up with zeros where the row is not whole groups.
    private Quantized Quantize(string name, int rows, int columns, int bits)
    {
        var size = bits == 4 ? GroupOf4Bits : GroupOf8Bits;
        var groups = (columns + size - 1) / size;
        var scales = new float[(long)rows * groups];
        var zeros = new byte[(long)rows * groups];
        var codes = graph.Constant(name, OnnxGraph.UInt8, [rows, groups, size * bits / 8], stream => Quantize(stream, name, rows, columns, bits, size, scales, zeros));
        var packed = bits == 8 ? zeros : PackedRows(zeros, groups);
        return new Quantized(
            codes,
            graph.Floats(name + ".scale", scales, rows, groups),
            graph.Bytes(name + ".zero", packed, rows, packed.Length / rows),
            bits,
            size,
            groups);
    }

    private void Quantize(Stream stream, string name, int rows, int columns, int bits, int size, float[] scales, byte[] zeros)
    {
        var codes = new byte[size];
        var group = 0;
        foreach (var block in checkpoint.Rows(name, rows, columns))
        {
            for (var start = 0; start < block.Length;)
            {
                var length = Math.Min(size, columns - (start % columns));
                (scales[group], zeros[group]) = GroupQuantizer.Quantize(block.Span.Slice(start, length), bits, codes.AsSpan(0, length), halfScale: false);
                codes.AsSpan(length).Fill(zeros[group]);
                stream.Write(bits == 8 ? codes : Packed(codes));
                group++;
                start += length;
            }
        }
    }

    private static byte[] PackedRows(byte[] zeros, int groups)
    {
        var rowBytes = (groups + 1) / 2;
        var packed = new byte[zeros.Length / groups * rowBytes];
        for (var row = 0; row < zeros.Length / groups; row++)
        {
            GroupQuantizer.Pack(zeros.AsSpan(row * groups, groups), packed.AsSpan(row * rowBytes, rowBytes));
        }

        return packed;
    }

    private static byte[] Packed(byte[] codes)
    {
        var packed = new byte[codes.Length / 2];
        GroupQuantizer.Pack(codes, packed);
        return packed;
    }

    private sealed record Quantized(string Codes, string Scales, string Zeros, int Bits, int GroupSize, int Groups);
}
