namespace FastDraft.Export;

/// <summary>Weights in groups that share a scale and a zero point: <c>w = (code - zero) * scale</c>, codes and zero from 0 to 2^bits - 1.</summary>
internal static class GroupQuantizer
{
    // What of its range a group of 4 bits may lose at the ends if the rest comes closer for it.
    private static readonly float[] Shrinks = [1f, 0.95f, 0.9f, 0.85f, 0.8f];

    /// <summary>Quantizes one group. The scale is one that <paramref name="halfScale"/> float16 holds, and codes are made for it as stored.</summary>
    /// <param name="values">The group.</param>
    /// <param name="bits">8 or 4.</param>
    /// <param name="codes">One byte a value, also of 4 bits.</param>
    /// <param name="halfScale">Whether the format stores scales as float16.</param>
    public static (float Scale, byte Zero) Quantize(ReadOnlySpan<float> values, int bits, Span<byte> codes, bool halfScale)
    {
        float least = 0, largest = 0;
        foreach (var value in values)
        {
            least = Math.Min(least, value);
            largest = Math.Max(largest, value);
        }

        var top = (1 << bits) - 1;
        var best = (Scale: 0f, Zero: (byte)0, Error: double.PositiveInfinity);
        foreach (var shrink in bits == 4 ? Shrinks : Shrinks.AsSpan(0, 1))
        {
            var scale = Storable((largest - least) * shrink / top, halfScale);
            var zero = (byte)Math.Clamp(MathF.Round(-least * shrink / scale), 0, top);
            var error = 0.0;
            foreach (var value in values)
            {
                var difference = value - ((Code(value, scale, zero, top) - zero) * scale);
                error += difference * difference;
            }

            if (error < best.Error)
            {
                best = (scale, zero, error);
            }
        }

        // No finite error: the weights are not numbers, and stay so visibly.
        if (double.IsPositiveInfinity(best.Error))
        {
            best = (float.NaN, 0, 0);
        }

        for (var i = 0; i < values.Length; i++)
        {
            codes[i] = Code(values[i], best.Scale, best.Zero, top);
        }

        return (best.Scale, best.Zero);
    }

    /// <summary>Packs codes of 4 bits two a byte, the first in the low half.</summary>
    public static void Pack(ReadOnlySpan<byte> codes, Span<byte> packed)
    {
        for (var i = 0; i < packed.Length; i++)
        {
            packed[i] = (byte)(codes[2 * i] | ((2 * i) + 1 < codes.Length ? codes[(2 * i) + 1] << 4 : 0));
        }
    }

    private static byte Code(float value, float scale, byte zero, int top)
    {
        var code = MathF.Round(value / scale) + zero;
        return code > 0 ? (byte)Math.Min(code, top) : (byte)0;
    }

    // A group of zeros needs some scale; one too small for float16 gets its smallest.
    private static float Storable(float scale, bool half)
    {
        if (scale == 0)
        {
            return 1;
        }

        return half ? (float)((Half)scale == (Half)0f ? Half.Epsilon : (Half)scale) : scale;
    }
}
