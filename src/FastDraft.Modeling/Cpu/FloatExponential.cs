using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace FastDraft.Modeling.Cpu;

/// <summary>
/// exp of 8 floats, within two units in the last place. The runtime's own computes in double precision and is called, not inlined: in a
/// step of a small model that took as long as the products of queries and keys.
/// </summary>
internal static class FloatExponential
{
    private const float Smallest = -87.33654f;
    private const float Largest = 88.37626f;

    /// <summary>Below the exponent of the smallest normal number the result is 0; above the largest it stays at exp(88.37). Not a number stays so.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Of(Vector256<float> x)
    {
        var vanishes = Vector256.LessThan(x, Vector256.Create(Smallest));
        x = Vector256.MinNative(Vector256.Create(Largest), Vector256.MaxNative(Vector256.Create(Smallest), x)); // Of a pair with NaN the second is returned.

        // exp(x) = 2^n exp(r) with |r| <= ln(2) / 2; ln 2 in two parts, so that r keeps all its digits.
        var n = Vector256.Round(x * Vector256.Create(1.44269504f));
        var r = Vector256.FusedMultiplyAdd(n, Vector256.Create(-0.693359375f), x);
        r = Vector256.FusedMultiplyAdd(n, Vector256.Create(2.12194440e-4f), r);

        // The Taylor series to the seventh power: what it leaves out is below 2^-25 for such r.
        var sum = Vector256.Create(1f / 5040f);
        sum = Vector256.FusedMultiplyAdd(sum, r, Vector256.Create(1f / 720f));
        sum = Vector256.FusedMultiplyAdd(sum, r, Vector256.Create(1f / 120f));
        sum = Vector256.FusedMultiplyAdd(sum, r, Vector256.Create(1f / 24f));
        sum = Vector256.FusedMultiplyAdd(sum, r, Vector256.Create(1f / 6f));
        sum = Vector256.FusedMultiplyAdd(sum, r, Vector256.Create(0.5f));
        sum = Vector256.FusedMultiplyAdd(sum, r, Vector256<float>.One);
        sum = Vector256.FusedMultiplyAdd(sum, r, Vector256<float>.One);
        var power = ((Vector256.ConvertToInt32Native(n) + Vector256.Create(127)) << 23).AsSingle();
        return Vector256.ConditionalSelect(vanishes, Vector256<float>.Zero, sum * power);
    }
}
