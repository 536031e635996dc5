using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Stages.PyTorch;
using FastDraft.TestKit;

namespace FastDraft.Stages.Tests.Training;

/// <summary>The same stage with the C# trainer and with Python processes: nobody downstream can tell.</summary>
public sealed class PyTorchTrainerFacts : IDisposable
{
    private readonly TrainingFolder folder = new();

    public PyTorchTrainerFacts()
    {
        Assert.SkipUnless(TrainerPython.Present, TrainerPython.Missing);
        Environment.SetEnvironmentVariable("OMP_NUM_THREADS", "1");
    }

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Fifty_losses_and_the_weights_after_them_are_those_of_the_other_trainer(int numProcesses)
    {
        folder.WriteTokens(40);
        folder.WriteTokens(16, "replayTokens", skip: 40);
        var expected = await PretrainAsync("csharp", new JsonObject { ["trainer"] = "torchsharp" });
        var found = await PretrainAsync("python", new JsonObject { ["trainer"] = "pytorch", ["numProcesses"] = numProcesses });
        Assert.Equal(50, expected.Count);
        Assert.All(expected.Zip(found), pair => Assert.Equal(pair.First, pair.Second, 1e-4));
        AssertClose("csharp", "python", 1e-3);
        foreach (var name in new[] { "config.json", "generation_config.json", "tokenizer.json" })
        {
            Assert.Equal(File.ReadAllText(Path.Join(folder["csharp"], name)), File.ReadAllText(Path.Join(folder["python"], name)));
        }

        Assert.Equal(
            Directory.EnumerateFiles(folder["csharp"]).Select(Path.GetFileName).Order(), Directory.EnumerateFiles(folder["python"]).Select(Path.GetFileName).Order());
        var (one, other) = (Meta("csharp"), Meta("python"));
        Assert.Equal(one.Select(m => m.Key), other.Select(m => m.Key));
        Assert.Equal(one["validationLoss"]!.GetValue<double>(), other["validationLoss"]!.GetValue<double>(), 1e-4);
        Assert.Equal(one["steps"]!.GetValue<long>(), other["steps"]!.GetValue<long>());
    }

    [Fact]
    public async Task Alignment_has_the_losses_and_the_acceptance_of_the_other_trainer()
    {
        folder.WriteTokens(40);
        await folder.PretrainAsync();
        folder.WriteRows(24, 6);
        folder.Metrics.Clear();

        // At five times this rate fifty updates magnify the rounding of one operation a thousand times, whichever trainer computes them.
        var settings = new JsonObject { ["learningRate"] = 0.0001, ["patience"] = 10, ["trainer"] = "torchsharp" };
        await folder.FinetuneAsync(settings, "csharp");
        var (losses, acceptance) = Taken("loss", "acceptance");
        settings["trainer"] = "pytorch";
        await folder.FinetuneAsync(settings, "python");
        var (found, foundAcceptance) = Taken("loss", "acceptance");
        Assert.All(losses.Zip(found).Take(50), pair => Assert.Equal(pair.First, pair.Second, 1e-4));
        Assert.All(acceptance.Zip(foundAcceptance), pair => Assert.Equal(pair.First, pair.Second, 1e-3));
        Assert.Equal(acceptance.Count, foundAcceptance.Count);
        Assert.Equal(Meta("csharp")["steps"]!.GetValue<long>(), Meta("python")["steps"]!.GetValue<long>());
    }

    [Fact]
    public async Task An_alignment_that_only_harms_stops_early_and_gives_back_the_best_weights()
    {
        folder.WriteTokens(40);
        await folder.PretrainAsync();
        folder.WriteRows(24, 6);
        await folder.FinetuneAsync(new JsonObject { ["learningRate"] = 0.5, ["patience"] = 2, ["trainer"] = "pytorch" }, "python");
        Assert.Equal(3, folder.Values("acceptance").Count());
        AssertClose("draft", "python", 1e-9);
    }

