using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;

namespace FastDraft.Modeling.Tokenization;

/// <summary>
/// Byte pair merges by rank, then by position (Sennrich et al. 2016, arXiv:1508.07909); an adversarial word of a megabyte takes a second.
/// Safe for concurrent use.
/// </summary>
internal sealed class BytePairModel
{
    private const int MaxCachedWords = 200_000;
    private const int MaxCachedLength = 48;
    private const int MaxScannedSymbols = 96;
    private const int NoRank = int.MaxValue;
    private readonly Dictionary<string, int> vocabulary = new(StringComparer.Ordinal);
    private readonly Dictionary<ulong, (int Rank, int Id)> merges = [];
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
        if (TokenizerJson.Text(model, "type") is { } type && type != "BPE")
        {
            throw new TokenizerException(
                $"model.type is '{type}'; only BPE is read." + (type == "Unigram" ? " A SentencePiece unigram model chooses its pieces by likelihood and cannot be had from merges." : string.Empty));
        }

        foreach (var name in new[] { "continuing_subword_prefix", "end_of_word_suffix" })
        {
            if (!string.IsNullOrEmpty(TokenizerJson.Text(model, name)))
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

        if (vocabulary.GroupBy(v => v.Value).FirstOrDefault(g => g.Skip(1).Any()) is { } same)
        {
            throw new TokenizerException($"model.vocab gives id {same.Key} to both '{same.First().Key}' and '{same.ElementAt(1).Key}'.");
        }

        fuseUnknown = TokenizerJson.Flag(model, "fuse_unk", false);
        byteFallback = TokenizerJson.Flag(model, "byte_fallback", false);
        ignoreMerges = TokenizerJson.Flag(model, "ignore_merges", false);
        if (TokenizerJson.Text(model, "unk_token") is { } unknown && !vocabulary.TryGetValue(unknown, out unknownId))
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

    // Multiplied by an odd number, which no two pairs share: long's own hash would put every pair of equal tokens into one bucket.
    private static ulong Key(int left, int right) => unchecked((((ulong)(uint)left << 32) | (uint)right) * 0x9E3779B97F4A7C15UL);

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

        return count <= MaxScannedSymbols ? MergeByScan([.. symbols]) : MergeByRank([.. symbols]);
    }

    /// <summary>Looks for the lowest rank again after every merge: the fastest way for a word, quadratic in its length.</summary>
    private int[] MergeByScan(int[] ids)
    {
        var count = ids.Length;
        Span<(int Rank, int Id)> pairs = stackalloc (int, int)[count];
        for (var i = 0; i + 1 < count; i++)
        {
            pairs[i] = PairAt(ids[i], ids[i + 1]);
        }

        while (count > 1)
        {
            var best = 0;
            for (var i = 1; i + 1 < count; i++)
            {
                best = pairs[i].Rank < pairs[best].Rank ? i : best;
            }

            if (pairs[best].Rank == NoRank)
            {
                break;
            }

            ids[best] = pairs[best].Id;
            count--;
            ids.AsSpan(best + 2, count - best - 1).CopyTo(ids.AsSpan(best + 1));
            pairs[(best + 1)..(count + 1)].CopyTo(pairs[best..]);
            if (best + 1 < count)
            {
                pairs[best] = PairAt(ids[best], ids[best + 1]);
            }

            if (best > 0)
            {
                pairs[best - 1] = PairAt(ids[best - 1], ids[best]);
            }
        }

        return ids[..count];
    }

    /// <summary>
    /// Takes all places of the lowest rank at once, from left to right, with a list of places for every rank that occurs: linear in the length
    /// but for sorting. A merge that brings up a lower rank (no trained file has one) sends the rest of its list back.
    /// </summary>
    private int[] MergeByRank(int[] ids)
    {
        var count = ids.Length;
        var (next, previous) = (new int[count], new int[count]);
        var places = new Dictionary<int, List<int>>();
        var ranks = new PriorityQueue<int, int>();
        for (var i = 0; i < count; i++)
        {
            (next[i], previous[i]) = (i + 1 < count ? i + 1 : -1, i - 1);
            Offer(i);
        }

        while (ranks.TryDequeue(out var rank, out _))
        {
            places.Remove(rank, out var list);
            for (var i = 1; i < list!.Count; i++)
            {
                if (list[i] < list[i - 1])
                {
                    list.Sort();
                    break;
                }
            }

            for (var i = 0; i < list.Count; i++)
            {
                var at = list[i];
                var right = ids[at] < 0 ? -1 : next[at];
                if (right < 0 || PairAt(ids[at], ids[right]) is var pair && pair.Rank != rank)
                {
                    continue;
                }

                (ids[at], ids[right]) = (pair.Id, -1);
                next[at] = next[right];
                if (next[at] >= 0)
                {
                    previous[next[at]] = at;
                }

                Offer(at);
                if (previous[at] >= 0)
                {
                    Offer(previous[at]);
                }

                if (ranks.TryPeek(out var lowest, out _) && lowest <= rank)
                {
                    foreach (var rest in list.Skip(i + 1))
                    {
                        Offer(rest);
                    }

                    break;
                }
            }
        }

        return Array.FindAll(ids, id => id >= 0);

        void Offer(int at)
        {
            if (ids[at] < 0 || next[at] < 0 || PairAt(ids[at], ids[next[at]]) is var pair && pair.Rank == NoRank)
            {
                return;
            }

            if (!places.TryGetValue(pair.Rank, out var list))
            {
                places.Add(pair.Rank, list = []);
                ranks.Enqueue(pair.Rank, pair.Rank);
            }

            list.Add(at);
        }
    }

    private (int Rank, int Id) PairAt(int left, int right) => merges.TryGetValue(Key(left, right), out var merge) ? merge : (NoRank, -1);

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
