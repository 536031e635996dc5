using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Decoding;
using FastDraft.Stages.GenerateSynthetic;

namespace FastDraft.Stages.Tests.Training;

public sealed class FinetuneDraftStageFacts : IDisposable
{
    private readonly TrainingFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task Acceptance_rises_on_what_the_target_wrote()
    {
        await PretrainAsync();
        folder.WriteRows(96, 12);
        await folder.FinetuneAsync(new JsonObject { ["numTokens"] = 300 * 4 * 48, ["patience"] = 10 });
        var acceptance = folder.Values("acceptance").ToList();
        Assert.True(acceptance.Max() > acceptance[0] + 0.3, string.Join(' ', acceptance));
    }

    [Fact]
    public async Task A_training_that_only_harms_stops_early_and_gives_back_the_best_weights()
    {
        await PretrainAsync();
        folder.WriteRows(24, 6);
        await folder.FinetuneAsync(new JsonObject { ["learningRate"] = 0.5, ["patience"] = 2 });
        var acceptance = folder.Values("acceptance").ToList();
        Assert.Equal(acceptance[0], acceptance.Max());
        Assert.Equal(3, acceptance.Count);
        Assert.Equal(Weights("draft"), Weights("aligned"));
    }

    [Fact]
    public async Task Fewer_rows_than_a_batch_is_one_data_error()
    {
        await PretrainAsync();
        folder.WriteRows(3, 1);
        var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.FinetuneAsync());
        Assert.Equal(FailureKind.Data, error.Kind);
        Assert.Contains("3 training rows; a batch needs 4", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_sample_learnt_by_heart_is_accepted_in_whole_blocks()
    {
        await PretrainAsync();
        folder.WriteRows(1, 0);
        await folder.FinetuneAsync(new JsonObject { ["batchSize"] = 1, ["numTokens"] = 250 * 48, ["learningRate"] = 0.01 });
        var row = SyntheticCorpus.Read(folder["synthetic"], "train").Single();
        using var target = CpuCausalModel.Load(folder.Target, 1);
        using var draft = CpuCausalModel.Load(folder["aligned"], 1);
        var result = new SpeculativeDecoder(target, draft).Generate(row.PromptIds, new GenerationOptions { MaxNewTokens = 40, DraftLength = 4, IgnoreEos = true });
        Assert.Equal(row.ResponseIds, result.Ids);
        Assert.Equal(result.Blocks.Sum(b => b.Drafted), result.Blocks.Sum(b => b.Accepted));
        Assert.Equal(4, result.Blocks[0].Accepted);
    }

    private Task PretrainAsync()
    {
        folder.WriteTokens(40);
        return folder.PretrainAsync();
    }

    private byte[] Weights(string output) => File.ReadAllBytes(Path.Join(folder[output], "model.safetensors"));
}
