using FastDraft.Modeling.Training;

namespace FastDraft.Modeling.Tests.Training;

public sealed class BatchSourceFacts : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("batches-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(1000)]
    public void Permutation_visits_every_index_once(int count)
    {
        var visited = Enumerable.Range(0, count).Select(i => Permutation.At(7, i, count)).ToList();
        Assert.Equal(Enumerable.Range(0, count).Select(i => (long)i), visited.Order());
        if (count > 2)
        {
            Assert.NotEqual(visited, Enumerable.Range(0, count).Select(i => Permutation.At(8, i, count)));
        }
    }

    [Fact]
    public void Loss_begins_at_the_position_that_predicts_the_first_response_token()
    {
        // Two prompt tokens (10, 11), two response tokens (12, 13): 11 predicts 12 and 12 predicts 13, nothing else counts.
        var ids = new long[5];
        var labels = new long[5];
        PaddedSequences.Write(new([10, 11, 12, 13], LossStart: 2), ids, labels);
        Assert.Equal([10, 11, 12, 13, 0], ids);
        Assert.Equal([-1, 12, 13, -1, -1], labels);
    }

    [Fact]
    public void An_epoch_of_packed_windows_shows_every_token_once_labels_are_the_next_tokens_and_the_cuts_move()
    {
        using (var writer = new TokenShardWriter(_folder, 100, "d"))
        {
            writer.Append("train", [.. Enumerable.Range(0, 41)]);
            writer.Complete();
        }

        using var shards = TokenShards.Open(_folder);
        var cuts = new List<long>();
        for (var epoch = 0; epoch < 20; epoch++)
        {
            var (ids, labels) = Fill(shards, 10 * epoch, 10);
            // Ten windows of four on a ring of 41: all tokens but the one before the first window.
            Assert.Equal(40, ids.Distinct().Count());
            Assert.Equal(ids.Select(i => (i + 1) % 41), labels);
            cuts.Add(ids.Chunk(4).Select(w => w[0]).Where(first => !ids.Contains((first + 40) % 41)).Single());
            var one = Fill(shards, (10 * epoch) + 7, 1).Ids;
            Assert.Equal(ids[28..32], one);
        }

        Assert.Equal([0L, 1, 2, 3], cuts.Distinct().Order());
    }

    private static (long[] Ids, long[] Labels) Fill(TokenShards shards, long firstRow, int rows)
    {
        var (ids, labels) = (new long[rows * 4], new long[rows * 4]);
        new PackedWindows(shards.Split("train"), 3).Fill(firstRow, rows, 4, ids, labels);
        return (ids, labels);
    }
}
