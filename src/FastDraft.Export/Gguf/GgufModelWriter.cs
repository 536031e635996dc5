using System.Buffers.Binary;
using FastDraft.Export.Tokenizers;

namespace FastDraft.Export.Gguf;

/// <summary>
/// Writes a decoder of the Llama family with its tokenizer as one GGUF file of architecture <c>llama</c>, which llama.cpp loads as
/// target and as draft.
/// </summary>
public static class GgufModelWriter
{
    public const string ModelName = "model.gguf";

    private const int BlockSize = 32;
    private const int BlockBytes = 2 + BlockSize;

    /// <summary>Writes model.gguf and the config files into <paramref name="outputFolder"/>.</summary>
    /// <exception cref="Modeling.Checkpoints.CheckpointException">The source folder is not a checkpoint of the family.</exception>
    /// <exception cref="Modeling.Tokenization.TokenizerException">Its tokenizer cannot be read.</exception>
    /// <exception cref="ExportException">llama.cpp has no such tokenizer, or a weight does not fit the precision.</exception>
    public static void Write(string modelFolder, string outputFolder, WeightPrecision precision)
    {
        using var checkpoint = LlamaCheckpoint.Open(modelFolder);
        var config = checkpoint.Config;
        if (config.Llama3Rope is not null)
        {
            throw new ExportException($"'{modelFolder}' stretches its rotary frequencies (rope_type llama3), which this GGUF export does not write.", "another format, or llama.cpp's own conversion");
        }

        var tokenizer = TokenizerDefinition.Load(modelFolder, config.VocabularySize);
        using var file = new GgufFile();
        file.Add("general.architecture", "llama");
        file.Add("general.name", Path.GetFileName(Path.TrimEndingDirectorySeparator(modelFolder)));
        file.Add("general.alignment", 32);
        file.Add("general.quantization_version", 2);
        file.Add("general.file_type", precision switch { WeightPrecision.F32 => 0, WeightPrecision.F16 => 1, WeightPrecision.Q8_0 => 7, _ => 32 });
        file.Add("llama.vocab_size", config.VocabularySize);
        file.Add("llama.context_length", config.MaxPositions);
        file.Add("llama.embedding_length", config.HiddenSize);
        file.Add("llama.block_count", config.NumLayers);
        file.Add("llama.feed_forward_length", config.IntermediateSize);
        file.Add("llama.attention.head_count", config.NumHeads);
        file.Add("llama.attention.head_count_kv", config.NumKeyValueHeads);
        file.Add("llama.attention.layer_norm_rms_epsilon", (float)config.RmsNormEpsilon);
        file.Add("llama.attention.key_length", config.HeadSize);
        file.Add("llama.attention.value_length", config.HeadSize);
        file.Add("llama.rope.dimension_count", config.HeadSize);
        file.Add("llama.rope.freq_base", (float)config.RopeTheta);
        GgufTokenizer.Add(file, tokenizer, config);
        AddTensors(file, checkpoint, precision);
        Directory.CreateDirectory(outputFolder);
        file.Save(Path.Combine(outputFolder, ModelName));
        checkpoint.CopyCompanionFiles(outputFolder);
    }

