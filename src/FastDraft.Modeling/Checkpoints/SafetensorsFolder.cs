using System.Text.Json;

namespace FastDraft.Modeling.Checkpoints;

/// <summary>The weights of a Hugging Face folder: one model.safetensors, or the shards its index names.</summary>
public sealed class SafetensorsFolder : IDisposable
{
    private readonly List<SafetensorsFile> files = [];
    private readonly Dictionary<string, SafetensorsFile> owners = new(StringComparer.Ordinal);

    private SafetensorsFolder()
    {
    }

    public IReadOnlyDictionary<string, SafetensorsEntry> Tensors => owners.ToDictionary(o => o.Key, o => o.Value.Tensors[o.Key]);

    /// <exception cref="CheckpointException">No safetensors weights, or unsound ones.</exception>
    public static SafetensorsFolder Open(string folder)
    {
        var result = new SafetensorsFolder();
        try
        {
            foreach (var path in Shards(folder))
            {
                var file = SafetensorsFile.Open(path);
                result.files.Add(file);
                foreach (var name in file.Tensors.Keys)
                {
                    if (!result.owners.TryAdd(name, file))
                    {
                        throw new CheckpointException($"{folder} has tensor '{name}' in two shards", "Download or export the model again.");
                    }
                }
            }

            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    public ReadOnlySpan<byte> Bytes(string name) => Owner(name).Bytes(name);

    public void ReadFloat32(string name, Span<float> destination) => Owner(name).ReadFloat32(name, destination);

    public void Dispose() => files.ForEach(f => f.Dispose());

    private static string[] Shards(string folder)
    {
        var single = Path.Combine(folder, "model.safetensors");
        var index = single + ".index.json";
        if (File.Exists(single))
        {
            return [single];
        }

        if (!File.Exists(index))
        {
            var pickle = Directory.Exists(folder) ? Directory.EnumerateFiles(folder)
                .FirstOrDefault(f => Path.GetExtension(f) is ".bin" or ".pt" or ".pth" or ".ckpt") : null;
            throw pickle is null ? new CheckpointException($"{folder} has no model.safetensors", "Check the path of the model folder.")
                : new CheckpointException($"{pickle} holds pickled weights, which can run code and are refused", "Convert them to safetensors.");
        }

        try
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(index));
            var names = document.RootElement.GetProperty("weight_map").EnumerateObject().Select(p => p.Value.GetString() ?? "").Distinct().ToArray();
            var bad = Array.Find(names, n => n != Path.GetFileName(n) || n.Contains('\\') || !n.EndsWith(".safetensors", StringComparison.Ordinal));
            return bad is null ? [.. names.Select(n => Path.Combine(folder, n))]
                : throw new CheckpointException($"{index} names the shard '{bad}', which is not a plain safetensors file name", "Use an index from a trusted source.");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw new CheckpointException($"{index} is malformed: {e.Message}", "Download the index again.");
        }
    }

    private SafetensorsFile Owner(string name) => owners.TryGetValue(name, out var file) ? file
        : throw new CheckpointException($"The checkpoint has no tensor '{name}'", "Check that the weights belong to the configuration.");
}
