using System.Runtime.InteropServices;

namespace FastDraft.Export.OpenVino;

/// <summary>
/// Weight matrices as constants of an IR, and the nodes that make float32 of them: a conversion for float16, and for integers
/// <c>(code - zero) * scale</c> in the shape that OpenVINO's plugins recognise and multiply with as it is.
/// </summary>
internal sealed class IrWeights(IrGraph graph, LlamaCheckpoint checkpoint, WeightPrecision precision)
{
    private static readonly (string, string)[] Numpy = [("auto_broadcast", "numpy")];

    // Weights of 4 bits that share a scale. Groups of 128 would save 3 % of the file and cost a small draft more than that in acceptance.
    private const long GroupSize = 64;

    /// <summary>A matrix <c>[rows, columns]</c>, float32 to its users.</summary>
    /// <param name="name">Its name in the checkpoint.</param>
    /// <param name="isVocabulary">Embedding or head: 8 bits where the others have 4, as every token's logits hang on them. So has a row that is not whole groups.</param>
    public IrValue Matrix(string name, long rows, long columns, bool isVocabulary = false)
    {
        switch (precision)
        {
            case WeightPrecision.F32:
                return Whole(name, "f32", rows, columns);
            case WeightPrecision.F16:
                return graph.Decompress(Whole(name, "f16", rows, columns), "f32", [rows, columns]);
            case WeightPrecision.Int4 when !isVocabulary && columns % GroupSize == 0:
                return Integers(name, rows, columns, GroupSize, bits: 4);
            default:
                return Integers(name, rows, columns, columns, bits: 8);
        }
    }

    private IrValue Whole(string name, string type, long rows, long columns) => graph.Constant(name, type, [rows, columns], stream =>
    {
        foreach (var block in checkpoint.Rows(name, rows, columns))
        {
            WeightEncoding.Write(stream, block.Span, precision);
        }
    });

    private IrValue Integers(string name, long rows, long columns, long groupSize, int bits)
    {
        var groups = columns / groupSize;
        var zeros = new byte[rows * groups];
        var scales = new Half[rows * groups];
        var type = bits == 8 ? "u8" : "u4";

        // One group a row is a matrix; more are a matrix of groups.
        long[] shape = groups == 1 && bits == 8 ? [rows, columns] : [rows, groups, groupSize];
        long[] shared = [.. shape[..^1], 1];
        var codes = graph.Constant(name, type, shape, stream => Quantize(stream, name, rows, columns, (int)groupSize, bits, zeros, scales));
        var zero = graph.Constant(name + ".zero", type, shared, stream => stream.Write(Packed(zeros, bits)));
        var scale = graph.Constant(name + ".scale", "f16", shared, stream => stream.Write(MemoryMarshal.AsBytes(scales.AsSpan())));
        var centred = graph.Add("Subtract", 1, shape, [Convert(codes, "f16", "FP16"), Convert(zero, "f16", "FP16")], Numpy);
        var value = graph.Add("Multiply", 1, shape, [centred, scale], Numpy);
        if (shape.Length == 3)
        {
            value = graph.Add("Reshape", 1, [rows, columns], [value, graph.Vector(rows, columns)], [("special_zero", "false")]);
        }

        return Convert(value, "f32", "FP32");
    }

    private void Quantize(Stream stream, string name, long rows, long columns, int groupSize, int bits, byte[] zeros, Half[] scales)
    {
        var group = 0;
        foreach (var block in checkpoint.Rows(name, rows, columns))
        {
            var codes = new byte[block.Length];
            for (var start = 0; start < block.Length; start += groupSize)
            {
                var (scale, zero) = GroupQuantizer.Quantize(block.Span.Slice(start, groupSize), bits, codes.AsSpan(start, groupSize), halfScale: true);
                (scales[group], zeros[group]) = ((Half)scale, zero);
                group++;
            }

            stream.Write(Packed(codes, bits));
        }
    }

    private static byte[] Packed(byte[] codes, int bits)
    {
        if (bits == 8)
        {
            return codes;
        }

        var packed = new byte[(codes.Length + 1) / 2];
        GroupQuantizer.Pack(codes, packed);
        return packed;
    }

    private IrValue Convert(IrValue x, string type, string precisionName) => graph.Add("Convert", 1, x.Shape, [x], [("destination_type", type)], precisionName);
}
