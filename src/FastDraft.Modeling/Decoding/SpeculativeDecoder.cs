using System.Buffers;
using System.Diagnostics;
using FastDraft.Modeling.Models;

namespace FastDraft.Modeling.Decoding;

/// <summary>
/// Speculative decoding of one sequence (methods.md 1.1-1.4). With n committed tokens, the target's cache holds n - 1 positions before
/// every block and the draft's at most n - 1; both are rolled back to committed tokens after it. Greedy output is the target's own;
/// sampled output has the target's own law, but not the text that plain sampling gives for the same seed.
/// </summary>
public sealed class SpeculativeDecoder
{
    private readonly ICausalModel _target;
    private readonly ICausalModel _draft;
    private readonly ProposalLaw _law;
    private readonly IVerifier _verifier;

    /// <summary>Drafts are drawn from the draft's law (or its argmax at temperature 0) and verified with <see cref="SoftVerifier"/>.</summary>
    public SpeculativeDecoder(ICausalModel target, ICausalModel draft)
        : this(target, draft, ProposalLaw.Iid, new SoftVerifier())
    {
    }

    /// <param name="target">The model whose law is kept.</param>
    /// <param name="draft">The model that proposes.</param>
    /// <param name="law">
    /// <see cref="ProposalLaw.Iid"/> draws draft tokens from q; <see cref="ProposalLaw.PointMass"/> proposes the draft's argmax at every temperature.
    /// </param>
    /// <param name="verifier">A rule that consumes <paramref name="law"/>.</param>
    /// <exception cref="ArgumentException">The vocabularies differ, or the verifier would be biased for this proposal law.</exception>
    public SpeculativeDecoder(ICausalModel target, ICausalModel draft, ProposalLaw law, IVerifier verifier)
    {
        if (target.VocabularySize != draft.VocabularySize)
        {
            throw new ArgumentException(
                $"Target and draft must share a vocabulary: {target.VocabularySize} against {draft.VocabularySize} tokens.", nameof(draft));
        }

        if (law == ProposalLaw.WithoutReplacement || !verifier.Consumes(law))
        {
            throw new ArgumentException($"{verifier.GetType().Name} is not exact for {law} proposals of a single sequence.", nameof(verifier));
        }

        (_target, _draft, _law, _verifier) = (target, draft, law, verifier);
    }

    public Guarantee Guarantee => _verifier.Guarantee;

    /// <summary>Generates after <paramref name="prompt"/>; an end-of-sequence token, when reached, is the last id.</summary>
    /// <exception cref="ArgumentException">The prompt is empty or longer than the target's context, or an option is out of range.</exception>
    public GenerationResult Generate(ReadOnlySpan<int> prompt, GenerationOptions options, Action<int>? onToken = null)
    {
        using var text = new DecodedText(prompt, options, _target.ContextLength, onToken);
        var started = Stopwatch.GetTimestamp();
        using var target = _target.StartSession(1, text.Capacity(_target.ContextLength));
        using var draft = _draft.StartSession(1, text.Capacity(_draft.ContextLength));
        using var buffers = new Buffers(_target.VocabularySize, Math.Min(options.DraftLength, text.Remaining), options);
        var blocks = new List<BlockEvent>();
        if (text.Length > 1)
        {
            target.Forward(text.Committed[..^1], buffers.Row(0), 1);
            if (text.Length <= _draft.ContextLength && options.DraftLength > 0)
            {
                draft.Forward(text.Committed[..^1], buffers.Row(0), 1);
            }
        }

        var prefilled = Stopwatch.GetTimestamp();
        while (text.Remaining > 0)
        {
            blocks.Add(DecodeBlock(text, target, draft, buffers, options));
        }

        return text.Finish(blocks, prefilled - started, Stopwatch.GetTimestamp() - prefilled);
    }

    private BlockEvent DecodeBlock(DecodedText text, ICausalSession target, ICausalSession draft, Buffers buffers, GenerationOptions options)
    {
        var before = Stopwatch.GetTimestamp();
        var length = text.Length;

        // One token less than the budget, because the target adds one; the last drafted token is never fed to the draft.
        var budget = Math.Min(options.DraftLength, Math.Min(text.Remaining - 1, _draft.ContextLength - length + 1));
        var drafted = Propose(text, draft, buffers, options, Math.Max(0, budget));
        var proposed = Stopwatch.GetTimestamp();

        var fed = buffers.Fed.AsSpan(0, drafted + 1);
        fed[0] = text.Committed[^1];
        buffers.Drafted.AsSpan(0, drafted).CopyTo(fed[1..]);
        target.Forward(fed, buffers.Logits.AsSpan(0, (drafted + 1) * buffers.VocabularySize), drafted + 1);
        var accepted = options.Temperature == 0
            ? VerifyGreedily(buffers, drafted, out var next)
            : VerifyBySampling(buffers, drafted, length, options, out next);
        var overlaps = options.RecordOverlaps ? buffers.Overlaps.AsSpan(0, Math.Min(accepted + 1, drafted)).ToArray() : [];

        var open = true;
        for (var i = 0; i < accepted && open; i++)
        {
            open = text.Append(buffers.Drafted[i]);
        }

        if (open)
        {
            text.Append(next);
        }

        target.Rollback(text.Length - 1);
        draft.Rollback(Math.Min(draft.Length, text.Length - 1));
        return new BlockEvent(
            drafted, accepted, text.Length - length, overlaps, proposed - before, Stopwatch.GetTimestamp() - proposed);
    }

