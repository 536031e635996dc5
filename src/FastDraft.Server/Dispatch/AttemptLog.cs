using System.Diagnostics;
using System.Text;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// The file with an attempt's lines. It is an account of the work, not the work: beyond <see cref="MaxBytes"/>, and on a full
/// disk, lines are dropped and the attempt goes on.
/// </summary>
internal sealed class AttemptLog(string path) : IDisposable
{
    public const long MaxBytes = 64 << 20;

    private readonly Lock gate = new();
    private readonly FileStream file = new(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
    private bool closed;

    public void Write(string json)
    {
        lock (gate)
        {
            if (closed)
            {
                return;
            }

            try
            {
                file.Write(Encoding.UTF8.GetBytes(json + "\n"));
                if (file.Length > MaxBytes)
                {
                    file.Write("{\"type\":\"log\",\"level\":\"Warning\",\"message\":\"[truncated: this attempt wrote more than its log may hold]\"}\n"u8);
                    closed = true;
                }
            }
            catch (IOException e)
            {
                Trace.TraceWarning(e.Message);
                closed = true;
            }
        }
    }

    public void Dispose() => file.Dispose();
}
