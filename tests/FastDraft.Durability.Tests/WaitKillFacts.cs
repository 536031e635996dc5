using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server;
using Microsoft.EntityFrameworkCore;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests;

/// <summary>kill -9 of a host at random instants of a workflow that waits. FASTDRAFT_KILLS=50 makes it the full series; FASTDRAFT_SEED repeats one.</summary>
public sealed class WaitKillFacts(ITestOutputHelper output) : IDisposable
{
    private readonly TestPipeline pipeline = new();

    public void Dispose() => pipeline.Dispose();

    [Fact]
    public async Task Whenever_the_host_is_killed_the_run_ends_with_the_journal_of_the_undisturbed_one()
    {
        var instants = Series.Instants(output.WriteLine);
        await using (var host = await pipeline.StartAsync())
        {
            var child = Sequence(
                Elsa("rest", "Delay", ("timeSpan", Literal("TimeSpan", "00:00:00.100"))),
                Elsa("out", "SetOutput", ("outputName", Literal("String", "answer")), ("outputValue", Script("Object", "getInput('item') * 2"))));
            (child["definitionId"], child["id"], child["name"]) = ("child", "child-v1", "child");
            child["inputs"] = new JsonArray(new JsonObject { ["name"] = "item", ["type"] = "Int32" });
            await host.Definitions.SaveAsync(child, publish: true);
        }

        var began = TimeProvider.System.GetTimestamp();
        var undisturbed = await JournalsAsync(await EndAsync(pipeline.StartHostProcess(Waiting())));
        var took = TimeProvider.System.GetElapsedTime(began);
        output.WriteLine($"undisturbed: {took.TotalSeconds:F1} s with the start of the process, {undisturbed.Sum(j => j.Count)} records in {undisturbed.Count} runs");
        Assert.Equal(4, undisturbed.Count);

        var (killed, runs, wanted) = (0, 0, Series.Length(3));
        while (killed < wanted)
        {
            var before = (await NewestAsync())!.Id;
            var process = pipeline.StartHostProcess(Waiting());
            for (var n = 0; n < 5 && killed < wanted; n++)
            {
                var ended = process.WaitForExitAsync();
                if (await Task.WhenAny(ended, Task.Delay(instants.NextDouble() * took)) == ended)
                {
                    break;
                }

                process.Kill();
                await ended;
                process.Dispose();
                killed++;
                process = pipeline.StartHostProcess((await NewestAsync())!.Id == before ? Waiting() : null);
            }

            runs++;
            Assert.Equal(undisturbed, await JournalsAsync(await EndAsync(process)));
        }

        output.WriteLine($"{killed} hosts killed in {runs} runs, all with the same journal");
        await pipeline.AssertInvariantsAsync();
    }

    /// <summary>A round of a loop, three side by side, three children, an event from the run itself: each with a wait in it.</summary>
    private static JsonObject Waiting()
    {
        var loop = Elsa("loop", "ForEach", ("items", Items()));
        loop["body"] = Elsa("pause", "Delay", ("timeSpan", Literal("TimeSpan", "00:00:00.050")));
        var all = Elsa("all", "ParallelForEach", ("items", Items()));
        all["body"] = Flow(
            [Elsa("stagger", "Delay", ("timeSpan", Script("TimeSpan", "`00:00:00.${getVariable('CurrentValue')}00`"))), Elsa("say", "WriteLine", ("text", Script("String", "'item ' + getVariable('CurrentValue')")))],
            ("stagger", "Done", "say"))["root"]!.DeepClone();
        all["body"]!["id"] = "branch";
        var children = Elsa("children", "ForEach", ("items", Items()));
        children["body"] = Elsa(
            "child", "ExecuteWorkflow", ("workflowDefinitionId", Literal("String", "child")), ("input", Script("ObjectDictionary", "({ item: getVariable('CurrentValue') })")),
            ("waitForCompletion", Literal("Boolean", true)));
        var publish = Flow(
            [Elsa("moment", "Delay", ("timeSpan", Literal("TimeSpan", "00:00:00.100"))), Elsa("publish", "PublishEvent", ("eventName", Literal("String", "go")))],
            ("moment", "Done", "publish"))["root"]!.DeepClone();
        publish["id"] = "publisher";
        return Sequence(
            loop, all, children, Elsa("result", "WriteLine", ("text", Script("String", "'child says ' + getLastResult().output.answer"))),
            Parallel("both", Elsa("event", "Event", ("eventName", Literal("String", "go"))), publish.AsObject()), Elsa("end", "WriteLine", ("text", Literal("String", "end"))));
    }

    private static JsonObject Items() => new() { ["typeName"] = "List<Object>", ["expression"] = new JsonObject { ["type"] = "Object", ["value"] = "[1, 2, 3]" } };

    private async Task<RunView?> NewestAsync()
    {
        await using var store = await PipelineStore.OpenAsync(pipeline.Data);
        return (await store.Queries.ListRunsAsync(1000)).Where(r => r.WorkflowName == "t").MaxBy(r => r.CreatedAt);
    }

    private async Task<Guid> EndAsync(Process process)
    {
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, await process.StandardError.ReadToEndAsync());
        process.Dispose();
        return (await NewestAsync())!.Id;
    }

    /// <summary>The journal of a run and of its children in the order they began; ids of runs and times left out.</summary>
    private async Task<List<List<string>>> JournalsAsync(Guid run)
    {
        await using var store = await PipelineStore.OpenAsync(pipeline.Data);
        await using var db = store.Open();
        var family = await db.Runs.Where(r => r.Id == run || r.ParentRunId == run).OrderBy(r => r.CreatedAt).ToListAsync();
        Assert.All(family, r => Assert.Equal((RunState.Succeeded, null), (r.State, r.Incident)));
        var journals = new List<List<string>>();
        foreach (var id in family.Select(r => r.Id))
        {
            journals.Add(await db.Journal.Where(j => j.RunId == id).OrderBy(j => j.Id).Select(j => $"{j.Sequence} {j.ActivityInstanceId} {j.Event} {j.Text}").ToListAsync());
        }

        Assert.Empty(await db.Waits.ToListAsync());
        return journals;
    }
}
