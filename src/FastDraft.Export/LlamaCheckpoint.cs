using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;

namespace FastDraft.Export;

/// <summary>
/// The weights and config of a Llama-family Hugging Face folder, read for export. Every weight is checked against the shape that the
/// config implies before a byte of it is written anywhere.
/// </summary>
public sealed class LlamaCheckpoint : IDisposable
{
    private static readonly string[] CompanionFiles =
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

    private readonly SafetensorsFolder _tensors;
    private readonly string _folder;

    private LlamaCheckpoint(string folder, DecoderConfig config, SafetensorsFolder tensors)
    {
        _folder = folder;
        Config = config;
        _tensors = tensors;
    }

    public DecoderConfig Config { get; }

    /// <summary>Bytes of all weights as float32.</summary>
    public long WeightBytes => _tensors.Tensors.Values.Sum(t => t.Shape.Aggregate(4L, (a, b) => a * b));

    /// <exception cref="CheckpointException">The folder is not a checkpoint.</exception>
    public static LlamaCheckpoint Open(string folder)
    {
        if (!File.Exists(Path.Combine(folder, "config.json")))
        {
            throw new CheckpointException($"'{folder}' has no config.json.", "Give a Hugging Face model folder.");
        }

        var config = DecoderConfig.Load(folder);
        var weights = SafetensorsFolder.Open(folder);
        try
        {
            config.Check(weights, folder);
        }
        catch
        {
            weights.Dispose();
            throw;
        }

        return new LlamaCheckpoint(folder, config, weights);
    }

    /// <summary>A weight as float32, row-major.</summary>
    /// <exception cref="CheckpointException">The weight is missing or has another shape than the config says.</exception>
    public float[] Read(string name, params long[] shape)
    {
        if (!_tensors.Tensors.TryGetValue(name, out var entry))
        {
            throw new CheckpointException($"'{_folder}' has no weight '{name}'.", "The config and the weights belong to different models?");
        }

        if (!entry.Shape.SequenceEqual(shape))
        {
            throw new CheckpointException(
                $"Weight '{name}' of '{_folder}' has shape [{string.Join(", ", entry.Shape)}], config.json implies [{string.Join(", ", shape)}].",
                "The config and the weights belong to different models?");
        }

        var values = new float[shape.Aggregate(1L, (a, b) => a * b)];
        _tensors.ReadFloat32(name, values);
        return values;
    }

    /// <summary>The inverse frequencies of the rotary embedding, <c>[HeadSize / 2]</c>.</summary>
    public float[] InverseFrequencies() =>
        [.. Enumerable.Range(0, Config.HeadSize / 2).Select(i => (float)(1.0 / Math.Pow(Config.RopeTheta, 2.0 * i / Config.HeadSize)))];

    /// <summary>Copies config and tokenizer files into an exported folder, so that it can be loaded on its own.</summary>
    public void CopyCompanionFiles(string outputFolder)
    {
        foreach (var name in CompanionFiles)
        {
            var source = Path.Combine(_folder, name);
            if (File.Exists(source))
            {
                File.Copy(source, Path.Combine(outputFolder, name), overwrite: true);
            }
        }
    }

    public void Dispose() => _tensors.Dispose();
}
