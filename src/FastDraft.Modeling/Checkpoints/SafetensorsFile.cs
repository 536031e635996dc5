using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace FastDraft.Modeling.Checkpoints;

/// <summary>One tensor of a file: safetensors dtype name, shape, and its bytes' offset within the file.</summary>
public sealed record SafetensorsEntry(string Name, string Dtype, long[] Shape, long Offset, long LengthBytes);

/// <summary>A memory-mapped, fully validated safetensors file. Nothing in the header is trusted.</summary>
public sealed unsafe class SafetensorsFile : IDisposable
{
    private const long MaxHeaderBytes = 100_000_000;
    private readonly MemoryMappedFile map;
    private readonly MemoryMappedViewAccessor view;
    private readonly byte* start;
    private readonly Dictionary<string, SafetensorsEntry> tensors = new(StringComparer.Ordinal);
    private bool disposed;

    private SafetensorsFile(string path)
    {
        FilePath = path;
        var length = new FileInfo(path).Length;
        if (length < 8)
        {
            throw Bad($"is {length} bytes long, and a header needs at least 8");
        }

        map = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
        view = map.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
        try
        {
            ReadHeader(length);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string FilePath { get; }

    public IReadOnlyDictionary<string, SafetensorsEntry> Tensors => tensors;

    /// <summary>Opens and validates a file.</summary>
    /// <exception cref="CheckpointException">The file is not a sound safetensors file.</exception>
    public static SafetensorsFile Open(string path) => File.Exists(path)
        ? new(path) : throw new CheckpointException($"{path} does not exist", "Check the path of the model folder.");

    /// <summary>The little-endian bytes of a tensor, valid until the file is disposed.</summary>
    public ReadOnlySpan<byte> Bytes(string name)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        var entry = Entry(name);
        return entry.LengthBytes <= int.MaxValue ? new(start + entry.Offset, (int)entry.LengthBytes)
            : throw Bad($"tensor '{name}' has {entry.LengthBytes} bytes, more than the 2 GiB one tensor may have");
    }

    /// <summary>Reads F32, F16 or BF16 as float32; <paramref name="destination"/> has exactly the tensor's element count.</summary>
    public void ReadFloat32(string name, Span<float> destination)
    {
        var bytes = Bytes(name);
        var dtype = Entry(name).Dtype;
        var width = dtype switch { "F32" => 4, "F16" or "BF16" => 2, _ => throw Bad($"tensor '{name}' is {dtype}, not F32, F16 or BF16") };
        if (bytes.Length != (long)destination.Length * width)
        {
            throw new ArgumentException($"Tensor '{name}' has {bytes.Length / width} elements, the destination {destination.Length}.", nameof(destination));
        }

        if (dtype == "F32")
        {
            bytes.CopyTo(MemoryMarshal.AsBytes(destination));
            return;
        }

        for (var i = 0; i < destination.Length; i++)
        {
            var bits = BinaryPrimitives.ReadUInt16LittleEndian(bytes[(2 * i)..]);
            destination[i] = dtype == "BF16" ? BitConverter.UInt32BitsToSingle((uint)bits << 16) : (float)BitConverter.UInt16BitsToHalf(bits);
        }
    }

    public void Dispose()
    {
        if (!disposed)
        {
            disposed = true;
            view.SafeMemoryMappedViewHandle.ReleasePointer();
            view.Dispose();
            map.Dispose();
        }
    }

    internal static int Width(string dtype) => dtype switch
    {
        "BOOL" or "U8" or "I8" => 1,
        "F16" or "BF16" or "U16" or "I16" => 2,
        "F32" or "U32" or "I32" => 4,
        "F64" or "U64" or "I64" => 8,
        _ => 0,
    };

    private SafetensorsEntry Entry(string name) => tensors.TryGetValue(name, out var entry) ? entry
        : throw new CheckpointException($"{FilePath} has no tensor '{name}'", "Check that the weights belong to the configuration.");

    private CheckpointException Bad(string what) => new($"{FilePath} {what}", "Download or export the file again.");

    private void ReadHeader(long length)
    {
        var headerBytes = BinaryPrimitives.ReadUInt64LittleEndian(new ReadOnlySpan<byte>(start, 8));
        if (headerBytes > MaxHeaderBytes)
        {
            throw Bad($"declares a header of {headerBytes} bytes; the limit is {MaxHeaderBytes}");
        }

        var data = 8 + (long)headerBytes;
        if (data > length)
        {
            throw Bad($"is truncated: its header needs {data} bytes, the file has {length}");
        }

        try
        {
            using var document = JsonDocument.Parse(new ReadOnlySpan<byte>(start + 8, (int)headerBytes).ToArray());
            foreach (var property in document.RootElement.EnumerateObject())
            {
                if (property.Name != "__metadata__" && !tensors.TryAdd(property.Name, ReadEntry(property, data)))
                {
                    throw Bad($"names tensor '{property.Name}' twice");
                }
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw Bad($"has a malformed header: {e.Message}");
        }

        var end = data;
        foreach (var entry in tensors.Values.OrderBy(t => t.Offset).ThenBy(t => t.LengthBytes))
        {
            if (entry.Offset != end)
            {
                throw Bad($"has {(entry.Offset < end ? "overlapping tensors" : "a hole")} before '{entry.Name}'");
            }

            end += entry.LengthBytes;
        }

        if (end != length)
        {
            throw Bad(end > length ? $"is truncated: its tensors need {end} bytes, the file has {length}"
                : $"has {length - end} bytes after its last tensor: {end} needed, {length} there");
        }
    }

    private SafetensorsEntry ReadEntry(JsonProperty property, long data)
    {
        var name = property.Name;
        var dtype = property.Value.GetProperty("dtype").GetString() ?? "";
        var width = Width(dtype);
        if (width == 0)
        {
            throw Bad($"has tensor '{name}' of unsupported dtype '{dtype}'");
        }

        var shape = property.Value.GetProperty("shape").EnumerateArray().Select(d => d.GetInt64()).ToArray();
        var offsets = property.Value.GetProperty("data_offsets").EnumerateArray().Select(d => d.GetInt64()).ToArray();
        if (offsets.Length != 2 || offsets[0] < 0 || offsets[1] < offsets[0] || offsets[1] > long.MaxValue / 2 || Array.Exists(shape, d => d < 0))
        {
            throw Bad($"has tensor '{name}' with impossible offsets or shape");
        }

        try
        {
            var expected = shape.Aggregate((long)width, (product, d) => checked(product * d));
            if (expected != offsets[1] - offsets[0])
            {
                throw Bad($"has tensor '{name}' whose shape needs {expected} bytes, with {offsets[1] - offsets[0]} given");
            }
        }
        catch (OverflowException)
        {
            throw Bad($"has tensor '{name}' whose shape overflows");
        }

        return new(name, dtype, shape, data + offsets[0], offsets[1] - offsets[0]);
    }
}