    /// <summary>
    /// Catches the draft up with the committed tokens and drafts. Stopping at a drafted end-of-sequence token is unbiased, because
    /// that token stays in the draft (methods.md 1.9).
    /// </summary>
    private int Propose(DecodedText text, ICausalSession draft, Buffers buffers, GenerationOptions options, int budget)
    {
        for (var i = 0; i < budget; i++)
        {
            var logits = buffers.Row(0);
            draft.Forward(i == 0 ? text.Committed[draft.Length..] : buffers.Drafted.AsSpan(i - 1, 1), logits, 1);
            if (options.Temperature > 0)
            {
                Sampling.Transform(logits, buffers.Law(i), options.Temperature, options.TopK, options.TopP);
            }
            else if (options.RecordOverlaps)
            {
                Sampling.Transform(logits, buffers.Law(i), 1);
            }

            var token = options.Temperature == 0 || _law == ProposalLaw.PointMass
                ? Sampling.ArgMax(logits)
                : Sampling.Draw(
                    buffers.Law(i), CounterRandom.NextUniform(options.Seed, text.Length + i, RandomPurpose.DraftDraw));
            buffers.Drafted[i] = token;
            if (options.IsEos(token))
            {
                return i + 1;
            }
        }

        return budget;
    }

    private static int VerifyGreedily(Buffers buffers, int drafted, out int next)
    {
        for (var i = 0; ; i++)
        {
            var logits = buffers.Row(i);
            next = Sampling.ArgMax(logits);
            if (i == drafted)
            {
                return drafted;
            }

            if (buffers.Overlaps.Length > 0)
            {
                Sampling.Transform(logits, buffers.TargetLaw, 1);
                buffers.Overlaps[i] = Sampling.Overlap(buffers.TargetLaw, buffers.Law(i));
            }

            if (next != buffers.Drafted[i])
            {
                return i;
            }
        }
    }

    private int VerifyBySampling(Buffers buffers, int drafted, int length, GenerationOptions options, out int next)
    {
        for (var i = 0; ; i++)
        {
            Sampling.Transform(buffers.Row(i), buffers.TargetLaw, options.Temperature, options.TopK, options.TopP);
            var draw = CounterRandom.NextUniform(options.Seed, length + i, RandomPurpose.TargetDraw);
            if (i == drafted)
            {
                next = Sampling.Draw(buffers.TargetLaw, draw);
                return drafted;
            }

            if (buffers.Overlaps.Length > 0)
            {
                buffers.Overlaps[i] = Sampling.Overlap(buffers.TargetLaw, buffers.Law(i));
            }

            var token = buffers.Drafted[i];
            var coin = CounterRandom.NextUniform(options.Seed, length + i, RandomPurpose.AcceptCoin);
            if (coin >= _verifier.AcceptProbability(buffers.TargetLaw, buffers.Law(i), token))
            {
                _verifier.Residual(buffers.TargetLaw, buffers.Law(i), token, buffers.ResidualLaw);
                next = Sampling.Draw(buffers.ResidualLaw, draw);
                return i;
            }
        }
    }

    /// <summary>Everything a text needs, rented once.</summary>
    private sealed class Buffers : IDisposable
    {
        private readonly double[] _laws;

        public Buffers(int vocabularySize, int draftLength, GenerationOptions options)
        {
            var laws = options.Temperature > 0 || options.RecordOverlaps ? draftLength + 2 : 0;
            VocabularySize = vocabularySize;
            Logits = ArrayPool<float>.Shared.Rent((draftLength + 1) * vocabularySize);
            _laws = ArrayPool<double>.Shared.Rent(laws * vocabularySize);
            Drafted = new int[draftLength];
            Fed = new int[draftLength + 1];
            Overlaps = options.RecordOverlaps ? new double[draftLength] : [];
        }

        public int VocabularySize { get; }

        public float[] Logits { get; }

        public int[] Drafted { get; }

        public int[] Fed { get; }

        public double[] Overlaps { get; }

        public Span<double> TargetLaw => Rows(0);

        public Span<double> ResidualLaw => Rows(1);

        public Span<float> Row(int row) => Logits.AsSpan(row * VocabularySize, VocabularySize);

        /// <summary>q of a drafted position; empty when no law is kept.</summary>
        public Span<double> Law(int position) => Rows(position + 2);

        public void Dispose()
        {
            ArrayPool<float>.Shared.Return(Logits);
            ArrayPool<double>.Shared.Return(_laws);
        }

        private Span<double> Rows(int row) =>
            _laws.Length == 0 ? [] : _laws.AsSpan(row * VocabularySize, VocabularySize);
    }
}
