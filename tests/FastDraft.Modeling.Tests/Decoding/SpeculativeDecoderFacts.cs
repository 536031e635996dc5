using FastDraft.Modeling.Decoding;

namespace FastDraft.Modeling.Tests.Decoding;

public sealed class SpeculativeDecoderFacts
{
    public static TheoryData<int> Gammas => [.. Enumerable.Range(0, 9)];

    [Theory]
    [MemberData(nameof(Gammas))]
    public void Greedy_text_is_the_targets_own_for_any_draft_and_stop(int gamma)
    {
        using var target = new TableModel(16, 5);
        using var other = new TableModel(16, 6);
        using var same = new TableModel(16, 5);
        using var shortContext = new TableModel(16, 5, contextLength: 12);
        int[][] prompts = [[1], [1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1]];
        foreach (var draft in new[] { other, same, shortContext })
        {
            foreach (var prompt in prompts)
            {
                for (var eos = -1; eos < 16; eos++)
                {
                    var options = new GenerationOptions { MaxNewTokens = 23, DraftLength = gamma, EosTokenIds = [eos] };
                    var expected = new PlainDecoder(target).Generate(prompt, options);
                    var streamed = new List<int>();
                    var actual = new SpeculativeDecoder(target, draft).Generate(prompt, options, streamed.Add);
                    Assert.Equal(expected.Ids, actual.Ids);
                    Assert.Equal(expected.FinishReason, actual.FinishReason);
                    Assert.Equal(actual.Ids, streamed);
                    Assert.Equal(actual.Ids.Length, actual.Blocks.Sum(b => b.Emitted));
                    Assert.Equal(prompt.Length + actual.Ids.Length - 1, target.LastLength);
                }
            }
        }
    }

    [Fact]
    public void The_target_as_its_own_draft_is_always_accepted()
    {
        using var model = new TableModel(16, 5);
        foreach (var temperature in new[] { 0, 1.0 })
        {
            var result = new SpeculativeDecoder(model, model).Generate(
                [1, 2], new() { MaxNewTokens = 50, DraftLength = 4, Temperature = temperature, RecordOverlaps = true });
            Assert.Equal(10, result.Blocks.Count);
            Assert.All(result.Blocks, b => Assert.Equal((4, 4, 5), (b.Drafted, b.Accepted, b.Emitted)));
            Assert.All(result.Blocks.SelectMany(b => b.Overlaps), overlap => Assert.Equal(1, overlap, 12));
        }
    }

    [Fact]
    public void Both_decoders_stop_at_the_targets_context()
    {
        using var target = new TableModel(16, 5, contextLength: 20);
        using var draft = new TableModel(16, 6);
        var options = new GenerationOptions { MaxNewTokens = 100, DraftLength = 5 };
        var plain = new PlainDecoder(target).Generate([1, 2, 3], options);
        var speculative = new SpeculativeDecoder(target, draft).Generate([1, 2, 3], options);
        Assert.Equal(17, plain.Ids.Length);
        Assert.Equal(plain.Ids, speculative.Ids);
        Assert.Equal((FinishReason.Context, FinishReason.Context), (plain.FinishReason, speculative.FinishReason));
        Assert.Throws<ArgumentException>(() => new PlainDecoder(target).Generate(new int[21], options));
        Assert.Throws<ArgumentException>(() => new SpeculativeDecoder(target, draft).Generate([], options));
    }

    [Fact]
    public void Same_seed_same_text_and_other_seed_other_text()
    {
        using var target = new TableModel(16, 5);
        using var draft = new TableModel(16, 6);
        var decoder = new SpeculativeDecoder(target, draft);
        var options = new GenerationOptions { MaxNewTokens = 40, Temperature = .8, TopK = 10, TopP = .9, Seed = 7 };
        Assert.Equal(decoder.Generate([1], options).Ids, decoder.Generate([1], options).Ids);
        Assert.NotEqual(decoder.Generate([1], options).Ids, decoder.Generate([1], options with { Seed = 8 }).Ids);
    }

    [Fact]
    public void Cuts_keep_the_likeliest_tokens_and_ties_go_to_the_lowest_id()
    {
        var law = new double[4];
        float[] logits = [MathF.Log(.1f), MathF.Log(.4f), MathF.Log(.4f), MathF.Log(.1f)];
        Assert.Equal(1, Sampling.ArgMax([0, 2, 2, 1]));
        Sampling.Transform(logits, law, 1, topK: 3);
        Assert.Equal(0, law[3]);
        Assert.Equal(.1 / .9, law[0], 6);
        Sampling.Transform(logits, law, 1, topP: .7);
        Assert.Equal(0, law[0]);
        Assert.Equal(.5, law[1], 6);
        Sampling.Transform(logits, law, 0);
        Assert.Equal([0, 1, 0, 0], law);
    }
}
