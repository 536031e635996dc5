using System.Text;

namespace FastDraft.Export.Gguf;

/// <summary>How a tensor is stored; the values are those of the file format.</summary>
internal enum GgufTensorType
{
    F32 = 0,
    F16 = 1,
    Q8_0 = 8,
    BF16 = 30,
}

/// <summary>A tensor to write. Dimensions outermost first, as everywhere here; the file has them innermost first.</summary>
internal sealed record GgufTensor(string Name, GgufTensorType Type, long[] Shape, long Bytes, Action<Stream> Write);

/// <summary>Writes the GGUF container, version 3: header, metadata, tensor table, aligned tensors. Nothing is held but the metadata.</summary>
internal sealed class GgufFile : IDisposable
{
    private const int Alignment = 32;

    private readonly MemoryStream _metadata = new();
    private readonly BinaryWriter _writer;
    private readonly List<GgufTensor> _tensors = [];
    private ulong _numEntries;

    public GgufFile() => _writer = new BinaryWriter(_metadata, Encoding.UTF8);

    // Types of metadata values in the format.
    private enum ValueType
    {
        UInt32 = 4,
        Int32 = 5,
        Float32 = 6,
        Bool = 7,
        String = 8,
        Array = 9,
    }

    public void Add(string key, string value)
    {
        Key(key, ValueType.String);
        Text(_writer, value);
    }

    public void Add(string key, int value)
    {
        Key(key, ValueType.UInt32);
        _writer.Write(checked((uint)value));
    }

    public void Add(string key, float value)
    {
        Key(key, ValueType.Float32);
        _writer.Write(value);
    }

    public void Add(string key, bool value)
    {
        Key(key, ValueType.Bool);
        _writer.Write(value);
    }

    public void Add(string key, IReadOnlyCollection<string> values) => Array(key, ValueType.String, values, v => Text(_writer, v));

    public void Add(string key, IReadOnlyCollection<float> values) => Array(key, ValueType.Float32, values, v => _writer.Write(v));

    public void Add(string key, IReadOnlyCollection<int> values) => Array(key, ValueType.Int32, values, v => _writer.Write(v));

    public void Add(GgufTensor tensor) => _tensors.Add(tensor);

    public void Save(string path)
    {
        using var file = File.Create(path);
        using var writer = new BinaryWriter(file, Encoding.UTF8);
        writer.Write("GGUF"u8);
        writer.Write(3u);
        writer.Write((ulong)_tensors.Count);
        writer.Write(_numEntries);
        writer.Flush();
        _writer.Flush();
        _metadata.WriteTo(file);
        var offset = 0L;
        foreach (var tensor in _tensors)
        {
            Text(writer, tensor.Name);
            writer.Write((uint)tensor.Shape.Length);
            foreach (var dimension in tensor.Shape.Reverse())
            {
                writer.Write((ulong)dimension);
            }

            writer.Write((uint)tensor.Type);
            writer.Write((ulong)offset);
            offset = Aligned(offset + tensor.Bytes);
        }

        writer.Flush();
        foreach (var tensor in _tensors)
        {
            Pad(file);
            var start = file.Position;
            tensor.Write(file);
            if (file.Position - start != tensor.Bytes)
            {
                throw new InvalidOperationException($"Tensor '{tensor.Name}' has {file.Position - start} bytes, {tensor.Bytes} were declared.");
            }
        }

        Pad(file);
        file.Flush(flushToDisk: true);
    }

    public void Dispose() => _writer.Dispose();

    private static long Aligned(long offset) => (offset + Alignment - 1) / Alignment * Alignment;

    private static void Pad(FileStream file) => file.Write(new byte[Aligned(file.Position) - file.Position]);

    private static void Text(BinaryWriter writer, string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        writer.Write((ulong)bytes.Length);
        writer.Write(bytes);
    }

    private void Key(string key, ValueType type)
    {
        Text(_writer, key);
        _writer.Write((uint)type);
        _numEntries++;
    }

    private void Array<T>(string key, ValueType type, IReadOnlyCollection<T> values, Action<T> write)
    {
        Key(key, ValueType.Array);
        _writer.Write((uint)type);
        _writer.Write((ulong)values.Count);
        foreach (var value in values)
        {
            write(value);
        }
    }
}
