using FastDraft.Modeling.Training;

namespace FastDraft.Modeling.Tests.Training;

public sealed class TokenShardsFacts : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("shards-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(65536, 2)]
    [InlineData(65537, 4)]
    public void Ids_round_trip_across_documents_and_shard_files(int vocabularySize, int width)
    {
        int[] first = [0, 1, 65535, 7, vocabularySize - 1];
        int[] second = [3, 300, 40000, 2];
        using (var writer = new TokenShardWriter(_folder, vocabularySize, "abc", maxTokensPerShard: 4))
        {
            writer.Append("train", first);
            writer.Append("train", second);
            writer.Append("validation", [9]);
            writer.Complete();
        }

        using var shards = TokenShards.Open(_folder);
        var train = shards.Split("train");
        var all = new int[9];
        train.CopyTo(0, all);
        Assert.Equal([.. first, .. second], all);
        var middle = new int[5];
        train.CopyTo(3, middle);
        Assert.Equal(all[3..8], middle);
        Assert.Equal((9L, 2L, 1L), (train.NumTokens, train.NumDocuments, shards.Split("validation").NumTokens));
        Assert.Equal((vocabularySize, "abc"), (shards.VocabularySize, shards.TokenizerDigest));
        Assert.Equal(4 * width, new FileInfo(Path.Combine(_folder, "train-00000.bin")).Length);
        Assert.Equal([0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], File.ReadAllBytes(Path.Combine(_folder, "train-documents.bin")));
        Assert.Throws<ArgumentOutOfRangeException>(() => train.CopyTo(5, new int[5]));
    }

    [Fact]
    public void An_id_outside_the_vocabulary_is_refused()
    {
        using var writer = new TokenShardWriter(_folder, 10, "abc");
        Assert.Throws<ArgumentException>(() => writer.Append("train", [10]));
    }

    [Fact]
    public void A_folder_without_manifest_or_with_a_cut_off_shard_is_refused()
    {
        using (var writer = new TokenShardWriter(_folder, 10, "abc"))
        {
            writer.Append("train", [1, 2, 3]);
            Assert.Throws<InvalidDataException>(() => TokenShards.Open(_folder));
            writer.Complete();
        }

        File.WriteAllBytes(Path.Combine(_folder, "train-00000.bin"), [1, 0, 2, 0]);
        Assert.Throws<InvalidDataException>(() => TokenShards.Open(_folder));
    }
}
