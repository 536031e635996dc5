using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;

namespace FastDraft.Export;

/// <summary>
/// The weights and config of a Llama-family Hugging Face folder, read for export. Every weight is checked against the shape that the
/// config implies before a byte of it is written anywhere.
/// </summary>
public sealed class LlamaCheckpoint : IDisposable
{
    /// <summary>Float32 bytes of a block of rows.</summary>
    private const int BlockBytes = 32 << 20;

    private static readonly string[] CompanionFiles =
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

    private readonly ISafetensors _tensors;
    private readonly string _folder;

    private LlamaCheckpoint(string folder, DecoderConfig config, ISafetensors tensors)
    {
        _folder = folder;
        Config = config;
        _tensors = tensors;
    }

    public DecoderConfig Config { get; }

    /// <summary>The folder it was read from.</summary>
    public string Folder => _folder;

    /// <summary>Bytes of all weights as float32.</summary>
    public long WeightBytes => _tensors.Tensors.Values.Sum(t => t.Shape.Aggregate(4L, (a, b) => a * b));

    /// <exception cref="CheckpointException">The folder is not a checkpoint.</exception>
    /// <exception cref="ExportException">Its rotary positions are of a kind that no format holds.</exception>
    public static LlamaCheckpoint Open(string folder)
    {
        if (!File.Exists(Path.Combine(folder, "config.json")))
        {
            throw new CheckpointException($"'{folder}' has no config.json.", "Give a Hugging Face model folder.");
        }

        var config = DecoderConfig.Load(folder);
        if (config.LongRope is not null || config.RotarySize is not null)
        {
            throw new ExportException(
                $"'{folder}' has rotary positions that change with the length of the text or turn only a part of each head; no export format here holds them.",
                "an export by the model's own publisher, or a model of the llama family");
        }

        return new LlamaCheckpoint(folder, config, config.OpenWeights(folder));
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

    /// <summary>
    /// A matrix as float32 in blocks of whole rows, so that no tensor is ever held whole: at most <see cref="BlockBytes"/> a block unless
    /// <paramref name="rowMultiple"/> rows are more. The memory of a block is that of the one before.
    /// </summary>
    public IEnumerable<ReadOnlyMemory<float>> Rows(string name, long rows, long columns, long rowMultiple = 1)
    {
        var perBlock = Math.Min(rows, Math.Max(1, BlockBytes / (sizeof(float) * columns * rowMultiple)) * rowMultiple);
        var buffer = new float[perBlock * columns];
        for (var row = 0L; row < rows; row += perBlock)
        {
            var block = buffer.AsMemory(0, (int)(Math.Min(perBlock, rows - row) * columns));
            _tensors.ReadFloat32(name, row * columns, block.Span);
            yield return block;
        }
    }

    /// <summary>The transposed matrix <c>[columns, rows]</c> in blocks of its rows, as <see cref="Rows"/>.</summary>
    public IEnumerable<ReadOnlyMemory<float>> Columns(string name, int rows, int columns)
    {
        var perBlock = Math.Min(columns, Math.Max(1, BlockBytes / sizeof(float) / rows));
        var (buffer, part) = (new float[perBlock * rows], new float[perBlock]);
        for (var column = 0; column < columns; column += perBlock)
        {
            var width = Math.Min(perBlock, columns - column);
            for (var row = 0; row < rows; row++)
            {
                _tensors.ReadFloat32(name, ((long)row * columns) + column, part.AsSpan(0, width));
                for (var c = 0; c < width; c++)
                {
                    buffer[(c * rows) + row] = part[c];
                }
            }

            yield return buffer.AsMemory(0, width * rows);
        }
    }

    /// <summary>The inverse frequencies of the rotary embedding, <c>[HeadSize / 2]</c>.</summary>
    public float[] InverseFrequencies() => RotaryPositions.Frequencies(Config, isLong: false);

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
