using System.Buffers;
using System.Numerics.Tensors;

namespace FastDraft.Modeling.Decoding;

/// <summary>
/// From float32 logits to a law and from a law to a token (methods.md 1.5). Target and draft go through the same transform, and the
/// law a draft token is drawn from is the one it is verified with.
/// </summary>
public static class Sampling
{
    /// <summary>The id of the largest logit; of equal ones, the lowest.</summary>
    public static int ArgMax(ReadOnlySpan<float> logits)
    {
        return TensorPrimitives.IndexOfMax(logits);
    }

    /// <summary>
    /// Writes softmax(logits / temperature) restricted to top-k and then top-p, renormalised. Ties at a cut go to the lower id.
    /// Temperature 0 gives the one-hot law of <see cref="ArgMax"/>.
    /// </summary>
    public static void Transform(ReadOnlySpan<float> logits, Span<double> law, double temperature, int topK = 0, double topP = 1)
    {
        var best = ArgMax(logits);
        if (temperature == 0)
        {
            law.Clear();
            law[best] = 1;
            return;
        }

        var maximum = (double)logits[best];
        var sum = 0.0;
        for (var i = 0; i < logits.Length; i++)
        {
            sum += law[i] = Math.Exp((logits[i] - maximum) / temperature);
        }

        if ((topK == 0 || topK >= law.Length) && topP >= 1)
        {
            Scale(law, sum);
            return;
        }

        Restrict(law, sum, topK, topP);
    }

    /// <summary>The token at quantile <paramref name="uniform"/> of a law that sums to one up to rounding.</summary>
    public static int Draw(ReadOnlySpan<double> law, double uniform)
    {
        var cumulative = 0.0;
        var last = 0;
        for (var i = 0; i < law.Length; i++)
        {
            if (law[i] > 0)
            {
                cumulative += law[i];
                last = i;
                if (uniform < cumulative)
                {
                    return i;
                }
            }
        }

        return last;
    }

    /// <summary>sum_x min(p(x), q(x)) = 1 - TV(p, q): the probability that a token drawn from q is accepted (methods.md 1.1).</summary>
    public static double Overlap(ReadOnlySpan<double> p, ReadOnlySpan<double> q)
    {
        var sum = 0.0;
        for (var i = 0; i < p.Length; i++)
        {
            sum += Math.Min(p[i], q[i]);
        }

        return sum;
    }

    private static void Restrict(Span<double> law, double sum, int topK, double topP)
    {
        var order = ArrayPool<int>.Shared.Rent(law.Length);
        var keys = ArrayPool<(double Negative, int Id)>.Shared.Rent(law.Length);
        try
        {
            for (var i = 0; i < law.Length; i++)
            {
                keys[i] = (-law[i], i);
                order[i] = i;
            }

            keys.AsSpan(0, law.Length).Sort(order.AsSpan(0, law.Length));
            var limit = topK == 0 ? law.Length : Math.Min(topK, law.Length);
            var candidateMass = 0.0;
            for (var i = 0; i < limit; i++)
            {
                candidateMass += law[order[i]];
            }

            var kept = 0;
            var mass = 0.0;
            while (kept < limit && (kept == 0 || mass < topP * candidateMass))
            {
                mass += law[order[kept++]];
            }

            for (var i = kept; i < law.Length; i++)
            {
                law[order[i]] = 0;
            }

            Scale(law, mass);
        }
        finally
        {
            ArrayPool<int>.Shared.Return(order);
            ArrayPool<(double, int)>.Shared.Return(keys);
        }
    }

    private static void Scale(Span<double> law, double sum)
    {
        for (var i = 0; i < law.Length; i++)
        {
            law[i] /= sum;
        }
    }
}
