using FastDraft.Core.Stages;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Projections;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace FastDraft.Server;

public sealed record PipelineOptions
{
    public required string DataFolder { get; init; }

    /// <summary>The servers that the pipeline stands on; by default none.</summary>
    public PipelineSettings Settings { get; init; } = new();

    /// <summary>The worker is started as WorkerFile WorkerArguments... jobfile.json, without a shell.</summary>
    public required string WorkerFile { get; init; }

    public IReadOnlyList<string> WorkerArguments { get; init; } = [];

    public int MaxParallelStages { get; init; } = 1;

    /// <summary>
    /// Stages of these accelerators are done by this host. Null: of a host that works alone all; of one that shares its database with others
    /// none.
    /// </summary>
    public IReadOnlyList<string>? Accelerators { get; init; }

    public required IReadOnlyList<StageDescriptor> Stages { get; init; }

    /// <summary>The files that a path setting denotes; by default the file, or every file under the folder.</summary>
    public Func<string, IReadOnlyList<string>>? ExpandPath { get; init; }

    /// <summary>What computes on this machine, kept with each attempt for the lineage; part of no key.</summary>
    public IReadOnlyDictionary<string, string> Environment { get; init; } = new Dictionary<string, string>();

    /// <summary>(path, folder): the absolute path that a path setting means; by default that path from the folder.</summary>
    public Func<string, string, string>? ResolvePath { get; init; }

    /// <summary>
    /// Makes the check of one run's stages: what is wrong with a stage's settings as far as this machine can tell before it begins.
    /// Made anew for each run, so that it may remember what stages share.
    /// </summary>
    public Func<Func<StageDescriptor, System.Text.Json.Nodes.JsonObject, IReadOnlyList<SettingProblem>>>? NewSettingCheck { get; init; }

    /// <summary>
    /// True: the host takes up every unfinished run of the data folder. False: only runs submitted to it or given to
    /// <see cref="PipelineHost.TakeUp"/>, so that a new run does not wait behind one that was interrupted yesterday.
    /// </summary>
    public bool TakesUpUnfinishedRuns { get; init; } = true;

    /// <summary>Workflow files that ship with the pipeline: they can be run and copied under their id, not changed. Null or absent: none.</summary>
    public string? WorkflowFolder { get; init; }

    /// <summary>Where what happens is shown outside.</summary>
    public ProjectionOptions Projections { get; init; } = ProjectionOptions.None;

    /// <summary>Where the host says what it does; by default nowhere.</summary>
    public ILoggerFactory Loggers { get; init; } = NullLoggerFactory.Instance;

    internal LeaseTiming Lease { get; init; } = LeaseTiming.Default;

    public TimeProvider Clock { get; init; } = TimeProvider.System;
}
