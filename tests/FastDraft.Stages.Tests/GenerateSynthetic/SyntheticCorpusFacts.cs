using FastDraft.Modeling.Models;
using FastDraft.Stages.GenerateSynthetic;

namespace FastDraft.Stages.Tests.GenerateSynthetic;

public sealed class SyntheticCorpusFacts
{
    [Fact]
    public void Rows_come_back_as_written_and_equal_rows_give_equal_bytes()
    {
        var folder = Directory.CreateTempSubdirectory().FullName;
        try
        {
            SyntheticRow[] rows =
            [
                new()
                {
                    Id = "0", PromptIds = [1, 2], ResponseIds = [3, 4, 5], FinishReason = "eos",
                    Generator = new("target", "sha256:0"), Sampling = new(.6, 1, 0, ulong.MaxValue),
                },
            ];
            SyntheticCorpus.Write(folder, "train", rows);
            var first = File.ReadAllBytes(Path.Combine(folder, "train.jsonl.gz"));
            var read = Assert.Single(SyntheticCorpus.Read(folder, "train"));
            Assert.Equal([1, 2], read.PromptIds);
            Assert.Equal([3, 4, 5], read.ResponseIds);
            Assert.Equal([0, 0, 1, 1, 1], read.LossMask);
            Assert.Equal(rows[0].Sampling, read.Sampling);
            Assert.Equal(rows[0].Generator, read.Generator);
            SyntheticCorpus.Write(folder, "train", rows);
            Assert.Equal(first, File.ReadAllBytes(Path.Combine(folder, "train.jsonl.gz")));
            Assert.Empty(SyntheticCorpus.Read(folder, "validation"));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void A_rows_text_does_not_depend_on_its_batch()
    {
        using var model = new CycleModel();
        RolloutPrompt[] prompts = [.. Enumerable.Range(0, 20).Select(i => new RolloutPrompt(i, [i % 5, 1], i % 2))];
        var together = Rollout.Generate(model, prompts, 30, [4], 9, CancellationToken.None);
        for (var i = 0; i < prompts.Length; i++)
        {
            var alone = Assert.Single(Rollout.Generate(model, [prompts[i]], 30, [4], 9, CancellationToken.None));
            Assert.Equal(alone.Ids, together[i].Ids);
            Assert.Equal(together[i].Ids.Contains(4), together[i].Ended);
            Assert.DoesNotContain(4, together[i].Ids[..^1]);
        }

        // Ten sampled rows are all equal only if rows shared their randomness.
        Assert.True(together.Where((_, i) => i % 2 == 1).Select(text => string.Join(',', text.Ids)).Distinct().Count() > 1);
    }

    [Fact]
    public void A_loop_repeats_and_fresh_text_does_not()
    {
        Assert.Equal(0, Rollout.RepetitionRatio([.. Enumerable.Range(0, 40)]));
        Assert.True(Rollout.RepetitionRatio([.. Enumerable.Range(0, 40).Select(i => i % 2)]) > .9);
    }

    [Theory]
    [InlineData(.3, 0)]
    [InlineData(1, 2)]
    public void A_text_that_goes_round_in_circles_until_the_cap_is_dropped_unless_all_are_kept(double maxRepetition, int kept)
    {
        var folder = Directory.CreateTempSubdirectory().FullName;
        try
        {
            // Greedy, and without an end of sequence: 0 1 2 3 4 0 1 2 3 4 ...
            using var model = new CycleModel();
            var options = new SyntheticGenerationOptions("sha256:0", 30, [0], maxRepetition, [], 2, 1);
            var result = SyntheticGeneration.Run(model, [[0], [1]], options, folder, null, CancellationToken.None);
            Assert.Equal((kept, 2 - kept), (result.Rows.Count, result.NumDropped));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Five tokens; the next is likely the successor of the last, and 4 ends a text.</summary>
    private sealed class CycleModel : ICausalModel
    {
        public int VocabularySize => 5;

        public int ContextLength => 64;

        public long NumParameters => 5;

        public ICausalSession StartSession(int batch = 1, int? capacity = null) => new Session(batch, capacity ?? ContextLength);

        public void Dispose()
        {
        }

        private sealed class Session(int batch, int capacity) : ICausalSession
        {
            public int Length { get; private set; }

            public int Capacity => capacity;

            public void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
            {
                var count = tokens.Length / batch;
                Length += count;
                Assert.InRange(Length, 1, capacity);
                logits.Clear();
                for (var row = 0; row < batch; row++)
                {
                    logits[(row * 5) + ((tokens[((row + 1) * count) - 1] + 1) % 4)] = 1;
                }
            }

            public void Rollback(int length) => Length = length;

            public void Dispose()
            {
            }
        }
    }
}
