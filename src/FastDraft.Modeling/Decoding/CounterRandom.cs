namespace FastDraft.Modeling.Decoding;

/// <summary>What a random number is for: each purpose has its own stream, so that no draw can correlate with another.</summary>
public enum RandomPurpose
{
    DraftDraw = 1,
    AcceptCoin = 2,
    TargetDraw = 3,
}

/// <summary>
/// Counter-based randomness: a pure function of (seed, absolute position, purpose), so a text never depends on how work was
/// split (methods.md 1.6). Three rounds of the SplitMix64 finalizer.
/// </summary>
public static class CounterRandom
{
    /// <summary>A number in [0, 1) with 53 random bits.</summary>
    public static double NextUniform(ulong seed, long position, RandomPurpose purpose)
    {
        var state = Mix(seed + 0x9E3779B97F4A7C15UL);
        state = Mix(state ^ ((ulong)position + 0x632BE59BD9B4E019UL));
        state = Mix(state + ((ulong)purpose * 0x9E3779B97F4A7C15UL));
        return (state >> 11) * (1.0 / (1UL << 53));
    }

    /// <summary>An independent seed for a numbered part (a row, a prompt) of a larger piece of work.</summary>
    public static ulong Derive(ulong seed, ulong part) => Mix(Mix(seed + 0x9E3779B97F4A7C15UL) ^ Mix(part + 0xD1B54A32D192ED03UL));

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBUL;
        return z ^ (z >> 31);
    }
}
