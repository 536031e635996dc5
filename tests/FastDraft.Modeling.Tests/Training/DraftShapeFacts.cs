using FastDraft.Modeling.Training;

namespace FastDraft.Modeling.Tests.Training;

public sealed class DraftShapeFacts
{
    private static readonly TargetShape Target28M = new(8192, 8, 8);

    [Theory]
    [InlineData(1_500_000, 2, 128, 4, 32)]
    [InlineData(4_000_000, 2, 256, 4, 64)]
    public void Budget_gives_few_layers_and_the_widest_model_that_fits(long budget, int layers, int hidden, int heads, int headSize)
    {
        var shape = DraftShape.Derive(budget, Target28M);
        Assert.Equal((layers, hidden, heads, headSize), (shape.NumLayers, shape.HiddenSize, shape.NumHeads, shape.HeadSize));
        Assert.InRange(shape.NumParameters, budget / 2, budget);
    }

    [Fact]
    public void Parameters_are_counted_by_hand()
    {
        // 8 x 4 embedding, final norm 4, two layers of q 4x4, o 4x4, k and v 2x4 each, three 6x4 matrices and two norms.
        var shape = new DraftShape(8, 2, 4, 6, 2, 1, 2, TieWordEmbeddings: true);
        Assert.Equal((8 * 4) + 4 + (2 * (16 + 16 + 8 + 8 + 72 + 8)), shape.NumParameters);
    }

    [Fact]
    public void A_budget_below_the_embedding_names_the_minimum()
    {
        var error = Assert.Throws<ArgumentException>(() => DraftShape.Derive(1_000_000, new(128_256, 32, 8)));
        Assert.Contains(DraftShape.Derive(long.MaxValue / 4, new(128_256, 32, 8), hiddenSize: 32, numLayers: 2).NumParameters.ToString("N0"), error.Message);
    }

    [Fact]
    public void Grouped_query_attention_follows_the_target_and_overrides_hold()
    {
        var shape = DraftShape.Derive(50_000_000, new(32000, 32, 8), numLayers: 3, hiddenSize: 512, numHeads: 8);
        Assert.Equal((3, 512, 8, 2, 64), (shape.NumLayers, shape.HiddenSize, shape.NumHeads, shape.NumKeyValueHeads, shape.HeadSize));
        Assert.Throws<ArgumentException>(() => DraftShape.Derive(50_000_000, new(32000, 32, 8), hiddenSize: 512, numHeads: 7));
    }
}
