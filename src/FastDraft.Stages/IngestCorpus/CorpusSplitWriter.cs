using System.IO.Compression;
using System.Security.Cryptography;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>Writes one split of a corpus artifact: rows {"text","source"} in a gzip shard.</summary>
internal sealed class CorpusSplitWriter : IDisposable
{
    private static readonly JsonSerializerOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private readonly string _path;
    private readonly GZipStream _stream;
    private long _numDocuments;
    private long _numBytes;

    public CorpusSplitWriter(string folder, string split)
    {
        _path = Path.Combine(folder, split + "-00000.jsonl.gz");
        _stream = new GZipStream(File.Create(_path), CompressionLevel.Fastest);
    }

    public void Write(string text, SpooledDocument document)
    {
        _stream.Write(JsonSerializer.SerializeToUtf8Bytes(new { text, source = document.Source }, Json));
        _stream.WriteByte((byte)'\n');
        _numDocuments++;
        _numBytes += document.NumBytes;
    }

    /// <summary>Closes the shard and describes the split for the manifest. Bytes are those of the text as UTF-8.</summary>
    public object Complete()
    {
        _stream.Dispose();
        var shard = new { name = Path.GetFileName(_path), sha256 = CorpusSources.Sha256(_path) };
        return new { numDocuments = _numDocuments, numBytes = _numBytes, shards = new[] { shard } };
    }

    public void Dispose() => _stream.Dispose();
}
