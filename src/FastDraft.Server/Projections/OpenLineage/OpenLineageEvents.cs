using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Persistence;

namespace FastDraft.Server.Projections.OpenLineage;

/// <summary>
/// Outbox events as OpenLineage run events, 2-0-2 of its schema. A stage run is a run of the job <c>WORKFLOW.ACTIVITY</c> whose parent is
/// the run; datasets are artifacts, named by digest. The same event gives the same text every time, so a receiver that gets it twice can
/// tell by run, type and time.
/// </summary>
internal static class OpenLineageEvents
{
    public const string Namespace = "fastdraft";
    private const string SchemaUrl = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
    private const string Facets = "https://openlineage.io/spec/facets/";

    /// <summary>Of our own facets; the schemas are in <c>docs/openlineage</c> under these names.</summary>
    public const string CustomSchemas = "urn:fastdraft:openlineage:1-0-0:";

    private static readonly string Producer = "urn:fastdraft:" + (typeof(OpenLineageEvents).Assembly.GetName().Version?.ToString(3) ?? "0");

    /// <summary>Usually one; a stage run that was answered without an attempt starts and completes in one event; none where nothing is to be told.</summary>
    public static IReadOnlyList<JsonObject> Of(OutboxEventRow told, ToldRun of) => told.Kind switch
    {
        OutboxEventKind.StageStarted => of.Attempts is [var first, ..] && first.Id == told.AttemptId ? [Event("START", told.At, of)] : [],
        OutboxEventKind.StageCached => [Event("START", told.At, of), Event("COMPLETE", told.At, of)],
        OutboxEventKind.StageEnded when of.Attempts.Count > 0 => [Event(Ending(of), told.At, of)],

        // Failed while it was prepared, or skipped. One that was cancelled before it began was never a run.
        OutboxEventKind.StageEnded when of.StageRun!.State != StageRunState.Cancelled => [Event("START", told.At, of), Event(Ending(of), told.At, of)],
        OutboxEventKind.RunBegun => [RunEvent("START", told.At, of.Run)],
        OutboxEventKind.RunEnded => [RunEvent(of.Run.State switch { RunState.Succeeded => "COMPLETE", RunState.Cancelled => "ABORT", _ => "FAIL" }, told.At, of.Run)],
        _ => [],
    };

    private static string Ending(ToldRun of) => of.Succeeded ? "COMPLETE" : of.StageRun!.State == StageRunState.Cancelled ? "ABORT" : "FAIL";

    private static JsonObject Event(string type, long at, ToldRun of)
    {
        var stage = of.StageRun!;
        var isEnd = type != "START";
        var facets = new JsonObject
        {
            ["parent"] = Facet(Facets + "1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet", new JsonObject
            {
                ["run"] = new JsonObject { ["runId"] = of.Run.Id.ToString() },
                ["job"] = Job(of.Run.WorkflowName),
                ["root"] = new JsonObject { ["run"] = new JsonObject { ["runId"] = of.Run.Id.ToString() }, ["job"] = Job(of.Run.WorkflowName) },
            }),
            ["fastDraft_stage"] = Facet(CustomSchemas + "StageRunFacet", new JsonObject
            {
                ["stage"] = stage.Stage, ["version"] = stage.StageVersion, ["settings"] = JsonNode.Parse(stage.SettingsJson), ["key"] = stage.KeyDigest,
                ["attempts"] = isEnd ? of.Attempts.Count : null, ["cachedFromRun"] = stage.CachedFromRunId?.ToString(),
                ["definition"] = of.Run.DefinitionDigest,
            }),
        };
        if (type == "FAIL")
        {
            facets["errorMessage"] = Error(stage.Failure ?? (of.Attempts is [.., var last] ? last.Failure : null) ?? "It failed without a word.");
        }

        return new JsonObject
        {
            ["eventType"] = type,
            ["eventTime"] = Time(at),
            ["producer"] = Producer,
            ["schemaURL"] = SchemaUrl,
            ["run"] = new JsonObject { ["runId"] = stage.Id.ToString(), ["facets"] = facets },
            ["job"] = Job($"{of.Run.WorkflowName}.{stage.ActivityId}", "STAGE"),
            ["inputs"] = new JsonArray([.. of.Inputs.Select(p => Dataset(p, of, isOutput: false))]),
            ["outputs"] = new JsonArray([.. (isEnd ? of.Outputs : []).Select(p => Dataset(p, of, isOutput: true))]),
        };
    }

    private static JsonObject RunEvent(string type, long at, RunRow run)
    {
        var facets = new JsonObject
        {
            ["fastDraft_run"] = Facet(CustomSchemas + "RunFacet", new JsonObject
            {
                ["definition"] = run.DefinitionDigest, ["definitionId"] = run.DefinitionId, ["version"] = run.DefinitionVersion, ["inputs"] = JsonNode.Parse(run.InputsJson),
            }),
        };
        if (type == "FAIL")
        {
            facets["errorMessage"] = Error(run.Incident ?? "A stage failed.");
        }

        return new JsonObject
        {
            ["eventType"] = type,
            ["eventTime"] = Time(at),
            ["producer"] = Producer,
            ["schemaURL"] = SchemaUrl,
            ["run"] = new JsonObject { ["runId"] = run.Id.ToString(), ["facets"] = facets },
            ["job"] = Job(run.WorkflowName, "WORKFLOW"),
            ["inputs"] = new JsonArray(),
            ["outputs"] = new JsonArray(),
        };
    }

    private static JsonObject Dataset(StageRunPortRow port, ToldRun of, bool isOutput)
    {
        var dataset = new JsonObject
        {
            ["namespace"] = Namespace,
            ["name"] = port.Digest,
            ["facets"] = new JsonObject
            {
                ["version"] = Facet(Facets + "1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet", new JsonObject { ["datasetVersion"] = port.Digest }),
                ["fastDraft_artifact"] = Facet(CustomSchemas + "ArtifactDatasetFacet", new JsonObject { ["kind"] = port.Kind, ["port"] = port.Port, ["external"] = port.External }),
            },
        };
        if (isOutput && of.Artifacts.TryGetValue(port.Digest, out var artifact))
        {
            dataset["outputFacets"] = new JsonObject
            {
                ["outputStatistics"] = Facet(
                    Facets + "1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet",
                    new JsonObject { ["size"] = artifact.SizeBytes, ["fileCount"] = artifact.NumFiles }),
            };
        }

        return dataset;
    }

    private static JsonObject Job(string name, string? type = null)
    {
        var job = new JsonObject { ["namespace"] = Namespace, ["name"] = name };
        if (type is not null)
        {
            job["facets"] = new JsonObject
            {
                ["jobType"] = Facet(Facets + "2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet", new JsonObject { ["processingType"] = "BATCH", ["integration"] = "FASTDRAFT", ["jobType"] = type }),
            };
        }

        return job;
    }

    private static JsonObject Error(string message) =>
        Facet(Facets + "1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet", new JsonObject { ["message"] = message, ["programmingLanguage"] = "C#" });

    private static JsonObject Facet(string schema, JsonObject content)
    {
        var facet = new JsonObject { ["_producer"] = Producer, ["_schemaURL"] = schema };
        foreach (var (name, value) in content.Where(p => p.Value is not null))
        {
            facet[name] = value!.DeepClone();
        }

        return facet;
    }

    private static string Time(long at) => DateTimeOffset.FromUnixTimeMilliseconds(at).ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", System.Globalization.CultureInfo.InvariantCulture);
}
