using System.Text.Json.Nodes;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Models;

public sealed class DecoderFacts
{
    public DecoderFacts()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        Libtorch.Load();
    }

    public static TheoryData<string> Compared { get; } = ["llama", "llama-gqa-tied", "llama3-ropescaling", "phi3", "phi3-longrope"];

    internal static bool IsCompared(string architecture) => Compared.Any(row => row.Data == architecture);

    [Fact]
    public void Stories260K_logits_agree_with_the_reference()
    {
        using var model = new TorchCausalModel(Decoder.Load(SharedAssets.Path("data", "stories260K")));
        using var golden = SafetensorsFile.Open(SharedAssets.Path("data", "golden", "stories260K_logits.safetensors"));
        const string name = "logits_f64_rounded";
        var shape = golden.Tensors[name].Shape;
        var expected = new float[shape.Aggregate(1L, (a, b) => a * b)];
        golden.ReadFloat32(name, expected);
        var ids = new float[golden.Tensors["input_ids"].Shape.Aggregate(1L, (a, b) => a * b)];
        golden.ReadFloat32("input_ids", ids);
        using var session = model.StartSession();
        var actual = new float[expected.Length];
        session.Forward(Array.ConvertAll(ids, i => (int)i), actual, ids.Length);
        Assert.True(expected.Zip(actual, (e, a) => Math.Abs(e - a)).Max() <= 2e-4f);
    }

    [Fact]
    public void Stories260K_writes_the_reference_continuations()
    {
        using var model = new TorchCausalModel(Decoder.Load(SharedAssets.Path("data", "stories260K")));
        foreach (var line in File.ReadLines(SharedAssets.Path("data", "golden", "stories260K_prompts_greedy.jsonl")))
        {
            var row = JsonNode.Parse(line)!.AsObject();
            var prompt = row["prompt_ids"]!.AsArray().Select(n => n!.GetValue<int>()).ToArray();
            var expected = row["greedy_ids"]!.AsArray().Select(n => n!.GetValue<int>()).ToArray();
            using var session = model.StartSession();
            var logits = new float[model.VocabularySize];
            session.Forward(prompt, logits, 1);
            foreach (var id in expected)
            {
                Assert.Equal(id, Array.IndexOf(logits, logits.Max()));
                session.Forward([id], logits, 1);
            }
        }
    }

    [Fact]
    public void A_cached_forward_after_rollbacks_equals_the_whole_forward()
    {
        using var decoder = Decoder.Load(SharedAssets.Path("data", "stories260K"));
        using var model = new TorchCausalModel(decoder, ownsDecoder: false);
        int[] ids = [1, 40, 41, 42, 100, 7, 8, 9, 300, 12, 13, 14];
        using var hidden = decoder.ForwardHidden(TorchSharp.torch.tensor(Array.ConvertAll(ids, i => (long)i), [1L, ids.Length]));
        using var whole = TorchSharp.torch.nn.functional.linear(hidden, decoder.HeadWeight);
        var expected = whole.data<float>().ToArray();
        using var session = model.StartSession();
        var logits = new float[model.VocabularySize];
        session.Forward(ids.AsSpan(0, 5), logits, 1);
        session.Forward([500, 501, 502], new float[3 * model.VocabularySize], 3);
        session.Rollback(5);
        var rest = new float[7 * model.VocabularySize];
        session.Forward(ids.AsSpan(5), rest, 7);
        Assert.True(expected.Skip(5 * model.VocabularySize).Zip(rest, (e, a) => Math.Abs(e - a)).Max() < 1e-4f);
    }

    [Theory]
    [MemberData(nameof(Compared))]
    public void Architectures_of_the_family_agree_with_the_reference(string name) => ArchitectureReference.Compare(name, folder => new TorchCausalModel(Decoder.Load(folder)));

    [Theory]
    [InlineData("phi3")]
    [InlineData("phi3-longrope")]
    public void The_decoder_that_is_trained_agrees_too(string name)
    {
        using var decoder = Decoder.Load(SharedAssets.Path("golden", "architectures", name));
        var reference = ArchitectureReference.Load(name);
        using var hidden = decoder.ForwardHidden(TorchSharp.torch.tensor(Array.ConvertAll(reference.Ids, i => (long)i), [reference.Rows, reference.Length]));
        using var logits = TorchSharp.torch.nn.functional.linear(hidden, decoder.HeadWeight);
        Assert.True(reference.Logits.Zip(logits.data<float>().ToArray(), (e, a) => Math.Abs(e - a)).Max() <= 1e-4f);
    }
}
