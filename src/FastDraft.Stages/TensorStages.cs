using System.Security.Cryptography;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.Modeling.Tokenization;
using TorchSharp;

namespace FastDraft.Stages;

/// <summary>What every stage that computes with tensors does first: find the accelerator, read a model folder.</summary>
internal static class TensorStages
{
    public static SettingDescriptor Accelerator { get; } = new(
        "accelerator", SettingType.Choice, "Where tensors are computed.", "cpu", Choices: ["cpu", "cuda"], Category: "Machine");

    /// <exception cref="StageFailureException">cuda was asked for and is not there.</exception>
    public static torch.Device Device(StageContext context)
    {
        var accelerator = context.Text("accelerator");
        if (accelerator is not ("cpu" or "cuda" or null))
        {
            throw new StageFailureException(FailureKind.Config, $"Setting 'accelerator': '{accelerator}' is not known; there are cpu and cuda.", "--set accelerator=cpu");
        }

        Libtorch.Load();
        if (accelerator is not "cuda")
        {
            return torch.CPU;
        }

        return Libtorch.CudaAvailable
            ? torch.CUDA
            : throw new StageFailureException(FailureKind.Config, $"accelerator is cuda, but this machine offers none ({Libtorch.Report}).", "--set accelerator=cpu, or FASTDRAFT_LIBTORCH with a CUDA build");
    }

    /// <summary>Runs what reads model folders, and gives its errors a stage's form.</summary>
    public static T Reading<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (CheckpointException e)
        {
            throw new StageFailureException(FailureKind.Data, e.Message, e.Hint, e);
        }
    }

    public static Decoder LoadDecoder(string folder, torch.Device device, torch.ScalarType dtype = torch.ScalarType.Float32) =>
        Reading(() => Decoder.Load(folder, device, dtype));

    /// <summary>A model for decoding: managed vector code on cpu, libtorch on cuda; computes in float32 unless cuda is given another type.</summary>
    /// <param name="rounded">A draft's weights, which are held in bfloat16 on cpu; see <see cref="CpuCausalModel.Load"/>.</param>
    public static ICausalModel LoadForDecoding(StageContext context, string folder, torch.ScalarType cudaType = torch.ScalarType.Float32, bool rounded = false) => context.Text("accelerator") is "cuda"
        ? new TorchCausalModel(LoadDecoder(folder, Device(context), cudaType))
        : Reading(() => CpuCausalModel.Load(folder, rounded: rounded));

    /// <summary>bfloat16 where a model's weights are stored in 16 bits, else float32: what a large model is to be held in on a GPU.</summary>
    public static torch.ScalarType StoredType(string folder) => Reading(() =>
    {
        using var weights = SafetensorsFolder.Open(folder);
        return weights.Tensors.Values.All(t => t.Dtype is "BF16" or "F16") ? torch.ScalarType.BFloat16 : torch.ScalarType.Float32;
    });

    /// <exception cref="StageFailureException">The folder has no usable tokenizer.json.</exception>
    public static HuggingFaceTokenizer LoadTokenizer(string folder)
    {
        try
        {
            return HuggingFaceTokenizer.Load(folder);
        }
        catch (TokenizerException e)
        {
            throw new StageFailureException(FailureKind.Data, e.Message, "a Hugging Face folder with a BPE tokenizer.json", e);
        }
    }

    /// <summary>The tokenizer that a draft has in common with its target.</summary>
    /// <exception cref="StageFailureException">They have not: another number of tokens, or other tokens.</exception>
    public static HuggingFaceTokenizer CommonTokenizer(ICausalModel target, string targetFolder, ICausalModel draft, string draftFolder)
    {
        if (target.VocabularySize != draft.VocabularySize)
        {
            throw new StageFailureException(
                FailureKind.Data, $"The draft has a vocabulary of {draft.VocabularySize} tokens, the target of {target.VocabularySize}.", "a draft made for this target: AlignVocabulary and PretrainDraft with the same target");
        }

        var tokenizer = LoadTokenizer(targetFolder);
        return File.Exists(Path.Join(draftFolder, "tokenizer.json")) && LoadTokenizer(draftFolder).VocabularyDigest() != tokenizer.VocabularyDigest()
            ? throw new StageFailureException(
                FailureKind.Data, $"The draft's tokens are not those of the target '{targetFolder}': it was made with another tokenizer.", "the target that the draft was made for")
            : tokenizer;
    }

    /// <summary>SHA-256 over the weight files' bytes, in shard order: who a model is.</summary>
    public static string WeightsDigest(string folder)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[1 << 20];
        foreach (var path in Reading(() => SafetensorsFolder.WeightFiles(folder)))
        {
            using var file = File.OpenRead(path);
            for (int read; (read = file.Read(buffer)) > 0;)
            {
                hash.AppendData(buffer, 0, read);
            }
        }

        return "sha256:" + Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
