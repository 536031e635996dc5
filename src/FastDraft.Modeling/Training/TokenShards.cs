using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace FastDraft.Modeling.Training;

/// <summary>A token-shards folder, memory-mapped: opening costs nothing, and the page cache is shared between attempts.</summary>
public sealed class TokenShards : IDisposable
{
    private readonly SortedDictionary<string, TokenSplit> _splits = new(StringComparer.Ordinal);

    private TokenShards(TokenShardManifest manifest) => (VocabularySize, TokenizerDigest) = (manifest.VocabularySize, manifest.TokenizerDigest);

    public int VocabularySize { get; }

    /// <summary>Hex SHA-256 of the tokenizer.json that made the ids.</summary>
    public string TokenizerDigest { get; }

    /// <exception cref="InvalidDataException">No complete token-shards folder, or its files are not as long as its manifest says.</exception>
    public static TokenShards Open(string folder)
    {
        var path = Path.Combine(folder, TokenShardManifest.FileName);
        if (!File.Exists(path))
        {
            throw new InvalidDataException($"'{folder}' holds no {TokenShardManifest.FileName}: it is not a finished token-shards folder.");
        }

        TokenShardManifest manifest;
        try
        {
            manifest = JsonSerializer.Deserialize<TokenShardManifest>(File.ReadAllBytes(path), TokenShardManifest.Json)!;
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"'{path}' is not a token-shards manifest: {e.Message}", e);
        }

        if (manifest.Format != TokenShardManifest.CurrentFormat || manifest.Dtype is not ("uint16" or "uint32"))
        {
            throw new InvalidDataException($"'{path}' has format '{manifest.Format}' and dtype '{manifest.Dtype}'; expected {TokenShardManifest.CurrentFormat} and uint16 or uint32.");
        }

        var opened = new TokenShards(manifest);
        try
        {
            foreach (var (name, entry) in manifest.Splits)
            {
                opened._splits[name] = new TokenSplit(folder, entry, manifest.Dtype == "uint16" ? 2 : 4);
            }

            return opened;
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    /// <summary>The named split (<c>train</c>, <c>validation</c>).</summary>
    /// <exception cref="InvalidDataException">There is no such split.</exception>
    public TokenSplit Split(string name) => _splits.TryGetValue(name, out var split)
        ? split
        : throw new InvalidDataException($"The token shards have no split '{name}'; they have: {string.Join(", ", _splits.Keys)}.");

    public bool HasSplit(string name) => _splits.ContainsKey(name);

    public void Dispose()
    {
        foreach (var split in _splits.Values)
        {
            split.Dispose();
        }
    }
}

/// <summary>One split as a single run of token ids, whatever files it lies in.</summary>
public sealed unsafe class TokenSplit : IDisposable
{
    private readonly List<(MemoryMappedFile File, MemoryMappedViewAccessor View, long Start, long Length)> _maps = [];
    private readonly int _width;

    internal TokenSplit(string folder, TokenShardManifest.Entry entry, int width)
    {
        (_width, NumDocuments) = (width, entry.NumDocuments);
        try
        {
            foreach (var shard in entry.Shards)
            {
                var path = Path.Combine(folder, shard);
                var info = new FileInfo(path);
                if (!info.Exists || info.Length == 0 || info.Length % width != 0)
                {
                    throw new InvalidDataException($"Token shard '{path}' is missing, empty or cut off.");
                }

                var file = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
                var view = file.CreateViewAccessor(0, info.Length, MemoryMappedFileAccess.Read);
                _maps.Add((file, view, NumTokens, info.Length / width));
                NumTokens += info.Length / width;
            }

            if (NumTokens != entry.NumTokens)
            {
                throw new InvalidDataException($"The token shards in '{folder}' hold {NumTokens} tokens where the manifest says {entry.NumTokens}.");
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public long NumTokens { get; }

    public long NumDocuments { get; }

    /// <summary>Copies the ids at [position, position + destination.Length).</summary>
    /// <exception cref="ArgumentOutOfRangeException">The range lies outside the split.</exception>
    public void CopyTo(long position, Span<int> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(position);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(position + destination.Length, NumTokens, nameof(position));
        foreach (var (_, view, start, length) in _maps)
        {
            if (destination.IsEmpty)
            {
                return;
            }

            if (position >= start + length)
            {
                continue;
            }

            var count = (int)Math.Min(destination.Length, start + length - position);
            byte* pointer = null;
            view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
            try
            {
                var bytes = new ReadOnlySpan<byte>(pointer + ((position - start) * _width), count * _width);
                Widen(bytes, destination[..count]);
            }
            finally
            {
                view.SafeMemoryMappedViewHandle.ReleasePointer();
            }

            destination = destination[count..];
            position += count;
        }
    }

    public void Dispose()
    {
        foreach (var (file, view, _, _) in _maps)
        {
            view.Dispose();
            file.Dispose();
        }

        _maps.Clear();
    }

    private void Widen(ReadOnlySpan<byte> bytes, Span<int> destination)
    {
        if (_width == 4)
        {
            MemoryMarshal.Cast<byte, int>(bytes).CopyTo(destination);
            return;
        }

        var ids = MemoryMarshal.Cast<byte, ushort>(bytes);
        for (var i = 0; i < ids.Length; i++)
        {
            destination[i] = ids[i];
        }
    }
}
