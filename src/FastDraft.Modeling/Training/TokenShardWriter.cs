using System.Buffers.Binary;
using System.Text.Json;

namespace FastDraft.Modeling.Training;

/// <summary>
/// Writes a token-shards folder: little-endian ids of the narrowest width that holds the vocabulary, and the start offset of every
/// document. The manifest is written last, by <see cref="Complete"/>: a folder without it is an unfinished one.
/// </summary>
public sealed class TokenShardWriter : IDisposable
{
    private readonly string _folder;
    private readonly int _vocabularySize;
    private readonly string _tokenizerDigest;
    private readonly long _maxTokensPerShard;
    private readonly SortedDictionary<string, OpenSplit> _splits = new(StringComparer.Ordinal);

    /// <param name="folder">Created where absent.</param>
    /// <param name="vocabularySize">Ids lie in [0, vocabularySize); at most 65,536 are stored as uint16, more as uint32.</param>
    /// <param name="tokenizerDigest">Hex SHA-256 of the tokenizer.json that made the ids.</param>
    /// <param name="maxTokensPerShard">A split rolls over to a new file after this many tokens.</param>
    public TokenShardWriter(string folder, int vocabularySize, string tokenizerDigest, long maxTokensPerShard = 1L << 28)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(vocabularySize);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxTokensPerShard);
        Directory.CreateDirectory(folder);
        (_folder, _vocabularySize, _tokenizerDigest, _maxTokensPerShard) = (folder, vocabularySize, tokenizerDigest, maxTokensPerShard);
    }

    private int Width => _vocabularySize <= 65536 ? 2 : 4;

    /// <summary>Appends one document to a split.</summary>
    /// <exception cref="ArgumentException">An id lies outside the vocabulary.</exception>
    public void Append(string split, ReadOnlySpan<int> documentIds)
    {
        foreach (var id in documentIds)
        {
            if ((uint)id >= (uint)_vocabularySize)
            {
                throw new ArgumentException($"Token id {id} lies outside the vocabulary of {_vocabularySize}.", nameof(documentIds));
            }
        }

        if (!_splits.TryGetValue(split, out var open))
        {
            _splits[split] = open = new OpenSplit(File.Create(Path.Combine(_folder, $"{split}-documents.bin")));
        }

        Span<byte> start = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(start, open.NumTokens);
        open.Documents.Write(start);
        open.NumDocuments++;
        var bytes = new byte[Width];
        foreach (var id in documentIds)
        {
            if (open.Ids is null || open.NumTokensInShard == _maxTokensPerShard)
            {
                open.Ids?.Dispose();
                var name = $"{split}-{open.Shards.Count:D5}.bin";
                open.Shards.Add(name);
                open.Ids = new FileStream(Path.Combine(_folder, name), FileMode.Create, FileAccess.Write, FileShare.None, 1 << 16);
                open.NumTokensInShard = 0;
            }

            if (bytes.Length == 2)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(bytes, (ushort)id);
            }
            else
            {
                BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)id);
            }

            open.Ids.Write(bytes);
            open.NumTokens++;
            open.NumTokensInShard++;
        }
    }

    /// <summary>Closes the files and writes the manifest.</summary>
    public void Complete()
    {
        Dispose();
        var manifest = new TokenShardManifest(
            TokenShardManifest.CurrentFormat,
            Width == 2 ? "uint16" : "uint32",
            _tokenizerDigest,
            _vocabularySize,
            new(_splits.ToDictionary(s => s.Key, s => new TokenShardManifest.Entry(s.Value.NumTokens, s.Value.NumDocuments, s.Value.Shards)), StringComparer.Ordinal));
        var path = Path.Combine(_folder, TokenShardManifest.FileName);
        using (var stream = File.Create(path + ".tmp"))
        {
            JsonSerializer.Serialize(stream, manifest, TokenShardManifest.Json);
            stream.Flush(flushToDisk: true);
        }

        File.Move(path + ".tmp", path, overwrite: true);
    }

    public void Dispose()
    {
        foreach (var open in _splits.Values)
        {
            open.Ids?.Dispose();
            open.Documents.Dispose();
        }
    }

    private sealed class OpenSplit(Stream documents)
    {
        public Stream Documents { get; } = documents;

        public Stream? Ids { get; set; }

        public List<string> Shards { get; } = [];

        public long NumTokens { get; set; }

        public long NumTokensInShard { get; set; }

        public long NumDocuments { get; set; }
    }
}
