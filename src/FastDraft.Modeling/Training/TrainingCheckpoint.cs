using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using TorchSharp;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Training;

/// <summary>
/// The whole state of a training run in one safetensors file: float32 weights and moments, and in its metadata the step, the settings digest
/// and whatever the run adds. One file replaced by rename, so a killed process leaves the previous checkpoint or the new one, never a mixture.
/// </summary>
public static class TrainingCheckpoint
{
    public const string FileName = "training.safetensors";

    public static void Write(string folder, IReadOnlyDictionary<string, string> metadata, IReadOnlyList<(string Name, Tensor Values)> tensors)
    {
        Directory.CreateDirectory(folder);
        var header = new JsonObject { ["__metadata__"] = new JsonObject(metadata.Select(m => KeyValuePair.Create(m.Key, (JsonNode?)m.Value))) };
        var offset = 0L;
        foreach (var (name, values) in tensors)
        {
            header[name] = new JsonObject
            {
                ["dtype"] = "F32",
                ["shape"] = new JsonArray(values.numel()),
                ["data_offsets"] = new JsonArray(offset, offset + (values.numel() * sizeof(float))),
            };
            offset += values.numel() * sizeof(float);
        }

        var text = header.ToJsonString();
        var bytes = Encoding.UTF8.GetBytes(text + new string(' ', (8 - (text.Length % 8)) % 8));
        var path = Path.Combine(folder, FileName);
        using (var stream = File.Create(path + ".tmp"))
        {
            Span<byte> length = stackalloc byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(length, bytes.Length);
            stream.Write(length);
            stream.Write(bytes);
            foreach (var (_, values) in tensors)
            {
                using var host = values.cpu().contiguous();
                stream.Write(MemoryMarshal.AsBytes<float>(host.data<float>().ToArray()));
            }

            stream.Flush(flushToDisk: true);
        }

        File.Move(path + ".tmp", path, overwrite: true);
    }

    /// <summary>The metadata of the checkpoint in a folder, having filled the tensors that <paramref name="tensorsOf"/> names for it; null, with nothing touched, where there is none or its settings digest is another.</summary>
    /// <exception cref="InvalidDataException">The file is damaged or holds other tensors.</exception>
    public static IReadOnlyDictionary<string, string>? Read(string folder, string settingsDigest, Func<IReadOnlyDictionary<string, string>, IReadOnlyList<(string Name, Tensor Values)>> tensorsOf)
    {
        var path = Path.Combine(folder, FileName);
        if (!File.Exists(path))
        {
            return null;
        }

        using var stream = File.OpenRead(path);
        try
        {
            var length = new byte[8];
            stream.ReadExactly(length);
            var headerBytes = new byte[checked((int)BinaryPrimitives.ReadInt64LittleEndian(length))];
            stream.ReadExactly(headerBytes);
            using var header = JsonDocument.Parse(headerBytes);
            var metadata = header.RootElement.GetProperty("__metadata__").EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetString()!);
            if (metadata.GetValueOrDefault("settings") != settingsDigest)
            {
                return null;
            }

            var tensors = tensorsOf(metadata);
            var loaded = new List<float[]>();
            foreach (var (name, values) in tensors)
            {
                var range = header.RootElement.GetProperty(name).GetProperty("data_offsets");
                var array = new float[values.numel()];
                if (range[1].GetInt64() - range[0].GetInt64() != array.Length * (long)sizeof(float))
                {
                    throw new InvalidDataException($"Checkpoint '{path}' has a '{name}' of another size.");
                }

                stream.Position = 8 + headerBytes.Length + range[0].GetInt64();
                stream.ReadExactly(MemoryMarshal.AsBytes(array.AsSpan()));
                loaded.Add(array);
            }

            using var noGrad = no_grad();
            foreach (var (array, values) in loaded.Zip(tensors, (a, t) => (a, t.Values)))
            {
                using var source = tensor(array);
                values.copy_(source);
            }

            return metadata;
        }
        catch (Exception e) when (e is JsonException or EndOfStreamException or KeyNotFoundException or OverflowException)
        {
            throw new InvalidDataException($"Checkpoint '{path}' is damaged: {e.Message}", e);
        }
    }
}
