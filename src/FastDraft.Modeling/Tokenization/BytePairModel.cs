using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;

namespace FastDraft.Modeling.Tokenization;

/// <summary>
/// Byte pair merges by rank, then by position (Sennrich et al. 2016, arXiv:1508.07909). A heap keeps a word of n symbols at
/// O(n log n), so that an adversarial word of a megabyte does not stall. Safe for concurrent use.
/// </summary>
internal sealed class BytePairModel
{
    private const int MaxCachedWords = 200_000;
    private const int MaxCachedLength = 48;
    private readonly Dictionary<string, int> vocabulary = new(StringComparer.Ordinal);
    private readonly Dictionary<long, (int Rank, int Id)> merges = [];
    private readonly ConcurrentDictionary<string, int[]> cache = new(StringComparer.Ordinal);
    private readonly int[] byteLevelIds = new int[256];
    private readonly int[] fallbackIds = new int[256];
    private readonly int unknownId = -1;
    private readonly bool byteLevel;
    private readonly bool fuseUnknown;
    private readonly bool byteFallback;
    private readonly bool ignoreMerges;
    private int numCached;

    public BytePairModel(JsonElement model, bool byteLevel)
    {
        this.byteLevel = byteLevel;
        if (JsonText(model, "type") is { } type && type != "BPE")
        {
            throw new TokenizerException($"model.type is '{type}'; only BPE is read.");
        }

        foreach (var name in new[] { "continuing_subword_prefix", "end_of_word_suffix" })
        {
            if (!string.IsNullOrEmpty(JsonText(model, name)))
            {
                throw new TokenizerException($"model.{name} is set; only tokenizers without it are read.");
            }
        }

        if (model.TryGetProperty("dropout", out var dropout) && dropout.ValueKind == JsonValueKind.Number && dropout.GetDouble() > 0)
        {
            throw new TokenizerException("model.dropout is set; a random segmentation has no exact encoding.");
        }

        foreach (var entry in model.GetProperty("vocab").EnumerateObject())
        {
            vocabulary[entry.Name] = entry.Value.GetInt32();
        }

        fuseUnknown = Flag(model, "fuse_unk");
        byteFallback = Flag(model, "byte_fallback");
        ignoreMerges = Flag(model, "ignore_merges");
        if (JsonText(model, "unk_token") is { } unknown && !vocabulary.TryGetValue(unknown, out unknownId))
        {
            throw new TokenizerException($"model.unk_token '{unknown}' is not in model.vocab.");
        }

        for (var b = 0; b < 256; b++)
        {
            byteLevelIds[b] = vocabulary.GetValueOrDefault(ByteLevelAlphabet.ToChar((byte)b).ToString(), -1);
            fallbackIds[b] = vocabulary.GetValueOrDefault($"<0x{b:X2}>", -1);
        }

        SplitsBeforeMetaspace = byteFallback && Array.TrueForAll(fallbackIds, id => id >= 0);
        ReadMerges(model.GetProperty("merges"));
    }

    /// <summary>True when no merge joins a piece to a following U+2581, so that cutting there changes nothing.</summary>
    public bool SplitsBeforeMetaspace { get; private set; }

    public IReadOnlyDictionary<string, int> Vocabulary => vocabulary;

    public void Encode(ReadOnlySpan<char> word, List<int> ids)
    {
        if (word.Length > MaxCachedLength)
        {
            ids.AddRange(Merge(word));
            return;
        }

        if (!cache.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(word, out var merged))
        {
            merged = Merge(word);
            if (Volatile.Read(ref numCached) < MaxCachedWords && cache.TryAdd(word.ToString(), merged))
            {
                Interlocked.Increment(ref numCached);
            }
        }

        ids.AddRange(merged);
    }

    private static string? JsonText(JsonElement e, string name) =>
        e.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private static bool Flag(JsonElement e, string name) => e.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.True;

