using FastDraft.Modeling.Decoding;

namespace FastDraft.Modeling.Tests.Decoding;

/// <summary>A rule that is right for another proposal law than the one it is given.</summary>
internal sealed class Claims(IVerifier inner) : IVerifier
{
    public Guarantee Guarantee => Guarantee.None;

    public bool Consumes(ProposalLaw law) => true;

    public double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token) => inner.AcceptProbability(p, q, token);

    public void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual) => inner.Residual(p, q, token, residual);
}

/// <summary>Throws a drawn token away because the draft found it unlikely, and draws anew from the target.</summary>
internal sealed class DropsUnlikely(double threshold) : IVerifier
{
    private readonly SoftVerifier _inner = new();

    public Guarantee Guarantee => Guarantee.None;

    public bool Consumes(ProposalLaw law) => true;

    public double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token) =>
        q[token] < threshold ? 0 : _inner.AcceptProbability(p, q, token);

    public void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual)
    {
        if (q[token] < threshold)
        {
            p.CopyTo(residual);
        }
        else
        {
            _inner.Residual(p, q, token, residual);
        }
    }
}

/// <summary>Accepts where a draw from the target equals the draft's, and on a miss draws once more.</summary>
internal sealed class EqualityThenResample : IVerifier
{
    public Guarantee Guarantee => Guarantee.None;

    public bool Consumes(ProposalLaw law) => true;

    public double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token) => p[token];

    public void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual) => p.CopyTo(residual);
}

/// <summary>Accepts with p / (epsilon q): faster, and no longer the target's law.</summary>
internal sealed class Lenient(double epsilon) : IVerifier
{
    private readonly SoftVerifier _inner = new();

    public Guarantee Guarantee => Guarantee.None;

    public bool Consumes(ProposalLaw law) => true;

    public double AcceptProbability(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token) => Math.Min(1, p[token] / (epsilon * q[token]));

    public void Residual(ReadOnlySpan<double> p, ReadOnlySpan<double> q, int token, Span<double> residual) => _inner.Residual(p, q, token, residual);
}
