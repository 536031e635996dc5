using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace FastDraft.Modeling.Checkpoints;

/// <summary>A tensor of a file. <see cref="Offset"/> counts from the start of the file; all sizes in bytes.</summary>
public sealed record SafetensorsEntry(string Name, string Dtype, long[] Shape, long Offset, long LengthBytes);

/// <summary>Tensors by name, whatever number of files they lie in.</summary>
public interface ISafetensors : IDisposable
{
    IReadOnlyDictionary<string, SafetensorsEntry> Tensors { get; }

    /// <summary>The whole tensor.</summary>
    /// <exception cref="CheckpointException">No such tensor, or one of more than 2 GiB.</exception>
    ReadOnlySpan<byte> Bytes(string name);

    /// <summary>Bytes [start, start + length) of a tensor of any size.</summary>
    ReadOnlySpan<byte> Bytes(string name, long start, int length);
}

/// <summary>
/// A memory-mapped safetensors file. Nothing of a header is believed before it is checked against the file: its size, each dtype,
/// shape and byte range, and that ranges neither overlap nor leave holes. Memory used is the header's size, which is bounded.
/// </summary>
public sealed unsafe class SafetensorsFile : ISafetensors
{
    private const long MaximumHeaderBytes = 100L << 20;
    private const int MaximumDepth = 8;

    private static readonly Dictionary<string, int> DtypeBytes = new(StringComparer.Ordinal)
    {
        ["F64"] = 8,
        ["F32"] = 4,
        ["F16"] = 2,
        ["BF16"] = 2,
        ["I64"] = 8,
        ["I32"] = 4,
        ["I16"] = 2,
        ["I8"] = 1,
        ["U64"] = 8,
        ["U32"] = 4,
        ["U16"] = 2,
        ["U8"] = 1,
        ["BOOL"] = 1,
        ["F8_E4M3"] = 1,
        ["F8_E5M2"] = 1,
    };

    private readonly MemoryMappedFile _map;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _base;
    private readonly Dictionary<string, SafetensorsEntry> _tensors;

    private SafetensorsFile(MemoryMappedFile map, MemoryMappedViewAccessor view, byte* address, Dictionary<string, SafetensorsEntry> tensors)
    {
        _map = map;
        _view = view;
        _base = address;
        _tensors = tensors;
    }

    public IReadOnlyDictionary<string, SafetensorsEntry> Tensors => _tensors;