    private void ReadMerges(JsonElement list)
    {
        var rank = 0;
        foreach (var merge in list.EnumerateArray())
        {
            string? left = null, right = null;
            if (merge.ValueKind == JsonValueKind.Array && merge.GetArrayLength() == 2)
            {
                (left, right) = (merge[0].GetString(), merge[1].GetString());
            }
            else if (merge.ValueKind == JsonValueKind.String && merge.GetString()!.Split(' ') is [var l, var r])
            {
                (left, right) = (l, r);
            }

            if (left is null || right is null || !vocabulary.TryGetValue(left, out var a)
                || !vocabulary.TryGetValue(right, out var b) || !vocabulary.TryGetValue(left + right, out var id))
            {
                throw new TokenizerException($"model.merges[{rank}] ({merge.GetRawText()}) is not a pair whose parts and joined text are in model.vocab.");
            }

            merges[Key(a, b)] = (rank++, id);
            SplitsBeforeMetaspace &= right[0] != '\u2581' || left[^1] == '\u2581';
        }
    }

    private static long Key(int left, int right) => ((long)left << 32) | (uint)right;

    private int[] Merge(ReadOnlySpan<char> word)
    {
        var symbols = Symbols(word);
        if (ignoreMerges && vocabulary.TryGetValue(byteLevel ? ByteLevelAlphabet.Map(word) : word.ToString(), out var whole))
        {
            return [whole];
        }

        var count = symbols.Count;
        if (count < 2)
        {
            return [.. symbols];
        }

        var ids = symbols.ToArray();
        var next = new int[count];
        var previous = new int[count];
        var queue = new PriorityQueue<(int Position, int Id), long>();
        for (var i = 0; i < count; i++)
        {
            next[i] = i + 1 < count ? i + 1 : -1;
            previous[i] = i - 1;
            Offer(i);
        }

        while (queue.TryDequeue(out var top, out _))
        {
            var (at, id) = top;
            var right = ids[at] < 0 ? -1 : next[at];
            if (right < 0 || !merges.TryGetValue(Key(ids[at], ids[right]), out var merge) || merge.Id != id)
            {
                continue;
            }

            ids[at] = id;
            ids[right] = -1;
            next[at] = next[right];
            if (next[at] >= 0)
            {
                previous[next[at]] = at;
            }

            if (previous[at] >= 0)
            {
                Offer(previous[at]);
            }

            Offer(at);
        }

        return Array.FindAll(ids, id => id >= 0);

        void Offer(int at)
        {
            if (next[at] >= 0 && merges.TryGetValue(Key(ids[at], ids[next[at]]), out var merge))
            {
                queue.Enqueue((at, merge.Id), ((long)merge.Rank << 32) | (uint)at);
            }
        }
    }

    private List<int> Symbols(ReadOnlySpan<char> word)
    {
        var symbols = new List<int>(word.Length);
        var afterUnknown = false;
        Span<byte> utf8 = stackalloc byte[4];
        var lookup = vocabulary.GetAlternateLookup<ReadOnlySpan<char>>();
        while (!word.IsEmpty)
        {
            Rune.DecodeFromUtf16(word, out var rune, out var length);
            var bytes = utf8[..rune.EncodeToUtf8(utf8)];
            if (byteLevel)
            {
                foreach (var b in bytes)
                {
                    Add(byteLevelIds[b]);
                }
            }
            else if (lookup.TryGetValue(word[..length], out var id))
            {
                Add(id);
            }
            else if (byteFallback && AllKnown(bytes))
            {
                foreach (var b in bytes)
                {
                    Add(fallbackIds[b]);
                }
            }
            else
            {
                Add(-1);
            }

            word = word[length..];
        }

        return symbols;

        void Add(int id)
        {
            if (id >= 0)
            {
                symbols.Add(id);
                afterUnknown = false;
            }
            else if (unknownId >= 0 && !(fuseUnknown && afterUnknown))
            {
                symbols.Add(unknownId);
                afterUnknown = true;
            }
        }
    }

    private bool AllKnown(ReadOnlySpan<byte> bytes)
    {
        foreach (var b in bytes)
        {
            if (fallbackIds[b] < 0)
            {
                return false;
            }
        }

        return true;
    }
}
