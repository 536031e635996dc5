using System.Text.Json;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;

namespace FastDraft.Modeling.Tests.Checkpoints;

public sealed class SafetensorsFolderFacts : IDisposable
{
    private readonly ScratchFolder _scratch = new();

    [Fact]
    public void Shards_read_as_one_set_of_tensors()
    {
        Shard("model-00001-of-00002.safetensors", "a", 1);
        Shard("model-00002-of-00002.safetensors", "b", 2);
        Index(("a", "model-00001-of-00002.safetensors"), ("b", "model-00002-of-00002.safetensors"));
        using var folder = SafetensorsFolder.Open(_scratch.Path);
        Assert.Equal(["a", "b"], folder.Tensors.Keys.Order());
        Assert.Equal(1, folder.Bytes("a")[0]);
        Assert.Equal(2, folder.Bytes("b")[0]);
    }

    [Theory]
    [InlineData("../model.safetensors")]
    [InlineData("..")]
    [InlineData("/tmp/model.safetensors")]
    [InlineData("a/../model.safetensors")]
    [InlineData("model.bin")]
    [InlineData("")]
    public void A_shard_outside_the_folder_is_refused(string name)
    {
        Index(("a", name));
        var error = Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(_scratch.Path));
        Assert.Contains($"names shard '{name}'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_tensor_in_two_shards_is_refused()
    {
        Shard("one.safetensors", "a", 1);
        Shard("two.safetensors", "a", 2);
        Index(("a", "one.safetensors"), ("b", "two.safetensors"));
        Assert.Contains("two shards", Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(_scratch.Path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("{\"weight_map\":[]}")]
    [InlineData("{\"weight_map\":{\"a\":null}}")]
    [InlineData("{\"weight_map\":{\"a\":7}}")]
    [InlineData("{\"weight_map\":")]
    public void A_malformed_index_is_refused(string json)
    {
        File.WriteAllText(_scratch.File("model.safetensors.index.json"), json);
        Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(_scratch.Path));
    }

    [Theory]
    [InlineData("pytorch_model.bin")]
    [InlineData("model.pt")]
    [InlineData("model.pth")]
    [InlineData("last.ckpt")]
    [InlineData("weights.NPZ")]
    public void Pickled_weights_are_refused_by_name(string name)
    {
        File.WriteAllBytes(_scratch.File(name), [0x80, 2, (byte)'.']);
        var error = Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(_scratch.Path));
        Assert.Contains(name, error.Message, StringComparison.Ordinal);
        Assert.Contains("pickled", error.Message, StringComparison.Ordinal);
        Assert.NotNull(error.Hint);
    }

    [Theory]
    [InlineData("504B030414000000")]
    [InlineData("80027D7100285805")]
    [InlineData("8004958F0C000000")]
    [InlineData("934E554D50590100")]
    public void A_pickle_renamed_to_safetensors_is_refused_as_what_it_is(string start)
    {
        File.WriteAllBytes(_scratch.File("model.safetensors"), [.. Convert.FromHexString(start), .. new byte[60]]);
        Assert.Contains("pickle", Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(_scratch.Path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_or_empty_folder_is_named()
    {
        var missing = _scratch.File("nowhere");
        Assert.Contains(missing, Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(missing)).Message, StringComparison.Ordinal);
        Assert.Contains(_scratch.Path, Assert.Throws<CheckpointException>(() => SafetensorsFolder.Open(_scratch.Path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"model_type\":\"mamba\"}", "mamba")]
    [InlineData("{}", "model_type")]
    [InlineData("{\"model_type\":7}", "config.json")]
    [InlineData("{\"model_type\":\"llama\",\"hidden_size\":-4}", "hidden_size")]
    [InlineData("{\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"yarn\"}}", "yarn")]
    [InlineData("{\"model_type\":\"llama\",\"attention_bias\":true}", "attention_bias")]
    [InlineData("[1]", "config.json")]
    [InlineData("{", "config.json")]
    public void A_model_of_another_family_is_refused_with_the_reason(string json, string reason)
    {
        File.WriteAllText(_scratch.File("config.json"), json);
        Assert.Contains(reason, Assert.Throws<CheckpointException>(() => DecoderConfig.Load(_scratch.Path)).Message, StringComparison.Ordinal);
    }

    public void Dispose() => _scratch.Dispose();

    private void Shard(string file, string tensor, byte value) =>
        SafetensorsWriter.Write(_scratch.File(file), [new SafetensorsTensor(tensor, "U8", [1], new[] { value })]);

    private void Index(params (string Tensor, string File)[] map) => File.WriteAllText(
        _scratch.File("model.safetensors.index.json"),
        JsonSerializer.Serialize(new { weight_map = map.ToDictionary(m => m.Tensor, m => m.File) }));
}
