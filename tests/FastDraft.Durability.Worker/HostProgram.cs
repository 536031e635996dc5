using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Server;
using FastDraft.Server.Dispatch;

namespace FastDraft.Durability.Worker;

/// <summary>A host in a process of its own, to be killed and frozen: submits one workflow and ends with it, or ends what others began.</summary>
public static class HostProgram
{
    public static IReadOnlyList<StageDescriptor> Stages { get; } = [MakeStage.Describe(), CopyStage.Describe(), MeasureStage.Describe(), MisbehaveStage.Describe()];

    private static string LightWorker { get; } = Path.Combine(AppContext.BaseDirectory, "light-worker.sh");

    /// <param name="args">Data folder, workflow file (absent: the runs that are there), seconds of a lease.</param>
    public static async Task<int> RunAsync(string[] args)
    {
        var options = Options(args[0], double.Parse(args[2], CultureInfo.InvariantCulture)) with { Settings = PipelineSettings.FromEnvironment() };
        await using var host = await PipelineHost.StartAsync(options);
        var ids = File.Exists(args[1])
            ? [await host.SubmitAsync(WorkflowDefinition.Parse(await File.ReadAllTextAsync(args[1])), new Dictionary<string, JsonNode?>())]
            : (await host.Queries.ListRunsAsync(1000)).Select(r => r.Id).ToList();
        foreach (var id in ids)
        {
            await foreach (var _ in host.WatchAsync(id))
            {
            }
        }

        return 0;
    }

    /// <summary>Serves until its standard input ends: does what any host put into the tables.</summary>
    /// <param name="args">Data folder, seconds of a lease, stages at once. Its worker is the light one.</param>
    public static async Task<int> ServeAsync(string[] args)
    {
        // What it has to say against its database is looked at.
        Trace.Listeners.Add(new TextWriterTraceListener(Console.Error));
        var options = Options(args[0], double.Parse(args[1], CultureInfo.InvariantCulture)) with
        {
            Settings = PipelineSettings.FromEnvironment(), MaxParallelStages = int.Parse(args[2], CultureInfo.InvariantCulture),
            WorkerFile = "sh", WorkerArguments = [LightWorker],
        };
        await using var host = await PipelineHost.StartAsync(options);
        Console.Out.WriteLine("ready");
        await Console.In.ReadToEndAsync();
        return 0;
    }

    public static PipelineOptions Options(string dataFolder, double leaseSeconds) => new()
    {
        DataFolder = dataFolder,
        WorkerFile = "dotnet",
        WorkerArguments = [typeof(HostProgram).Assembly.Location],
        Stages = Stages,
        Accelerators = ["cpu"],
        Projections = PipelineSettings.ReadProjections(),
        Lease = new LeaseTiming(TimeSpan.FromSeconds(leaseSeconds), TimeSpan.FromSeconds(leaseSeconds / 3), TimeSpan.FromSeconds(leaseSeconds * 25 / 30)),
    };
}
