using System.Buffers.Binary;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>The length field that ends a gzip member (RFC 1952). GZipStream takes a cut-off file for a short one.</summary>
internal static class GzipTrailer
{
    private const int MinBytes = 18;

    /// <summary>Checks that a gzip file is whole, given how many bytes it unpacked to.</summary>
    /// <exception cref="InvalidDataException">It is cut off.</exception>
    public static void Check(string path, long numBytes)
    {
        using var file = File.OpenRead(path);
        Span<byte> trailer = stackalloc byte[4];
        if (file.Length >= MinBytes)
        {
            file.Position = file.Length - trailer.Length;
            file.ReadExactly(trailer);

            // In a file of several members the field speaks of the last one only: there the comparison says nothing.
            if (BinaryPrimitives.ReadUInt32LittleEndian(trailer) == (uint)numBytes || HasSecondMember(file))
            {
                return;
            }
        }

        throw new InvalidDataException("the gzip data is cut off.");
    }

    private static bool HasSecondMember(FileStream file)
    {
        file.Position = 1;
        using var bytes = new BufferedStream(file, 1 << 16);
        for (int value, last = 0; (value = bytes.ReadByte()) >= 0;)
        {
            last = ((last << 8) | value) & 0xFFFFFF;
            if (last == 0x1F8B08)
            {
                return true;
            }
        }

        return false;
    }
}
