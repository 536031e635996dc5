namespace FastDraft.Modeling.Models;

/// <summary>Llama 3.1's rope_type "llama3": wavelengths beyond the original context are stretched by a factor, with a smooth passage between the two bounds.</summary>
/// <param name="LowFrequencyFactor">Wavelengths above <c>OriginalPositions / LowFrequencyFactor</c> are stretched whole.</param>
/// <param name="HighFrequencyFactor">Wavelengths below <c>OriginalPositions / HighFrequencyFactor</c> stay.</param>
public sealed record Llama3Rope(double Factor, double LowFrequencyFactor, double HighFrequencyFactor, int OriginalPositions);

/// <summary>
/// LongRoPE (2402.13753) as Phi-3 has it: one divisor for each frequency, other ones once a sequence is longer than the original context,
/// and a magnitude of cosine and sine that is the same for both.
/// </summary>
public sealed record LongRope(IReadOnlyList<double> ShortFactors, IReadOnlyList<double> LongFactors, int OriginalPositions, double Magnitude);

/// <summary>Frequencies and tables of rotary positions (2104.09864), half-split: element i of a head turns with element i + S/2. S is the head size.</summary>
public static class RotaryPositions
{
    /// <summary>Whether a sequence of this many positions turns by <see cref="LongRope.LongFactors"/>.</summary>
    public static bool IsLong(DecoderConfig config, int length) => config.LongRope is { } rope && length > rope.OriginalPositions;

    /// <summary>Radians a position, [S / 2] float32; 0 for elements that do not turn.</summary>
    public static float[] Frequencies(DecoderConfig config, bool isLong)
    {
        var frequencies = new float[config.HeadSize / 2];
        var size = config.RotarySize ?? config.HeadSize;
        for (var i = 0; i < size / 2; i++)
        {
            var plain = 1.0 / Math.Pow(config.RopeTheta, 2.0 * i / size);
            frequencies[i] = (float)(config switch
            {
                { Llama3Rope: { } rope } => Stretch(rope, plain),
                { LongRope: { } rope } => plain / (isLong ? rope.LongFactors : rope.ShortFactors)[i],
                _ => plain,
            });
        }

        return frequencies;
    }

    /// <summary>[positions, S / 2] each. The short table of a <see cref="LongRope"/> ends with the original context.</summary>
    public static (float[] Cos, float[] Sin) Tables(DecoderConfig config, bool isLong)
    {
        var frequencies = Frequencies(config, isLong);
        var turning = (config.RotarySize ?? config.HeadSize) / 2;
        var magnitude = (float)(config.LongRope?.Magnitude ?? 1);
        var half = frequencies.Length;
        var positions = isLong || config.LongRope is null ? config.MaxPositions : Math.Min(config.MaxPositions, config.LongRope.OriginalPositions);
        var cos = new float[(long)positions * half];
        var sin = new float[cos.Length];
        for (var position = 0; position < positions; position++)
        {
            for (var i = 0; i < half; i++)
            {
                // float32 like the reference implementation: the angle itself is rounded before cos and sin.
                var angle = position * frequencies[i];
                var scale = i < turning ? magnitude : 1;
                (cos[(position * half) + i], sin[(position * half) + i]) = (MathF.Cos(angle) * scale, MathF.Sin(angle) * scale);
            }
        }

        return (cos, sin);
    }

    private static double Stretch(Llama3Rope rope, double frequency)
    {
        var wavelength = 2 * Math.PI / frequency;
        if (wavelength < rope.OriginalPositions / rope.HighFrequencyFactor)
        {
            return frequency;
        }

        if (wavelength > rope.OriginalPositions / rope.LowFrequencyFactor)
        {
            return frequency / rope.Factor;
        }

        var smooth = ((rope.OriginalPositions / wavelength) - rope.LowFrequencyFactor) / (rope.HighFrequencyFactor - rope.LowFrequencyFactor);
        return ((1 - smooth) * frequency / rope.Factor) + (smooth * frequency);
    }
}