    [Fact]
    public async Task A_training_that_was_begun_in_csharp_goes_on_in_python()
    {
        folder.WriteTokens(40);
        var settings = new JsonObject { ["trainer"] = "torchsharp", ["checkpointSeconds"] = 0.0, ["learningRate"] = 0.002 };
        await folder.PretrainAsync(settings, "whole");
        var whole = folder.Values("loss").ToList();
        folder.Metrics.Clear();
        using (var cancel = CancelAtStep(12))
        {
            await Assert.ThrowsAsync<OperationCanceledException>(() => folder.PretrainAsync(settings, "moved", cancel.Token));
        }

        settings["trainer"] = "pytorch";
        await folder.PretrainAsync(settings, "moved");
        Assert.Contains(folder.Lines, l => l.StartsWith("Resumed at step", StringComparison.Ordinal));
        Assert.All(folder.Metrics.Where(m => m.Name == "loss"), m => Assert.Equal(whole[(int)m.Step - 1], m.Value, 1e-4));
        AssertClose("whole", "moved", 1e-3);
    }

    [Fact]
    public async Task A_killed_process_ends_all_with_the_reason_and_the_next_attempt_goes_on()
    {
        folder.WriteTokens(40);
        var settings = new JsonObject { ["trainer"] = "pytorch", ["numProcesses"] = 2, ["checkpointSeconds"] = 0.0 };
        var killed = 0;
        folder.OnMetric = (_, step) =>
        {
            if (step >= 10 && Interlocked.Exchange(ref killed, 1) == 0)
            {
                Process.GetProcessById(Processes()[^1]).Kill();
            }
        };
        var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.PretrainAsync(settings));
        Assert.Equal(FailureKind.Infrastructure, error.Kind);
        Assert.Contains("of 2 was killed by signal 9", error.Message, StringComparison.Ordinal);
        Assert.Empty(Processes());
        folder.OnMetric = null;
        await folder.PretrainAsync(settings);
        Assert.Contains(folder.Lines, l => l.StartsWith("Resumed at step", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_cancelled_training_leaves_a_checkpoint_of_that_moment_and_no_process()
    {
        folder.WriteTokens(40);
        var settings = new JsonObject { ["trainer"] = "pytorch", ["numProcesses"] = 2, ["checkpointSeconds"] = 1e6, ["numTokens"] = 4000 * 8 * 32 };
        using var cancel = CancelAtStep(1);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => folder.PretrainAsync(settings, cancellationToken: cancel.Token));
        Assert.Empty(Processes());
        Assert.True(File.Exists(Path.Join(folder["scratch-draft"], "training.safetensors")));
    }

    [Fact]
    public async Task A_loss_that_is_not_finite_is_one_data_error()
    {
        folder.WriteTokens(40);
        var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.PretrainAsync(new JsonObject { ["learningRate"] = 1e30, ["trainer"] = "pytorch" }));
        Assert.Equal(FailureKind.Data, error.Kind);
        Assert.Contains("Training stopped at step", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Gaudi_without_its_python_is_one_config_error()
    {
        Assert.SkipWhen(TrainerSettings.NumCards("gaudi") > 0, "SKIPPED: this machine has Gaudi cards.");
        folder.WriteTokens(40);
        var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.PretrainAsync(new JsonObject { ["accelerator"] = "gaudi" }));
        Assert.Equal(FailureKind.Config, error.Kind);
        Assert.Contains("habana_frameworks", error.Message, StringComparison.Ordinal);
        Assert.NotNull(error.Hint);
    }

    [Fact]
    public async Task A_python_that_is_not_there_is_one_config_error()
    {
        folder.WriteTokens(40);
        var before = Environment.GetEnvironmentVariable("FASTDRAFT_PYTHON");
        Environment.SetEnvironmentVariable("FASTDRAFT_PYTHON", Path.Join(folder["nowhere"], "python3"));
        try
        {
            var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.PretrainAsync(new JsonObject { ["trainer"] = "pytorch" }));
            Assert.Equal(FailureKind.Config, error.Kind);
            Assert.Contains("cannot be started", error.Message, StringComparison.Ordinal);
        }
        finally
        {
            Environment.SetEnvironmentVariable("FASTDRAFT_PYTHON", before);
        }
    }

