using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>
/// The distinct documents in a scratch file, so that the corpus may be larger than memory and still be drawn from as a whole.
/// Where a document stands and which split it joins depend only on its words and the seed, not on its file or its neighbours.
/// </summary>
internal sealed class DocumentSpool(string scratchFolder, long seed, SeenDocuments seen) : IDisposable
{
    private readonly FileStream _file = new(
        Path.Combine(scratchFolder, "documents.spool"), FileMode.Create, FileAccess.ReadWrite, FileShare.None, 1 << 16, FileOptions.DeleteOnClose);

    private readonly HashSet<Int128> _here = [];
    private readonly List<SpooledDocument> _documents = [];

    /// <summary>How many distinct documents an earlier run had ingested.</summary>
    public long NumSeen { get; private set; }

    /// <summary>Adds a document unless one of the same words (white space aside) is there already, or was in an earlier run.</summary>
    /// <returns>False for a duplicate.</returns>
    public bool Add(string text, string source)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))));
        var identity = BinaryPrimitives.ReadInt128LittleEndian(hash);
        if (!_here.Add(identity))
        {
            return false;
        }

        if (seen.Contains(identity))
        {
            NumSeen++;
            return true;
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
            source,
            identity));
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

/// <summary>
/// One document of the spool. <see cref="Validation"/>, uniform in [0, 1), decides its split; <see cref="Order"/> its place;
/// <see cref="Identity"/>, half of a SHA-256 of its words, says which document it is.
/// </summary>
internal sealed record SpooledDocument(double Validation, ulong Order, long Offset, int NumBytes, string Source, Int128 Identity);
