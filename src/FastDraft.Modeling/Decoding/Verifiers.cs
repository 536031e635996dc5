namespace FastDraft.Modeling.Decoding;

/// <summary>How a drafter chooses tokens. Part of its type, because a verifier is only exact for the laws it knows.</summary>
public enum ProposalLaw
{
    /// <summary>Unknown or deterministic: only the token itself is known.</summary>
    PointMass,

    /// <summary>Drawn from the q that is handed over with it.</summary>
    Iid,

    /// <summary>Siblings drawn without replacement from the q handed over.</summary>
    WithoutReplacement,
}

/// <summary>What the emitted text has in common with the target's own.</summary>
public enum Guarantee
{
    /// <summary>The same law at every temperature.</summary>
    Lossless,

    /// <summary>The same text at temperature 0.</summary>
    GreedyExact,

    /// <summary>A stated distance.</summary>
    Bounded,

    None,
}

/// <summary>
/// The rule for one drafted token, as pure functions: accept with a probability, and on rejection emit a token of the residual law.
/// </summary>
public interface IVerifier
{
    Guarantee Guarantee { get; }

    bool Consumes(ProposalLaw law);

    double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token);

    /// <summary>Writes the law (summing to one) of the token that replaces a rejected <paramref name="token"/>.</summary>
    void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual);
}

/// <summary>
/// Accept with min(1, p/q), else draw from norm(max(0, p - q)) (Leviathan et al. 2211.17192; Chen et al. 2302.01318; methods.md 1.1).
/// </summary>
public sealed class SoftVerifier : IVerifier
{
    public Guarantee Guarantee => Guarantee.Lossless;

    public bool Consumes(ProposalLaw law) => law == ProposalLaw.Iid;

    /// <summary>A token with q = 0 cannot have been drawn from q; it is rejected.</summary>
    public double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token) =>
        q[token] > 0 ? Math.Min(1, p[token] / q[token]) : 0;

    public void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual)
    {
        var mass = 0.0;
        for (var i = 0; i < p.Length; i++)
        {
            mass += residual[i] = Math.Max(0, p[i] - q[i]);
        }

        // Mass 0 only happens when p = q up to rounding: then p itself is the right law.
        Law.Normalise(residual, mass, p);
    }
}

/// <summary>
/// Accept with p(token), else draw from p without that token. Exact for every proposal chosen independently of the coin, at a lower
/// acceptance than <see cref="SoftVerifier"/> where q is known (methods.md 1.3).
/// </summary>
public sealed class PointMassVerifier : IVerifier
{
    public Guarantee Guarantee => Guarantee.Lossless;

    public bool Consumes(ProposalLaw law) => law is ProposalLaw.PointMass or ProposalLaw.Iid;

    public double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token) => p[token];

    public void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual)
    {
        p.CopyTo(residual);
        residual[token] = 0;
        var mass = 0.0;
        foreach (var value in residual)
        {
            mass += value;
        }

        Law.Normalise(residual, mass, p);
    }
}

file static class Law
{
    public static void Normalise(Span<double> law, double mass, ReadOnlySpan<double> fallback)
    {
        if (mass <= 0)
        {
            fallback.CopyTo(law);
            return;
        }

        for (var i = 0; i < law.Length; i++)
        {
            law[i] /= mass;
        }
    }
}
