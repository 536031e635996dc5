using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Definitions;
using FastDraft.Server.Scheduling;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Tests.Scheduling;

/// <summary>A clock that stands where a test puts it.</summary>
internal sealed class StoodClock(DateTimeOffset now) : TimeProvider
{
    public DateTimeOffset Now { get; set; } = now;

    public override DateTimeOffset GetUtcNow() => Now;
}

/// <summary>A data folder with schedules and hosts that only keep those. Its workflow writes a line and ends.</summary>
internal sealed class ScheduleFolder : IAsyncDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-schedules-").FullName;

    private ScheduleFolder(StoodClock clock) => Clock = clock;

    public StoodClock Clock { get; }

    public PipelineStore Store { get; private set; } = null!;

    public DefinitionStore Definitions { get; private set; } = null!;

    public ScheduleStore Schedules => new(Store, Clock);

    public static async Task<ScheduleFolder> CreateAsync(string now, TestDatabase database = TestDatabase.Sqlite)
    {
        var settings = await TestDatabases.NewAsync(database);
        var made = new ScheduleFolder(new StoodClock(Time(now)));
        made.Store = await PipelineStore.OpenAsync(made.folder, settings, TestContext.Current.CancellationToken);
        made.Definitions = new DefinitionStore(made.Store, made.Options());
        return made;
    }

    public Scheduler Host() => new(Store, Options(), Definitions);

    public static DateTimeOffset Time(string text) => DateTimeOffset.Parse(text, System.Globalization.CultureInfo.InvariantCulture, System.Globalization.DateTimeStyles.AssumeUniversal);

    public Task<ScheduleView> AddAsync(string name, string cron, string zone = "UTC", MisfirePolicy misfire = MisfirePolicy.RunOnce) => Schedules.CreateAsync(
        new NewSchedule(name, Workflow(), null, ScheduleKind.Cron, cron, zone, misfire, new Dictionary<string, JsonNode?>()), TestContext.Current.CancellationToken);

    public static WorkflowDefinition Workflow(params JsonObject[] first) => WorkflowDefinition.Parse(Model(first).ToJsonString());

    public static JsonObject Model(params JsonObject[] first)
    {
        var line = new JsonObject
        {
            ["id"] = "line",
            ["type"] = "Elsa.WriteLine",
            ["version"] = 1,
            ["text"] = new JsonObject { ["typeName"] = "String", ["expression"] = new JsonObject { ["type"] = "JavaScript", ["value"] = "'for ' + getInput('scheduledAt')" } },
        };
        return new JsonObject
        {
            ["id"] = "tick-v1",
            ["definitionId"] = "tick",
            ["name"] = "tick",
            ["version"] = 1,
            ["variables"] = new JsonArray(),
            ["inputs"] = new JsonArray(new JsonObject { ["type"] = "String", ["name"] = "scheduledAt" }),
            ["root"] = new JsonObject
            {
                ["id"] = "f",
                ["type"] = "Elsa.Flowchart",
                ["version"] = 1,
                ["variables"] = new JsonArray(),
                ["activities"] = new JsonArray([.. first.Select(JsonNode (a) => a.DeepClone()), line]),
                ["connections"] = new JsonArray([.. first.Select(JsonNode (a) => new JsonObject
                {
                    ["source"] = new JsonObject { ["activity"] = a["id"]!.GetValue<string>(), ["port"] = "Done" }, ["target"] = new JsonObject { ["activity"] = "line", ["port"] = "In" },
                })]),
            },
        };
    }

    /// <summary>The nominal times of a schedule that have a run, in order; each run is checked to be there once.</summary>
    public async Task<List<DateTimeOffset>> RunsAsync(string name)
    {
        await using var db = Store.Open();
        var ticks = await (from t in db.ScheduleTicks join s in db.Schedules on t.ScheduleId equals s.Id where s.Name == name orderby t.NominalAt select t).ToListAsync();
        var runs = await db.Runs.Select(r => r.Id).ToListAsync();
        Assert.Equal(runs.Count, await db.ScheduleTicks.Where(t => t.RunId != null).Select(t => t.RunId).Distinct().CountAsync());
        Assert.All(ticks, t => Assert.True(t.RunId is not { } id || runs.Contains(id)));
        return [.. ticks.Where(t => t.RunId is not null).Select(t => DateTimeOffset.FromUnixTimeMilliseconds(t.NominalAt))];
    }

    public async Task<List<string>> InputsAsync()
    {
        await using var db = Store.Open();
        return await db.Runs.Select(r => r.InputsJson).ToListAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await Store.DisposeAsync();
        Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
        Directory.Delete(folder, recursive: true);
    }

    private PipelineOptions Options() => new() { DataFolder = folder, WorkerFile = "none", Stages = [], Clock = Clock };
}
