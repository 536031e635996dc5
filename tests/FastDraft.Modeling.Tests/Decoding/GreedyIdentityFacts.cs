using System.Text.Json.Nodes;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Decoding;

/// <summary>Greedy text with a draft is the target's own, on trained weights. FASTDRAFT_FULL=1 runs the full counts.</summary>
public sealed class GreedyIdentityFacts
{
    private static readonly bool Full = Environment.GetEnvironmentVariable("FASTDRAFT_FULL") == "1";

    public GreedyIdentityFacts()
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        Libtorch.Load();
    }

    public static TheoryData<int> Gammas => [.. Enumerable.Range(1, 8)];

    [Theory]
    [MemberData(nameof(Gammas))]
    public void A_draft_never_changes_the_greedy_text(int gamma)
    {
        using var target = new TorchCausalModel(Decoder.Load(SharedAssets.Path("data", "stories260K")));
        var tiny = new Decoder(target.Config with { NumLayers = 1, HiddenSize = 32, IntermediateSize = 64, NumHeads = 4, NumKeyValueHeads = 2 });
        tiny.Initialize(1);
        using var untrained = new TorchCausalModel(tiny);
        var random = new Random(gamma);
        var options = new GenerationOptions { MaxNewTokens = Full ? 128 : 32, DraftLength = gamma, IgnoreEos = true };
        for (var i = 0; i < (Full ? 200 : 3); i++)
        {
            int[] prompt = [1, .. Enumerable.Range(0, 1 + (i % 16)).Select(_ => random.Next(259, target.VocabularySize))];
            var expected = new PlainDecoder(target).Generate(prompt, options).Ids;
            var own = new SpeculativeDecoder(target, target).Generate(prompt, options);
            Assert.Equal(expected, own.Ids);
            Assert.Equal(own.Blocks.Sum(b => b.Drafted), own.Blocks.Sum(b => b.Accepted));
            var other = new SpeculativeDecoder(target, untrained).Generate(prompt, options);
            Assert.Equal(expected, other.Ids);
            Assert.True(other.Blocks.Sum(b => b.Accepted) < other.Blocks.Sum(b => b.Drafted) / 2);
        }
    }

    [Fact]
    public void The_28M_target_writes_its_reference_text_up_to_the_first_near_tie()
    {
        using var target = new TorchCausalModel(Decoder.Load(SharedAssets.Path("models", "target-28m")));
        var rows = File.ReadLines(SharedAssets.Path("golden", "target-28m", "greedy.jsonl")).Take(Full ? 40 : 3).Select(l => JsonNode.Parse(l)!.AsObject()).ToList();
        var beyond = 0;
        foreach (var row in rows)
        {
            int[] Ids(string name) => [.. row[name]!.AsArray().Select(n => n!.GetValue<int>())];
            var sure = row["tokens_before_first_gap_below_1e-3"]!.GetValue<int>();
            var expected = Ids("greedy_ids");
            var options = new GenerationOptions { MaxNewTokens = expected.Length, IgnoreEos = true };
            var actual = new PlainDecoder(target).Generate(Ids("prompt_ids"), options).Ids;
            Assert.Equal(expected[..sure], actual[..sure]);
            beyond += expected.SequenceEqual(actual) ? 1 : 0;
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{beyond} of {rows.Count} texts agree in every token.");
    }
}
