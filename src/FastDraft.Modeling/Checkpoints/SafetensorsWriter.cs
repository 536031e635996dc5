using System.Buffers.Binary;
using System.Text.Json;

namespace FastDraft.Modeling.Checkpoints;

/// <summary>A tensor to write: safetensors dtype name, shape and little-endian bytes.</summary>
public sealed record SafetensorsTensor(string Name, string Dtype, long[] Shape, ReadOnlyMemory<byte> Bytes);

/// <summary>Writes safetensors files that appear whole or not at all.</summary>
public static class SafetensorsWriter
{
    /// <exception cref="ArgumentException">A tensor's byte count does not follow from its shape and dtype.</exception>
    public static void Write(string path, IReadOnlyList<SafetensorsTensor> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        using var header = new MemoryStream();
        using (var json = new Utf8JsonWriter(header))
        {
            json.WriteStartObject();
            if (metadata is not null)
            {
                json.WritePropertyName("__metadata__");
                JsonSerializer.Serialize(json, metadata);
            }

            var offset = 0L;
            var names = new HashSet<string>(StringComparer.Ordinal);
            foreach (var t in tensors)
            {
                var width = SafetensorsFile.Width(t.Dtype);
                if (width == 0 || t.Shape.Aggregate((long)width, (a, d) => checked(a * d)) != t.Bytes.Length || !names.Add(t.Name))
                {
                    throw new ArgumentException($"Tensor '{t.Name}' ({t.Dtype}) is named twice, or its shape and bytes disagree.", nameof(tensors));
                }

                json.WriteStartObject(t.Name);
                json.WriteString("dtype", t.Dtype);
                json.WritePropertyName("shape");
                JsonSerializer.Serialize(json, t.Shape);
                json.WritePropertyName("data_offsets");
                JsonSerializer.Serialize(json, new[] { offset, offset += t.Bytes.Length });
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        while (header.Length % 8 != 0)
        {
            header.WriteByte((byte)' ');
        }

        var temporary = path + ".tmp";
        using (var file = File.Create(temporary))
        {
            Span<byte> size = stackalloc byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(size, header.Length);
            file.Write(size);
            file.Write(header.GetBuffer().AsSpan(0, (int)header.Length));
            foreach (var t in tensors)
            {
                file.Write(t.Bytes.Span);
            }

            file.Flush(flushToDisk: true);
        }

        File.Move(temporary, path, overwrite: true);
    }
}
