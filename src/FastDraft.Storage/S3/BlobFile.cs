using System.Security.Cryptography;
using FastDraft.Core.Artifacts;

namespace FastDraft.Storage.S3;

/// <summary>A piece of a file as one request carries it.</summary>
internal sealed record BlobPart(long Offset, long Length, string Sha256Hex, byte[] Md5);

/// <summary>
/// A file that is about to be a blob, read once: its digest, and what each request needs in order to be signed and what the server
/// must answer if it got the same bytes. It must not change from here on.
/// </summary>
internal sealed record BlobFile(string Path, long Length, Digest Digest, IReadOnlyList<BlobPart> Parts)
{
    // S3 takes at most so many parts for an object.
    private const long MaxParts = 10_000;

    public bool IsMultipart => Parts.Count > 1;

    /// <summary>
    /// What an S3 server calls an object with these bytes: the MD5 of one part, or of the parts' MD5s with their number. One that
    /// encrypts by itself may use another name; then the object is sent again where it could have been spared.
    /// </summary>
    public string ExpectedETag => IsMultipart
        ? Convert.ToHexStringLower(Md5Of(Parts.SelectMany(p => p.Md5).ToArray())) + "-" + Parts.Count.ToString(System.Globalization.CultureInfo.InvariantCulture)
        : Convert.ToHexStringLower(Parts[0].Md5);

    /// <summary>Reads in pieces of 1 MiB; nothing of the file is kept.</summary>
    public static async Task<BlobFile> ReadAsync(string path, long partBytes, CancellationToken cancellationToken)
    {
        await using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 0);
        partBytes = Math.Max(partBytes, (file.Length + MaxParts - 1) / MaxParts);
        using var whole = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using var part = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using var md5 = NewMd5();
        var parts = new List<BlobPart>();
        var buffer = new byte[1 << 20];
        long offset = 0, length = 0;
        int read;
        while ((read = await file.ReadAsync(buffer.AsMemory(0, (int)Math.Min(buffer.Length, partBytes - length)), cancellationToken)) > 0)
        {
            whole.AppendData(buffer, 0, read);
            part.AppendData(buffer, 0, read);
            md5.AppendData(buffer, 0, read);
            length += read;
            if (length == partBytes)
            {
                EndPart();
            }
        }

        if (length > 0 || parts.Count == 0)
        {
            EndPart();
        }

        return new BlobFile(path, offset, Digest.FromHash(whole.GetHashAndReset()), parts);

        void EndPart()
        {
            parts.Add(new BlobPart(offset, length, Convert.ToHexStringLower(part.GetHashAndReset()), md5.GetHashAndReset()));
            (offset, length) = (offset + length, 0);
        }
    }

    // MD5 is what S3 names objects by; nothing is trusted for it: that the bytes are right is what SHA-256 says when they are read.
#pragma warning disable CA5351
    private static IncrementalHash NewMd5() => IncrementalHash.CreateHash(HashAlgorithmName.MD5);

    private static byte[] Md5Of(byte[] bytes) => MD5.HashData(bytes);
#pragma warning restore CA5351
}
