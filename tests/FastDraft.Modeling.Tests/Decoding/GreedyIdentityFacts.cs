using System.Text.Json.Nodes;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Decoding;

/// <summary>Greedy text with a draft is the target's own, on trained weights. FASTDRAFT_FULL=1 runs the full counts.</summary>
[Collection(typeof(StoriesCollection))]
public sealed class GreedyIdentityFacts
{
    private static readonly bool Full = Environment.GetEnvironmentVariable("FASTDRAFT_FULL") == "1";

    private readonly StoriesDrafts _drafts;

    public GreedyIdentityFacts(StoriesDrafts drafts)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        Libtorch.Load();
        _drafts = drafts;
    }

    public static TheoryData<string, int> Cases
    {
        get
        {
            var cases = new TheoryData<string, int>();
            int[] gammas = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12];
            foreach (var gamma in gammas)
            {
                cases.Add("cpu", gamma);
            }

            foreach (var gamma in Full ? gammas : [1, 4, 12])
            {
                cases.Add("torch", gamma);
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_draft_never_changes_the_greedy_text(string engine, int gamma)
    {
        using var target = _drafts.Load(engine, "target");
        using var trained = _drafts.Load(engine, "trained");
        using var untrained = _drafts.Load(engine, "untrained");
        var options = new GenerationOptions { MaxNewTokens = Full ? 128 : 32, DraftLength = gamma, IgnoreEos = true };
        var prompts = StoriesDrafts.Prompts(Full ? 200 : engine == "cpu" ? 32 : 3);
        var texts = prompts.Select(prompt => new PlainDecoder(target).Generate(prompt, options).Ids).ToList();
        var own = AcceptanceOf(target);
        var learnt = AcceptanceOf(trained);
        var none = AcceptanceOf(untrained);
        TestContext.Current.TestOutputHelper?.WriteLine($"{engine}, gamma {gamma}: {prompts.Length} prompts x {options.MaxNewTokens} tokens; accepted of its own {own:P1}, trained {learnt:P1}, untrained {none:P1}");
        if (gamma > 0)
        {
            Assert.Equal(1, own);
            Assert.InRange(learnt, none + .02, .99);
            Assert.InRange(none, 0, .1);
        }

        double AcceptanceOf(ICausalModel draft)
        {
            var results = prompts.Select(prompt => new SpeculativeDecoder(target, draft).Generate(prompt, options)).ToList();
            for (var i = 0; i < results.Count; i++)
            {
                Assert.True(texts[i].SequenceEqual(results[i].Ids), $"prompt {i}: {string.Join(' ', results[i].Ids)} instead of {string.Join(' ', texts[i])}");
            }

            return (double)results.Sum(r => r.Blocks.Sum(b => b.Accepted)) / results.Sum(r => r.Blocks.Sum(b => b.Drafted));
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
