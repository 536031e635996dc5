using System.Text.Json;

namespace FastDraft.Modeling.Checkpoints;

/// <summary>The weights of a model folder: model.safetensors, or the shards that model.safetensors.index.json names.</summary>
public sealed class SafetensorsFolder : ISafetensors
{
    private readonly List<SafetensorsFile> _files = [];
    private readonly Dictionary<string, SafetensorsFile> _owners = new(StringComparer.Ordinal);
    private readonly Dictionary<string, SafetensorsEntry> _tensors = new(StringComparer.Ordinal);

    private SafetensorsFolder(IEnumerable<string> paths)
    {
        try
        {
            foreach (var path in paths)
            {
                var file = SafetensorsFile.Open(path);
                _files.Add(file);
                foreach (var (name, entry) in file.Tensors)
                {
                    if (!_tensors.TryAdd(name, entry))
                    {
                        throw new CheckpointException($"Tensor '{name}' is in two shards, the second is '{path}'.");
                    }

                    _owners.Add(name, file);
                }
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public IReadOnlyDictionary<string, SafetensorsEntry> Tensors => _tensors;

    /// <exception cref="CheckpointException">No folder, no safetensors weights (pickle is never read), or a bad file.</exception>
    public static SafetensorsFolder Open(string folder) => new(WeightFiles(folder));

    /// <summary>The weight files of a model folder, in a stable order.</summary>
    public static IReadOnlyList<string> WeightFiles(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new CheckpointException($"Model folder '{folder}' does not exist.", "a Hugging Face folder with config.json, *.safetensors and tokenizer.json");
        }

        var index = Path.Join(folder, "model.safetensors.index.json");
        var single = Path.Join(folder, "model.safetensors");
        if (File.Exists(index))
        {
            return [.. Shards(index).Select(name => Path.Join(folder, name))];
        }

        if (File.Exists(single))
        {
            return [single];
        }

        string[] pickles = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npy", ".npz"];
        var pickle = Directory.EnumerateFiles(folder).Select(Path.GetFileName).FirstOrDefault(n => pickles.Contains(Path.GetExtension(n), StringComparer.OrdinalIgnoreCase));
        throw pickle is null
            ? new CheckpointException($"'{folder}' has no model.safetensors and no model.safetensors.index.json.")
            : new CheckpointException($"'{folder}' has only '{pickle}': pickled weights can run code when read and are refused.", "convert the weights to safetensors where you trust them");
    }

    public ReadOnlySpan<byte> Bytes(string name) => Owner(name).Bytes(name);

    public ReadOnlySpan<byte> Bytes(string name, long start, int length) => Owner(name).Bytes(name, start, length);

    public void Dispose() => _files.ForEach(f => f.Dispose());

    private SafetensorsFile Owner(string name) => _owners.GetValueOrDefault(name) ?? throw new CheckpointException($"The weights have no tensor '{name}'.");

    private static SortedSet<string> Shards(string index)
    {
        var names = new SortedSet<string>(StringComparer.Ordinal);
        try
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(index));
            foreach (var member in document.RootElement.GetProperty("weight_map").EnumerateObject())
            {
                var name = member.Value.GetString() ?? throw new CheckpointException($"'{index}' names no shard for '{member.Name}'.");
                if (name != Path.GetFileName(name) || name is "." or ".." || !name.EndsWith(".safetensors", StringComparison.Ordinal))
                {
                    throw new CheckpointException($"'{index}' names shard '{name}': a shard is a .safetensors file in the same folder.");
                }

                names.Add(name);
            }
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new CheckpointException($"'{index}' is not a weight index: {e.Message}");
        }

        return names;
    }
}
