using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Training;

namespace FastDraft.Stages.Tests.Training;

public sealed class PretrainDraftStageFacts : IDisposable
{
    private readonly TrainingFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task Loss_falls_and_a_second_attempt_takes_up_the_checkpoint_with_the_same_bits()
    {
        folder.WriteTokens(40);
        await folder.PretrainAsync();
        var loss = folder.Values("loss").ToList();
        Assert.True(loss[^1] < loss[0] - 1, $"{loss[0]} to {loss[^1]}");
        Assert.Contains(folder.Metrics, m => m.Name == "validation_loss" && m.Value < loss[0]);

        var first = Weights("draft");
        await folder.PretrainAsync();
        Assert.Contains(folder.Lines, l => l.StartsWith("Resumed at step 30", StringComparison.Ordinal));
        Assert.Equal(first, Weights("draft"));

        await folder.PretrainAsync(output: "again");
        Assert.Equal(first, Weights("again"));
    }

    [Theory]
    [InlineData(0.2, null, 0.1)]
    [InlineData(5, null, 0.5)]
    [InlineData(40, null, 2.0)]
    [InlineData(5, 0.3, 0.3)]
    public async Task Weights_decay_the_more_the_oftener_the_corpus_is_read(double numPasses, double? given, double expected)
    {
        folder.WriteTokens(8);
        using var shards = TokenShards.Open(folder["tokens"]);
        var numTokens = (long)(shards.Split("train").NumTokens * numPasses);
        await folder.PretrainAsync(new JsonObject { ["numTokens"] = numTokens, ["weightDecay"] = given });
        Assert.Equal(expected, JsonNode.Parse(File.ReadAllText(Path.Join(folder["draft"], "meta.json")))!["weightDecay"]!.GetValue<double>(), 0.02);
    }

    [Fact]
    public async Task A_loss_that_is_not_finite_is_one_data_error()
    {
        folder.WriteTokens(40);
        var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.PretrainAsync(new JsonObject { ["learningRate"] = 1e30 }));
        Assert.Equal(FailureKind.Data, error.Kind);
        Assert.Contains("Training stopped at step", error.Message, StringComparison.Ordinal);
        Assert.Contains("not finite", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_corpus_smaller_than_one_batch_is_one_data_error()
    {
        folder.WriteTokens(2);
        var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.PretrainAsync(new JsonObject { ["batchSize"] = 4096 }));
        Assert.Equal(FailureKind.Data, error.Kind);
        Assert.Contains("a batch needs 4096", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("tpu", "'tpu' is not known")]
    [InlineData("cuda", "this machine offers none")]
    public async Task An_accelerator_that_is_not_there_is_one_config_error(string accelerator, string reason)
    {
        Assert.SkipWhen(accelerator == "cuda" && Modeling.Native.Libtorch.CudaAvailable, "SKIPPED: this machine has CUDA.");
        folder.WriteTokens(8);
        var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.PretrainAsync(new JsonObject { ["accelerator"] = accelerator }));
        Assert.Equal(FailureKind.Config, error.Kind);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Shards_of_another_tokenizer_are_refused_before_training()
    {
        folder.WriteTokens(8);
        File.WriteAllText(Path.Join(folder["tokenizer"], "manifest.json"), """{"sha256":"00"}""");
        var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.PretrainAsync());
        Assert.Equal(FailureKind.Data, error.Kind);
        Assert.Contains("the tokenizer input is 00", error.Message, StringComparison.Ordinal);
        Assert.Empty(folder.Metrics);
    }

    private byte[] Weights(string output) => File.ReadAllBytes(Path.Join(folder[output], "model.safetensors"));
}
