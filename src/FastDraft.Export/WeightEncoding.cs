using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace FastDraft.Export;

/// <summary>Float32 weights as the bytes of another precision, little-endian.</summary>
internal static class WeightEncoding
{
    /// <summary>Writes values at a precision of whole values.</summary>
    /// <exception cref="ExportException">A finite value is infinite in float16.</exception>
    public static void Write(Stream output, ReadOnlySpan<float> values, WeightPrecision precision)
    {
        switch (precision)
        {
            case WeightPrecision.F32:
                output.Write(MemoryMarshal.AsBytes(values));
                break;
            case WeightPrecision.F16:
                var halves = ArrayPool<Half>.Shared.Rent(values.Length);
                TensorPrimitives.ConvertToHalf(values, halves);
                if (halves.AsSpan(0, values.Length).ContainsAny(Half.PositiveInfinity, Half.NegativeInfinity))
                {
                    ArrayPool<Half>.Shared.Return(halves);
                    throw new ExportException("A weight is larger than float16 can hold (65504).", "--precision f32, or bf16 where the format has it");
                }

                output.Write(MemoryMarshal.AsBytes(halves.AsSpan(0, values.Length)));
                ArrayPool<Half>.Shared.Return(halves);
                break;
            case WeightPrecision.BF16:
                var words = ArrayPool<ushort>.Shared.Rent(values.Length);
                for (var i = 0; i < values.Length; i++)
                {
                    words[i] = ToBFloat16(values[i]);
                }

                output.Write(MemoryMarshal.AsBytes(words.AsSpan(0, values.Length)));
                ArrayPool<ushort>.Shared.Return(words);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(precision), precision, "Not a precision of whole values.");
        }
    }

    /// <summary>Bytes of one value.</summary>
    public static int SizeOf(WeightPrecision precision) => precision == WeightPrecision.F32 ? 4 : 2;

    // Round to nearest, ties to even, in the bits; a NaN keeps its top bits and so stays one.
    private static ushort ToBFloat16(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value) ? (ushort)((bits >> 16) | 0x40) : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }
}