    /// <exception cref="CheckpointException">The file is missing, truncated or not a well-formed safetensors file.</exception>
    public static SafetensorsFile Open(string path)
    {
        if (!File.Exists(path))
        {
            throw new CheckpointException($"Weight file '{path}' does not exist.");
        }

        var length = new FileInfo(path).Length;
        if (length < 8)
        {
            throw Bad(path, $"it has {length} bytes, less than a header");
        }

        var map = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
        var view = map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        byte* address = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref address);
        try
        {
            return new SafetensorsFile(map, view, address, ReadHeader(path, address, length));
        }
        catch
        {
            view.SafeMemoryMappedViewHandle.ReleasePointer();
            view.Dispose();
            map.Dispose();
            throw;
        }
    }

    public ReadOnlySpan<byte> Bytes(string name)
    {
        var length = Entry(name).LengthBytes;
        return length <= int.MaxValue
            ? Bytes(name, 0, (int)length)
            : throw new CheckpointException($"Tensor '{name}' has {length} bytes: it is read in parts only.");
    }

    public ReadOnlySpan<byte> Bytes(string name, long start, int length)
    {
        var entry = Entry(name);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start + length, entry.LengthBytes, nameof(start));
        return new ReadOnlySpan<byte>(_base + entry.Offset + start, length);
    }

    public void Dispose()
    {
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _map.Dispose();
    }

    private SafetensorsEntry Entry(string name) => _tensors.GetValueOrDefault(name) ?? throw new CheckpointException($"The weights have no tensor '{name}'.");

    private static Dictionary<string, SafetensorsEntry> ReadHeader(string path, byte* address, long length)
    {
        var start = new ReadOnlySpan<byte>(address, 8);
        if (start.StartsWith("PK\u0003\u0004"u8) || (start[0] == 0x93 && start[1..].StartsWith("NUMPY"u8)) || (start[0] == 0x80 && start[1] is >= 2 and <= 5 && BinaryPrimitives.ReadUInt64LittleEndian(start) > MaximumHeaderBytes))
        {
            throw Bad(path, "it is a pickle, or an archive of pickles, under another name, which can run code when read", "convert the weights to safetensors where you trust them");
        }

        var headerBytes = BinaryPrimitives.ReadUInt64LittleEndian(start);
        if (headerBytes > MaximumHeaderBytes)
        {
            throw Bad(path, $"its header claims {headerBytes} bytes, more than the {MaximumHeaderBytes} allowed");
        }

        if (8 + (long)headerBytes > length)
        {
            throw Bad(path, $"its header claims {headerBytes} bytes, the file has {length}", "the file is truncated: copy it again");
        }

        var json = new ReadOnlySpan<byte>(address + 8, (int)headerBytes);
        if (json.Length == 0 || json[0] != (byte)'{')
        {
            throw Bad(path, "its header does not start with '{'");
        }

        Dictionary<string, SafetensorsEntry> tensors;
        try
        {
            tensors = ParseHeader(path, json, 8 + (long)headerBytes, length);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
        {
            throw Bad(path, "its header is not valid: " + e.Message);
        }

        var position = 8 + (long)headerBytes;
        foreach (var entry in tensors.Values.OrderBy(t => t.Offset).ThenBy(t => t.LengthBytes))
        {
            if (entry.Offset != position)
            {
                throw Bad(path, $"tensor '{entry.Name}' starts at byte {entry.Offset}, expected {position}: ranges overlap or leave a hole");
            }

            position += entry.LengthBytes;
        }

        return position == length ? tensors : throw Bad(path, $"its tensors end at byte {position}, the file has {length}", "the file is truncated or has bytes appended: copy it again");
    }

    private static Dictionary<string, SafetensorsEntry> ParseHeader(string path, ReadOnlySpan<byte> json, long dataStart, long length)
    {
        var tensors = new Dictionary<string, SafetensorsEntry>(StringComparer.Ordinal);
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = MaximumDepth });
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var name = reader.GetString()!;
            reader.Read();
            if (name == "__metadata__")
            {
                reader.Skip();
                continue;
            }

            string? dtype = null;
            long[]? shape = null;
            long[]? range = null;
            if (reader.TokenType != JsonTokenType.StartObject)
            {
                throw Bad(path, $"tensor '{name}' is not described by an object");
            }

            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                var member = reader.GetString();
                reader.Read();
                switch (member)
                {
                    case "dtype":
                        dtype = dtype is null ? reader.GetString() : throw Bad(path, $"tensor '{name}' has two dtypes");
                        break;
                    case "shape":
                        shape = shape is null ? ReadLongs(ref reader) : throw Bad(path, $"tensor '{name}' has two shapes");
                        break;
                    case "data_offsets":
                        range = range is null ? ReadLongs(ref reader) : throw Bad(path, $"tensor '{name}' has two ranges");
                        break;
                    default:
                        throw Bad(path, $"tensor '{name}' has an unknown member '{member}'");
                }
            }

            if (dtype is null || shape is null || range is not { Length: 2 })
            {
                throw Bad(path, $"tensor '{name}' lacks dtype, shape or data_offsets");
            }

            if (!DtypeBytes.TryGetValue(dtype, out var size))
            {
                throw Bad(path, $"tensor '{name}' has unknown dtype '{dtype}'");
            }

            long expected;
            try
            {
                expected = shape.Aggregate((long)size, (product, extent) => extent >= 0 ? checked(product * extent) : throw new OverflowException());
            }
            catch (OverflowException)
            {
                throw Bad(path, $"tensor '{name}' has an impossible shape [{string.Join(", ", shape)}]");
            }

            if (range[0] < 0 || range[1] < range[0] || range[1] > length - dataStart)
            {
                throw Bad(path, $"tensor '{name}' lies at bytes {range[0]} to {range[1]} of {length - dataStart}", "the file is truncated: copy it again");
            }

            if (range[1] - range[0] != expected)
            {
                throw Bad(path, $"tensor '{name}' has {range[1] - range[0]} bytes, its shape and dtype need {expected}");
            }

            if (!tensors.TryAdd(name, new SafetensorsEntry(name, dtype, shape, dataStart + range[0], expected)))
            {
                throw Bad(path, $"tensor '{name}' is described twice");
            }
        }

        // The reader throws at anything but white space after the object, but only when it is asked to go on.
        return reader.Read() ? throw Bad(path, "its header goes on after the object") : tensors;
    }

    private static long[] ReadLongs(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw new JsonException("Expected an array of numbers.");
        }

        var values = new List<long>(4);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            values.Add(reader.GetInt64());
        }

        return [.. values];
    }

    private static CheckpointException Bad(string path, string why, string? hint = null) =>
        new($"'{path}' is not a usable safetensors file: {why}.", hint);
}

public static class SafetensorsConversion
{
    /// <summary>Widens F32, F16 or BF16 to float32, row-major.</summary>
    /// <exception cref="CheckpointException">Another dtype, or a destination of another length.</exception>
    public static void ReadFloat32(this ISafetensors file, string name, Span<float> destination)
    {
        var entry = file.Tensors.GetValueOrDefault(name) ?? throw new CheckpointException($"The weights have no tensor '{name}'.");
        var count = entry.LengthBytes / BytesOf(entry);
        if (count != destination.Length)
        {
            throw new CheckpointException($"Tensor '{name}' has {count} values, expected {destination.Length}.");
        }

        file.ReadFloat32(name, 0, destination);
    }

    /// <summary>Widens the values [first, first + destination.Length) of a tensor of any size.</summary>
    /// <exception cref="CheckpointException">Another dtype than F32, F16 or BF16.</exception>
    public static void ReadFloat32(this ISafetensors file, string name, long first, Span<float> destination)
    {
        var entry = file.Tensors.GetValueOrDefault(name) ?? throw new CheckpointException($"The weights have no tensor '{name}'.");
        var size = BytesOf(entry);
        var bytes = file.Bytes(name, first * size, checked(destination.Length * size));
        switch (entry.Dtype)
        {
            case "F32":
                MemoryMarshal.Cast<byte, float>(bytes).CopyTo(destination);
                break;
            case "F16":
                TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<byte, Half>(bytes), destination);
                break;
            default:
                var words = MemoryMarshal.Cast<byte, ushort>(bytes);
                for (var i = 0; i < words.Length; i++)
                {
                    destination[i] = BitConverter.UInt32BitsToSingle((uint)words[i] << 16);
                }

                break;
        }
    }

    private static int BytesOf(SafetensorsEntry entry) => entry.Dtype switch
    {
        "F32" => 4,
        "F16" or "BF16" => 2,
        _ => throw new CheckpointException($"Tensor '{entry.Name}' has dtype {entry.Dtype}; weights must be F32, F16 or BF16."),
    };
}
