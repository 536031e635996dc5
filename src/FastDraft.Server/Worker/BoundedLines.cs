using System.Runtime.CompilerServices;
using System.Text;

namespace FastDraft.Server.Worker;

/// <summary>Lines of a stream in constant memory: what goes beyond <paramref name="maxBytes"/> of a line is counted, not kept.</summary>
internal sealed class BoundedLines(Stream source, int maxBytes)
{
    public async IAsyncEnumerable<string> ReadAsync([EnumeratorCancellation] CancellationToken ct = default)
    {
        var buffer = new byte[1 << 16];
        var line = new byte[maxBytes];
        var (length, dropped) = (0, 0L);
        int read;
        while ((read = await source.ReadAsync(buffer, ct)) > 0)
        {
            var rest = buffer.AsMemory(0, read);
            while (!rest.IsEmpty)
            {
                var end = rest.Span.IndexOf((byte)'\n');
                var part = end < 0 ? rest : rest[..end];
                var kept = Math.Min(part.Length, maxBytes - length);
                part[..kept].CopyTo(line.AsMemory(length));
                length += kept;
                dropped += part.Length - kept;
                if (end < 0)
                {
                    break;
                }

                yield return Text();
                (length, dropped) = (0, 0);
                rest = rest[(end + 1)..];
            }
        }

        if (length > 0)
        {
            yield return Text();
        }

        string Text()
        {
            var text = Encoding.UTF8.GetString(line, 0, length).TrimEnd('\r');
            return dropped == 0 ? text : $"{text} [truncated: {dropped} more bytes]";
        }
    }
}