    [Theory]
    [InlineData("torchsharp", "gaudi", null, "does not run on accelerator 'gaudi'")]
    [InlineData("torchsharp", "cpu", 2, "is for trainer 'pytorch'")]
    public async Task Settings_that_contradict_each_other_are_one_config_error(string trainer, string accelerator, int? numProcesses, string reason)
    {
        var error = await Assert.ThrowsAsync<StageFailureException>(() => folder.PretrainAsync(new JsonObject { ["trainer"] = trainer, ["accelerator"] = accelerator, ["numProcesses"] = numProcesses }));
        Assert.Equal(FailureKind.Config, error.Kind);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_node_says_what_it_lacks_for_gaudi()
    {
        Assert.SkipWhen(Directory.Exists("/sys/module/habanalabs"), "SKIPPED: this machine has Gaudi's driver.");
        var root = Path.Join(folder["node"], "");
        Directory.CreateDirectory(root);
        Assert.Equal(4, GaudiNode.Missing(null, root).Count);
        Directory.CreateDirectory(Path.Join(root, "sys/module/habanalabs"));
        Directory.CreateDirectory(Path.Join(root, "dev/accel"));
        File.WriteAllText(Path.Join(root, "dev/accel/accel0"), "");
        Assert.Equal(["hl-smi", "habana_frameworks"], GaudiNode.Missing(null, root).Select(m => m.Split(' ')[0]));
    }

    private async Task<List<double>> PretrainAsync(string output, JsonObject settings)
    {
        settings["numTokens"] = 50 * 8 * 32;
        settings["accumulationSteps"] = 2;
        settings["replayFraction"] = 0.333;
        settings["learningRate"] = 0.002;
        folder.Metrics.Clear();
        await folder.PretrainAsync(settings, output, null, "replayTokens");
        return [.. folder.Values("loss")];
    }

    private (List<double> One, List<double> Other) Taken(string one, string other)
    {
        var taken = (folder.Values(one).ToList(), folder.Values(other).ToList());
        folder.Metrics.Clear();
        return taken;
    }

    private CancellationTokenSource CancelAtStep(long at)
    {
        var cancel = new CancellationTokenSource();
        folder.OnMetric = (_, step) =>
        {
            if (step >= at)
            {
                cancel.Cancel();
            }
        };
        return cancel;
    }

    private JsonObject Meta(string output) => JsonNode.Parse(File.ReadAllText(Path.Join(folder[output], "meta.json")))!.AsObject();

    private void AssertClose(string one, string other, double tolerance)
    {
        using var expected = SafetensorsFolder.Open(folder[one]);
        using var found = SafetensorsFolder.Open(folder[other]);
        Assert.Equal(expected.Tensors.Keys.Order(), found.Tensors.Keys.Order());
        foreach (var (name, entry) in expected.Tensors)
        {
            Assert.Equal(entry.Shape, found.Tensors[name].Shape);
            var (a, b) = (Numbers(expected, entry), Numbers(found, found.Tensors[name]));
            Assert.True(a.Zip(b).Max(p => Math.Abs(p.First - p.Second)) < tolerance, name);
        }
    }

    private static float[] Numbers(SafetensorsFolder weights, SafetensorsEntry entry)
    {
        Assert.Equal("F32", entry.Dtype);
        return MemoryMarshal.Cast<byte, float>(weights.Bytes(entry.Name, 0, (int)entry.Shape.Aggregate(4L, (n, extent) => n * extent))).ToArray();
    }

    /// <summary>The trainer's processes that this one has started.</summary>
    private static List<int> Processes() =>
    [
        .. Directory.EnumerateDirectories("/proc").Select(f => int.TryParse(Path.GetFileName(f), NumberStyles.None, CultureInfo.InvariantCulture, out var id) ? id : 0).Where(id => id > 0 && IsTrainer(id)).Order(),
    ];

    private static bool IsTrainer(int id)
    {
        try
        {
            var parent = int.Parse(File.ReadAllText($"/proc/{id}/stat").Split(") ")[^1].Split(' ')[1], CultureInfo.InvariantCulture);
            return parent == Environment.ProcessId && File.ReadAllText($"/proc/{id}/cmdline").Contains("trainer-pytorch", StringComparison.Ordinal);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