    private static void AddTensors(GgufFile file, LlamaCheckpoint checkpoint, WeightPrecision precision)
    {
        var c = checkpoint.Config;
        Matrix("token_embd", "model.embed_tokens.weight", c.VocabularySize, c.HiddenSize);
        Vector("output_norm", "model.norm.weight");
        if (!c.TieWordEmbeddings)
        {
            Matrix("output", "lm_head.weight", c.VocabularySize, c.HiddenSize);
        }

        for (var i = 0; i < c.NumLayers; i++)
        {
            var (block, layer) = ($"blk.{i}.", $"model.layers.{i}.");
            Vector(block + "attn_norm", layer + "input_layernorm.weight");
            Matrix(block + "attn_q", layer + "self_attn.q_proj.weight", c.NumHeads * c.HeadSize, c.HiddenSize, rotary: true);
            Matrix(block + "attn_k", layer + "self_attn.k_proj.weight", c.NumKeyValueHeads * c.HeadSize, c.HiddenSize, rotary: true);
            Matrix(block + "attn_v", layer + "self_attn.v_proj.weight", c.NumKeyValueHeads * c.HeadSize, c.HiddenSize);
            Matrix(block + "attn_output", layer + "self_attn.o_proj.weight", c.HiddenSize, c.NumHeads * c.HeadSize);
            Vector(block + "ffn_norm", layer + "post_attention_layernorm.weight");
            Matrix(block + "ffn_gate", layer + "mlp.gate_proj.weight", c.IntermediateSize, c.HiddenSize);
            Matrix(block + "ffn_up", layer + "mlp.up_proj.weight", c.IntermediateSize, c.HiddenSize);
            Matrix(block + "ffn_down", layer + "mlp.down_proj.weight", c.HiddenSize, c.IntermediateSize);
        }

        void Vector(string name, string source)
        {
            var values = checkpoint.Read(source, c.HiddenSize);
            file.Add(new GgufTensor(name + ".weight", GgufTensorType.F32, [c.HiddenSize], 4L * c.HiddenSize, s => WeightEncoding.Write(s, values, WeightPrecision.F32)));
        }

        void Matrix(string name, string source, int rows, int columns, bool rotary = false)
        {
            // A row that is not whole blocks has no q8_0 form.
            var stored = precision == WeightPrecision.Q8_0 && columns % BlockSize != 0 ? WeightPrecision.F16 : precision;
            var (type, rowBytes) = stored switch
            {
                WeightPrecision.F32 => (GgufTensorType.F32, 4L * columns),
                WeightPrecision.F16 => (GgufTensorType.F16, 2L * columns),
                WeightPrecision.BF16 => (GgufTensorType.BF16, 2L * columns),
                WeightPrecision.Q8_0 => (GgufTensorType.Q8_0, (long)columns / BlockSize * BlockBytes),
                _ => throw new ArgumentOutOfRangeException(nameof(precision), precision, "Not a precision of GGUF."),
            };
            file.Add(new GgufTensor(name + ".weight", type, [rows, columns], rows * rowBytes, stream =>
            {
                foreach (var block in checkpoint.Rows(source, rows, columns, rotary ? c.HeadSize : 1))
                {
                    var values = rotary ? Interleaved(block.Span, c.HeadSize, columns) : block.Span;
                    if (stored == WeightPrecision.Q8_0)
                    {
                        WriteBlocks(stream, values);
                    }
                    else
                    {
                        WeightEncoding.Write(stream, values, stored);
                    }
                }
            }));
        }
    }

    // llama.cpp rotates neighbours (2j, 2j + 1) of a head where Hugging Face rotates (j, j + D/2).
    private static float[] Interleaved(ReadOnlySpan<float> heads, int headSize, int columns)
    {
        var result = new float[heads.Length];
        for (var row = 0; row < heads.Length / columns; row++)
        {
            var (head, inHead) = (row / headSize * headSize, row % headSize);
            var target = head + (2 * (inHead % (headSize / 2))) + (inHead / (headSize / 2));
            heads.Slice(row * columns, columns).CopyTo(result.AsSpan(target * columns));
        }

        return result;
    }

    private static void WriteBlocks(Stream stream, ReadOnlySpan<float> values)
    {
        var bytes = new byte[values.Length / BlockSize * BlockBytes];
        for (var b = 0; b < values.Length / BlockSize; b++)
        {
            var block = values.Slice(b * BlockSize, BlockSize);
            var target = bytes.AsSpan(b * BlockBytes, BlockBytes);
            var largest = 0f;
            foreach (var value in block)
            {
                largest = Math.Max(largest, Math.Abs(value));
            }

            var scale = largest / 127f;
            var inverse = scale == 0 ? 0 : 1 / scale;
            BinaryPrimitives.WriteHalfLittleEndian(target, (Half)scale);
            for (var i = 0; i < BlockSize; i++)
            {
                target[2 + i] = (byte)(sbyte)MathF.Round(block[i] * inverse, MidpointRounding.AwayFromZero);
            }
        }

        stream.Write(bytes);
    }
}
