using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Server;
using FastDraft.Storage;
using FastDraft.Storage.FileSystem;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

public abstract class CacheFacts(TestDatabase database) : IDisposable
{
    private readonly TestPipeline pipeline = new(database);

    public void Dispose()
    {
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task Every_declared_input_changed_in_turn_misses_and_place_and_time_do_not()
    {
        var (here, there) = (pipeline.PathOf("here/text"), pipeline.PathOf("there/text"));
        Write(here, "content");
        Write(there, "content");
        await using var host = await pipeline.StartAsync();
        await FinishAsync(host, MakeAndCopy(source: here));

        Assert.Equal([StageRunState.Cached, StageRunState.Cached], await StatesAsync(MakeAndCopy(source: here)));
        File.SetLastWriteTimeUtc(here, new DateTime(2001, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        Assert.Equal([StageRunState.Cached, StageRunState.Cached], await StatesAsync(MakeAndCopy(source: here)));
        Assert.Equal([StageRunState.Cached, StageRunState.Cached], await StatesAsync(MakeAndCopy(source: there)));

        Assert.Equal([StageRunState.Succeeded, StageRunState.Succeeded], await StatesAsync(MakeAndCopy(number: 2, source: here)));
        Assert.Equal([StageRunState.Cached, StageRunState.Succeeded], await StatesAsync(MakeAndCopy(suffix: "b", source: here)));
        Assert.Equal([StageRunState.Succeeded, StageRunState.Succeeded], await StatesAsync(MakeAndCopy()));

        // The same length, within the same second.
        Write(here, "CONTENT");
        Assert.Equal([StageRunState.Succeeded, StageRunState.Succeeded], await StatesAsync(MakeAndCopy(source: here)));
        Write(here, "Content");
        Assert.Equal([StageRunState.Succeeded, StageRunState.Succeeded], await StatesAsync(MakeAndCopy(source: here)));

        async Task<IEnumerable<StageRunState>> StatesAsync(System.Text.Json.Nodes.JsonObject workflow) => (await FinishAsync(host, workflow)).Stages.Select(s => s.State);
    }

    [Fact]
    public async Task An_input_that_changes_while_the_stage_runs_fails_it()
    {
        var (source, gate) = (pipeline.PathOf("source"), pipeline.PathOf("gate"));
        Write(source, "before");
        await using var host = await pipeline.StartAsync();
        var id = await SubmitAsync(host, MakeAndCopy(source: source, waitFor: gate));
        await LineAsync(host.Store, id, "waiting");
        Write(source, "after!");
        Write(gate, "");
        var run = await WaitAsync(host, id);
        Assert.Equal((RunState.Failed, (int?)Core.Stages.ExitCode.Data), (run.State, run.Stages[0].Attempts[0].ExitCode));
        Assert.Contains("changed while the stage ran", run.Stages[0].Failure!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_damaged_artifact_is_found_evicted_and_made_again()
    {
        await using var host = await pipeline.StartAsync();
        var first = await FinishAsync(host, MakeAndCopy());
        var digest = Digest.Parse(first.Stages[0].Outputs[0].Digest);
        Assert.Empty(await host.Store.Artifacts.VerifyAsync(digest, VerifyDepth.Full, CancellationToken.None));
        var file = Assert.Single((await host.Store.Artifacts.ManifestAsync(digest, CancellationToken.None)).Files);
        var blob = Assert.IsType<FileSystemArtifactStore>(host.Store.Artifacts).BlobPath(file.Digest);
        var bytes = await File.ReadAllBytesAsync(blob);
        bytes[0] ^= 1;
        File.Delete(blob);
        await File.WriteAllBytesAsync(blob, bytes);
        Assert.Contains("'n.txt' is damaged", Assert.Single(await host.Store.Artifacts.VerifyAsync(digest, VerifyDepth.Full, CancellationToken.None)).Message, StringComparison.Ordinal);

        var second = await FinishAsync(host, MakeAndCopy());
        Assert.Equal([StageRunState.Succeeded, StageRunState.Cached], second.Stages.Select(s => s.State));
        Assert.Contains("damaged", second.Stages[0].MissReasonsJson!, StringComparison.Ordinal);
        Assert.Equal(digest.ToString(), second.Stages[0].Outputs[0].Digest);
        await pipeline.AssertInvariantsAsync();
    }

    [Fact]
    public async Task Two_equal_stage_runs_at_once_compute_once()
    {
        var gate = pipeline.PathOf("gate");
        await using var host = await PipelineHost.StartAsync(pipeline.Options() with { MaxParallelStages = 2 });
        await using var other = await pipeline.StartAsync();
        var first = await SubmitAsync(host, MakeAndCopy(waitFor: gate));
        await LineAsync(host.Store, first, "waiting");
        var second = await SubmitAsync(other, MakeAndCopy(waitFor: gate));
        await UntilAsync(async () => (await other.Queries.GetRunAsync(second))!.Stages is [{ State: StageRunState.Queued }, ..], "the second is queued");
        Write(gate, "");
        var runs = new[] { await WaitAsync(host, first), await WaitAsync(other, second) };
        Assert.Equal([StageRunState.Succeeded, StageRunState.Cached], runs.Select(r => r.Stages[0].State));
        Assert.Equal(first, runs[1].Stages[0].CachedFromRunId);
        await pipeline.AssertInvariantsAsync();
    }

    private static void Write(string path, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }
}

public sealed class SqliteCacheFacts() : CacheFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlCacheFacts() : CacheFacts(TestDatabase.PostgreSql);
