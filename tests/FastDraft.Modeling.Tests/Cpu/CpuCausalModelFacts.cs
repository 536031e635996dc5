using System.Text.Json.Nodes;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.Modeling.Tests.Models;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Cpu;

public sealed class CpuCausalModelFacts : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void A_tokens_logits_have_the_same_bits_alone_in_a_block_and_in_a_batch(int numThreads)
    {
        using var model = CpuCausalModel.Load(RandomModel(tied: false, TorchSharp.torch.ScalarType.BFloat16), numThreads);
        int[] ids = [.. Enumerable.Range(0, 23).Select(i => i * 37 % model.VocabularySize)];
        var alone = new float[ids.Length * model.VocabularySize];
        using (var session = model.StartSession())
        {
            for (var i = 0; i < ids.Length; i++)
            {
                session.Forward(ids.AsSpan(i, 1), alone.AsSpan(i * model.VocabularySize, model.VocabularySize), 1);
            }
        }

        for (var size = 2; size <= ids.Length; size++)
        {
            using var session = model.StartSession();
            session.Forward(ids.AsSpan(0, ids.Length - size + 1), new float[model.VocabularySize], 1);
            session.Rollback(ids.Length - size);
            var block = new float[size * model.VocabularySize];
            session.Forward(ids.AsSpan(ids.Length - size), block, size);
            Assert.Equal(alone[((ids.Length - size) * model.VocabularySize)..], block);
        }

        using var batch = model.StartSession(2);
        var both = new float[2 * model.VocabularySize];
        batch.Forward([.. ids, .. ids.Reverse()], both, 1);
        Assert.Equal(alone[((ids.Length - 1) * model.VocabularySize)..], both[..model.VocabularySize]);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Logits_agree_with_the_tensor_library(bool tied)
    {
        var folder = RandomModel(tied, TorchSharp.torch.ScalarType.Float32);
        using var reference = new TorchCausalModel(Decoder.Load(folder));
        using var model = CpuCausalModel.Load(folder, 2);
        int[] ids = [.. Enumerable.Range(0, 40).Select(i => i * 29 % model.VocabularySize)];
        var expected = new float[ids.Length * model.VocabularySize];
        var actual = new float[expected.Length];
        using var a = reference.StartSession();
        using var b = model.StartSession();
        a.Forward(ids, expected, ids.Length);
        b.Forward(ids, actual, ids.Length);
        Assert.True(expected.Zip(actual, (e, x) => Math.Abs(e - x)).Max() < 1e-4f);
    }

    [Fact]
    public void A_rounded_draft_is_the_one_whose_weights_the_tensor_library_wrote_in_bfloat16()
    {
        using var rounded = CpuCausalModel.Load(RandomModel(tied: false, TorchSharp.torch.ScalarType.Float32), 1, rounded: true);
        using var exact = CpuCausalModel.Load(_folder, 1);
        using var written = CpuCausalModel.Load(RandomModel(tied: false, TorchSharp.torch.ScalarType.BFloat16), 1);
        int[] ids = [.. Enumerable.Range(0, 20).Select(i => i * 31 % written.VocabularySize)];
        Assert.Equal(Logits(written), Logits(rounded));
        Assert.NotEqual(Logits(exact), Logits(rounded));

        float[] Logits(CpuCausalModel model)
        {
            var logits = new float[ids.Length * model.VocabularySize];
            using var session = model.StartSession();
            session.Forward(ids, logits, ids.Length);
            return logits;
        }
    }

    [Theory]
    [MemberData(nameof(DecoderFacts.Compared), MemberType = typeof(DecoderFacts))]
    public void Architectures_of_the_family_agree_with_the_reference(string name)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        ArchitectureReference.Compare(name, folder => CpuCausalModel.Load(folder, 1));
    }

    [Fact]
    public void A_block_over_the_original_context_has_the_logits_of_its_tokens_one_by_one_in_both_engines()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        var folder = SharedAssets.Path("golden", "architectures", "phi3-longrope");
        using var cpu = CpuCausalModel.Load(folder, 1);
        using var torch = new TorchCausalModel(Decoder.Load(folder));
        int[] ids = [.. ArchitectureReference.Load("phi3-longrope").Ids.Take(70)];
        foreach (var model in new ICausalModel[] { cpu, torch })
        {
            var v = model.VocabularySize;
            using var single = model.StartSession();
            single.Forward(ids.AsSpan(0, 60), new float[v], 1);
            var expected = new float[10 * v];
            for (var i = 0; i < 10; i++)
            {
                single.Forward(ids.AsSpan(60 + i, 1), expected.AsSpan(i * v, v), 1);
            }

            // Rows 60 to 63 are of a short sequence, 64 to 69 of a long one; asked for all of them, and for some of each.
            using var block = model.StartSession();
            block.Forward(ids.AsSpan(0, 60), new float[v], 1);
            foreach (var rows in new[] { 10, 8, 3 })
            {
                var actual = new float[rows * v];
                block.Forward(ids.AsSpan(60), actual, rows);
                Assert.True(expected[((10 - rows) * v)..].Zip(actual, (e, a) => Math.Abs(e - a)).Max() <= 1e-4f);
                block.Rollback(60);
            }
        }
    }

    [Fact]
    public void Stories260K_agrees_with_the_reference()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        using var model = CpuCausalModel.Load(SharedAssets.Path("data", "stories260K"));
        using var golden = SafetensorsFile.Open(SharedAssets.Path("data", "golden", "stories260K_logits.safetensors"));
        var expected = new float[64 * model.VocabularySize];
        golden.ReadFloat32("logits_f64_rounded", expected);
        var ids = new float[64];
        golden.ReadFloat32("input_ids", ids);
        using var session = model.StartSession();
        var actual = new float[expected.Length];
        session.Forward(Array.ConvertAll(ids, i => (int)i), actual, ids.Length);
        Assert.True(expected.Zip(actual, (e, a) => Math.Abs(e - a)).Max() <= 2e-4f);
        foreach (var row in File.ReadLines(SharedAssets.Path("data", "golden", "stories260K_prompts_greedy.jsonl")).Select(l => JsonNode.Parse(l)!))
        {
            var expectedIds = Ids(row, "greedy_ids");
            Assert.Equal(expectedIds, new PlainDecoder(model).Generate(Ids(row, "prompt_ids"), new GenerationOptions { MaxNewTokens = expectedIds.Length, IgnoreEos = true }).Ids);
        }
    }

    [Fact]
    public void Target28M_writes_the_reference_continuations()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        using var model = CpuCausalModel.Load(SharedAssets.Path("models", "target-28m"));
        var rows = File.ReadLines(SharedAssets.Path("golden", "target-28m", "greedy.jsonl")).Select(l => JsonNode.Parse(l)!).ToList();
        Assert.Equal(40, rows.Count);
        foreach (var row in rows)
        {
            var expected = Ids(row, "greedy_ids");
            var certain = row["tokens_before_first_gap_below_1e-3"]!.GetValue<int>();
            var actual = new PlainDecoder(model).Generate(Ids(row, "prompt_ids"), new GenerationOptions { MaxNewTokens = expected.Length, IgnoreEos = true }).Ids;
            Assert.Equal(expected[..certain], actual[..certain]);
        }
    }

    [Fact]
    public void Ranges_are_computed_once_whatever_the_threads_do()
    {
        using var sharing = new WorkSharing(4);
        for (var round = 0; round < 20_000; round++)
        {
            var work = new Counting(1 + (round % 97));
            sharing.Run(work, work.Counts.Length, 1 + (round % 5));
            Assert.All(work.Counts, count => Assert.Equal(1, count));
        }
    }

    private static int[] Ids(JsonNode row, string name) => [.. row[name]!.AsArray().Select(n => n!.GetValue<int>())];

    private string RandomModel(bool tied, TorchSharp.torch.ScalarType dtype)
    {
        Libtorch.Load();
        using var decoder = new Decoder(new DecoderConfig
        {
            VocabularySize = 75,
            HiddenSize = 36,
            IntermediateSize = 100,
            NumLayers = 2,
            NumHeads = 6,
            NumKeyValueHeads = 2,
            HeadSize = 6,
            MaxPositions = 64,
            TieWordEmbeddings = tied,
        });
        decoder.Initialize(5);
        decoder.Save(_folder, dtype);
        return _folder;
    }

    private sealed class Counting(int count) : IRangeWork
    {
        public int[] Counts { get; } = new int[count];

        public void Run(int start, int end)
        {
            for (var i = start; i < end; i++)
            {
                Interlocked.Increment(ref Counts[i]);
            }
        }
    }
}
