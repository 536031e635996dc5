using System.Net;

namespace FastDraft.Storage.S3;

/// <summary>Part of a file as the body of a request: read from disk while it is sent, so its length costs no memory, and each try reads it anew.</summary>
/// <param name="moved">Called after each piece that went out.</param>
internal sealed class FilePartContent(string path, BlobPart part, Action moved) : HttpContent
{
    private const int PieceBytes = 128 << 10;

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        await using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 0);
        file.Position = part.Offset;
        var buffer = new byte[PieceBytes];
        for (var left = part.Length; left > 0;)
        {
            var piece = buffer.AsMemory(0, (int)Math.Min(left, buffer.Length));
            await file.ReadExactlyAsync(piece, cancellationToken);
            await stream.WriteAsync(piece, cancellationToken);
            left -= piece.Length;
            moved();
        }
    }

    protected override bool TryComputeLength(out long length)
    {
        length = part.Length;
        return true;
    }
}
