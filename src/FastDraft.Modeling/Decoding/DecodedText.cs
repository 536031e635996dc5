using System.Buffers;

namespace FastDraft.Modeling.Decoding;

/// <summary>Prompt and committed tokens in one rented buffer, and the one place that decides when a text ends.</summary>
internal sealed class DecodedText : IDisposable
{
    private readonly int[] _ids;
    private readonly int _promptLength;
    private readonly int _limit;
    private readonly bool _limitedByContext;
    private readonly GenerationOptions _options;
    private readonly Action<int>? _onToken;
    private bool _ended;

    public DecodedText(ReadOnlySpan<int> prompt, GenerationOptions options, int contextLength, Action<int>? onToken)
    {
        options.Validate();
        if (prompt.IsEmpty || prompt.Length > contextLength)
        {
            throw new ArgumentException($"A prompt has 1 to {contextLength} tokens (the target's context), got {prompt.Length}.", nameof(prompt));
        }

        _options = options;
        _onToken = onToken;
        _promptLength = prompt.Length;
        _limitedByContext = contextLength - prompt.Length < options.MaxNewTokens;
        _limit = _limitedByContext ? contextLength : prompt.Length + options.MaxNewTokens;
        _ids = ArrayPool<int>.Shared.Rent(_limit);
        prompt.CopyTo(_ids);
        Length = prompt.Length;
    }

    public int Length { get; private set; }

    public ReadOnlySpan<int> Committed => _ids.AsSpan(0, Length);

    /// <summary>Tokens that may still be appended.</summary>
    public int Remaining => _ended ? 0 : _limit - Length;

    public int Capacity(int contextLength) => Math.Min(contextLength, _limit);

    /// <returns>False when the text ended with this token.</returns>
    public bool Append(int token)
    {
        _ids[Length++] = token;
        _ended = _options.IsEos(token);
        _onToken?.Invoke(token);
        return Remaining > 0;
    }

    public GenerationResult Finish(IReadOnlyList<BlockEvent> blocks, long prefillTicks, long decodeTicks) => new(
        _ids.AsSpan(_promptLength, Length - _promptLength).ToArray(),
        blocks,
        prefillTicks,
        decodeTicks,
        _ended ? FinishReason.Eos : _limitedByContext ? FinishReason.Context : FinishReason.Length);

    public void Dispose() => ArrayPool<int>.Shared.Return(_ids);
}
