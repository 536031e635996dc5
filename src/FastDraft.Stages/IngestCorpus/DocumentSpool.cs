using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>
/// The distinct documents in a scratch file, so that the corpus may be larger than memory and still be drawn from as a whole.
/// Where a document stands and which split it joins depend only on its words and the seed, not on its file or its neighbours.
/// </summary>
internal sealed class DocumentSpool(string scratchFolder, long seed) : IDisposable
{
    private readonly FileStream _file = new(
        Path.Combine(scratchFolder, "documents.spool"), FileMode.Create, FileAccess.ReadWrite, FileShare.None, 1 << 16, FileOptions.DeleteOnClose);

    private readonly HashSet<Int128> _seen = [];
    private readonly List<SpooledDocument> _documents = [];

    /// <summary>Adds a document unless one of the same words (white space aside) is there already.</summary>
    /// <returns>False for a duplicate.</returns>
    public bool Add(string text, string source)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))));
        if (!_seen.Add(BinaryPrimitives.ReadInt128LittleEndian(hash)))
        {
            return false;
        }

        Span<byte> seeded = stackalloc byte[40];
        hash.CopyTo(seeded);
        BinaryPrimitives.WriteInt64LittleEndian(seeded[32..], seed);
        var draw = SHA256.HashData(seeded);
        var bytes = Encoding.UTF8.GetBytes(text);

        // Two independent draws: a cap, which keeps the lowest Order, must not change the share of documents that validate.
        _documents.Add(new(
            BinaryPrimitives.ReadUInt64LittleEndian(draw) / 18446744073709551616.0,
            BinaryPrimitives.ReadUInt64LittleEndian(draw.AsSpan(8)),
            _file.Position,
            bytes.Length,
            source));
        _file.Write(bytes);
        return true;
    }

    /// <summary>The documents in drawn order, leaving out what would exceed <paramref name="maxBytes"/> of text.</summary>
    public List<SpooledDocument> Draw(long maxBytes)
    {
        var left = maxBytes;
        var drawn = new List<SpooledDocument>();
        foreach (var document in _documents.OrderBy(d => d.Order).ThenBy(d => d.Offset).Where(d => d.NumBytes <= left))
        {
            drawn.Add(document);
            left -= document.NumBytes;
        }

        return drawn;
    }

    public string Read(SpooledDocument document)
    {
        var bytes = new byte[document.NumBytes];
        _file.Position = document.Offset;
        _file.ReadExactly(bytes);
        return Encoding.UTF8.GetString(bytes);
    }

    public void Dispose() => _file.Dispose();
}

/// <summary>One document of the spool. <see cref="Validation"/>, uniform in [0, 1), decides its split; <see cref="Order"/> its place.</summary>
internal sealed record SpooledDocument(double Validation, ulong Order, long Offset, int NumBytes, string Source);
