using System.Buffers.Binary;
using System.Text.Json;
using FastDraft.Core.Stages;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>
/// A <c>seen-documents</c> artifact: 16 bytes of each document's SHA-256 (little-endian, of its words with single spaces between
/// them), in rising order, so that the same documents give the same bytes in whatever order they came.
/// </summary>
internal sealed class SeenDocuments
{
    private const string FileName = "documents.bin";
    private const int NumBytesEach = 16;

    private readonly HashSet<Int128> _identities;

    private SeenDocuments(HashSet<Int128> identities) => _identities = identities;

    public static SeenDocuments Nothing { get; } = new([]);

    public bool Contains(Int128 identity) => _identities.Contains(identity);

    public SeenDocuments With(IEnumerable<Int128> more) => new([.. _identities, .. more]);

    /// <exception cref="StageFailureException">Data: the file is missing or cut off.</exception>
    public static SeenDocuments Read(string folder)
    {
        var path = Path.Combine(folder, FileName);
        if (!File.Exists(path) || new FileInfo(path).Length % NumBytesEach != 0)
        {
            throw new StageFailureException(FailureKind.Data, $"{path} is missing or is not a whole number of documents.", "wire 'seen' to FindSeenDocuments");
        }

        using var file = new BufferedStream(File.OpenRead(path), 1 << 16);
        var identities = new HashSet<Int128>((int)(file.Length / NumBytesEach));
        Span<byte> bytes = stackalloc byte[NumBytesEach];
        while (file.ReadAtLeast(bytes, NumBytesEach, throwOnEndOfStream: false) == NumBytesEach)
        {
            identities.Add(BinaryPrimitives.ReadInt128LittleEndian(bytes));
        }

        return new SeenDocuments(identities);
    }

    public void Write(string folder)
    {
        using (var file = new BufferedStream(File.Create(Path.Combine(folder, FileName)), 1 << 16))
        {
            Span<byte> bytes = stackalloc byte[NumBytesEach];
            foreach (var identity in _identities.Order())
            {
                BinaryPrimitives.WriteInt128LittleEndian(bytes, identity);
                file.Write(bytes);
            }
        }

        File.WriteAllText(
            Path.Combine(folder, "manifest.json"),
            JsonSerializer.Serialize(new { format = "fastdraft-seen/1", numDocuments = _identities.Count }));
    }
}
